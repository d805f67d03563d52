from __future__ import annotations

import numpy as np
import pytest
import torch

from casckpt.format.elements import ELEMENTS
from casckpt.format.widening import elements

FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float16")


@pytest.mark.parametrize("name", FLOATS)
def test_every_pattern_of_a_short_float_has_the_value_torch_gives_it(name: str) -> None:
    dtype = getattr(torch, name)
    patterns = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    expected = torch.from_numpy(patterns.view(f"i{dtype.itemsize}")).view(dtype).to(torch.float64).numpy()
    form = elements(name)
    assert form is not None
    assert (form.itemsize, form.parts, form.is_exact) == (dtype.itemsize, 1, False)
    with np.errstate(invalid="ignore"):  # NaN of the signaling kind
        np.testing.assert_array_equal(form.read(patterns.tobytes()).astype(float), expected)


@pytest.mark.parametrize("name", [name for name, _ in ELEMENTS if name != "bytes"])
def test_every_element_type_has_its_width_and_can_be_read(name: str) -> None:
    form = elements(name)
    assert form is not None
    assert form.itemsize == dict(ELEMENTS)[name]
    assert form.read(bytes(3 * form.itemsize)).size == 3 * form.parts


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("<f4", [1.5, -2]), (">i2", [258, -1]), ("|u1", [0, 255]), (">c8", [1 + 2j, 3j]), ("<f8", [1])],
)
def test_dtypes_of_arrays_are_read_in_their_byte_order(text: str, numbers: list[complex]) -> None:
    data = np.array(numbers, text)
    form = elements(text)
    assert form is not None
    assert form.read(data.tobytes()).tolist() == data.view(data.real.dtype).tolist()


def test_a_type_is_the_same_as_tensor_and_as_array() -> None:
    assert elements("<f4") == elements("float32")
    assert elements("ml_dtypes.bfloat16") == elements("bfloat16")


def test_every_bool_but_zero_is_true() -> None:
    form = elements("bool")
    assert form is not None
    assert form.read(b"\x00\x01\x02").tolist() == [False, True, True]


@pytest.mark.parametrize(
    "name", ["", "bytes", "<U3", "<M8[ns]", "|O", "<f16", "<c32", "|b2", "<i16", "{}", "<f1", "|V2"]
)
def test_what_is_no_number_has_no_elements(name: str) -> None:
    assert elements(name) is None
