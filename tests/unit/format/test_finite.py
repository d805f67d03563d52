"""Finite or not: as numpy and torch say it, float by float."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format.elements import ELEMENTS, element_code
from casckpt.format.finite import is_finite

TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "complex32": torch.float16,
    "complex64": torch.float32,
    "complex128": torch.float64,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
    "float8_e8m0fnu": torch.float8_e8m0fnu,
}
"""The type of the floats in each element type of floats."""

SMALL = [name for name, dtype in TORCH.items() if dtype.itemsize <= 2]
WIDE = [name for name in TORCH if name not in SMALL]


def told(data: bytes, name: str) -> list[bool]:
    """What torch says of every whole float."""
    width = TORCH[name].itemsize
    if len(data) < width:
        return []
    words = np.frombuffer(data, np.uint8, len(data) // width * width).copy()
    return torch.isfinite(torch.from_numpy(words).view(TORCH[name]).to(torch.float64)).tolist()


@pytest.mark.parametrize("name", SMALL)
def test_every_pattern_of_small_floats_is_told(name: str) -> None:
    width = TORCH[name].itemsize
    words = np.arange(1 << 8 * width, dtype=np.uint32).astype(f"<u{width}")
    expected = told(words.tobytes(), name)
    assert [is_finite(word.tobytes(), element_code(name)) for word in words] == expected
    assert True in expected and False in expected


@pytest.mark.parametrize("name", WIDE)
@settings(max_examples=150)
@given(st.data())
def test_wide_floats_are_told(name: str, data: st.DataObject) -> None:
    width = TORCH[name].itemsize
    bits, exponent = 8 * width, {4: 0xFF << 23, 8: 0x7FF << 52}[width]
    special = [pattern + step for pattern in (exponent, exponent | 1 << bits - 1) for step in (-1, 0, 1)]
    patterns = st.sampled_from([*special, 0, 1, 1 << bits - 1, (1 << bits) - 1, (1 << bits - 1) - 1])
    words = data.draw(st.lists(patterns | st.integers(0, (1 << bits) - 1), max_size=20))
    plain = b"".join(word.to_bytes(width, "little") for word in words)
    tail = data.draw(st.binary(max_size=width - 1))
    assert is_finite(plain + tail, element_code(name)) is all(told(plain, name))


@pytest.mark.parametrize("name", TORCH)
@settings(max_examples=40)
@given(at=st.integers(0, 999), before=st.integers(0, 3), pattern=st.sampled_from([b"\xff", b"\x7f", b"\x80"]))
def test_one_float_among_many_is_seen_at_any_address(name: str, at: int, before: int, pattern: bytes) -> None:
    width = TORCH[name].itemsize
    data = bytearray(before + 1000 * width)
    view = memoryview(data)[before:]
    assert is_finite(view, element_code(name)) is True
    view[at * width : (at + 1) * width] = (b"\0" if pattern == b"\x80" else b"\xff") * (width - 1) + pattern
    assert is_finite(view, element_code(name)) is all(told(bytes(view), name))


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_numpy_agrees(name: str) -> None:
    for value in (0.0, -0.0, np.finfo(name).max, np.finfo(name).min, np.finfo(name).smallest_subnormal):
        assert is_finite(np.full(9, value, name).tobytes(), element_code(name)) is True
    for value in (np.inf, -np.inf, np.nan, -np.nan):
        words = np.zeros(9, name)
        words[4] = value
        assert is_finite(words.tobytes(), element_code(name)) is bool(np.isfinite(words).all()) is False


def test_a_tail_does_not_count() -> None:
    assert is_finite(bytes(4) + b"\xff\xff\xff", element_code("float32")) is True
    assert is_finite(b"\xff", element_code("bfloat16")) is True
    assert is_finite(b"", element_code("float8_e4m3fnuz")) is True


@pytest.mark.parametrize("name", [name for name, _ in ELEMENTS if name not in TORCH])
def test_what_holds_no_floats_is_neither(name: str) -> None:
    assert is_finite(b"\xff" * 16, element_code(name)) is None
    assert is_finite(b"\xff" * 16, 200) is None
