"""A commit names exactly those leaves that hold NaN or infinities, wherever they lie and whatever is stored already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import casckpt

FLOATS = ("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128")
EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
OTHERS = ("bool", "uint8", "int16", "int32", "int64")
PATTERNS = (
    bytes(16),
    bytes.fromhex("007c") * 8,
    bytes.fromhex("0000807f") * 4,
    b"\x01" * 16,
    bytes(6) + b"\xf0\x7f" * 5,
)
"""Zeros; infinities of float16, of float32 and bfloat16, which others read as numbers; small numbers; a mixture."""
SIZES = st.integers(1, 4) | st.integers(1, 4000) | st.sampled_from([16_384, 16_400, 70_000, 131_072, 200_000])
"""In words of 16 bytes: tiny leaves, those that are joined into groups, and large ones of one chunk and of several."""


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Tensors of few different contents, so that many chunks are known, some from another element type."""
    name = draw(st.sampled_from((*FLOATS, *EIGHT_BITS, *OTHERS)))
    count = draw(SIZES)
    raw = bytearray(draw(st.sampled_from(PATTERNS if name != "bool" else PATTERNS[::3])) * count)
    for at in draw(st.lists(st.integers(0, count - 1), max_size=2)):
        raw[at * 16 : at * 16 + 16] = b"\xff" * 16 if name != "bool" else b"\x01" * 16
    return torch.frombuffer(raw, dtype=torch.uint8).view(getattr(torch, name))


def is_finite(tensor: torch.Tensor) -> bool:
    """As torch sees it."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())


def holds(value: Any) -> bool:
    """Whether a leaf is to be named."""
    if isinstance(value, torch.Tensor):
        return not is_finite(value)
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc" and not np.isfinite(value).all()


def as_array(tensor: torch.Tensor) -> Any:
    try:
        return tensor.numpy()
    except TypeError:  # a dtype that numpy does not have
        return tensor


LEAVES = tensors() | tensors().map(as_array) | st.sampled_from([float("nan"), [float("inf")] * 70, "nan", 7])
PARTS = st.dictionaries(st.sampled_from("abcdefgh"), LEAVES, min_size=1, max_size=8)


@pytest.fixture(scope="module")
def used() -> Iterator[casckpt.Store]:
    """A store that many states were committed to before."""
    with casckpt.memory() as store:
        yield store


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    state=st.dictionaries(st.sampled_from(["model", "optimizer", "z"]), PARTS, min_size=1),
    tied=st.booleans(),
    compress=st.sampled_from(["off", "always", "auto"]),
)
def test_exactly_the_leaves_with_nan_are_named(
    used: casckpt.Store, state: dict[str, dict[str, Any]], tied: bool, compress: Any
) -> None:
    if tied:
        state["tied"] = dict(next(iter(state.values())))
    wanted = sorted(f"{part}/{name}" for part, inner in state.items() for name, leaf in inner.items() if holds(leaf))
    with casckpt.memory() as fresh:
        for store in (fresh, used, used):
            info = store.commit(state, compress=compress, kind="recovery", metrics={"loss": 1}, best="loss:min")
            for found in (info, store.show(info.id)):
                assert (found.nonfinite, list(found.nonfinite_paths)) == (len(wanted), wanted[:8])
            assert ("recovery" in info.refs) == (not wanted)
        assert [one.id for one in fresh.log(where="nonfinite")] == [info.id for info in fresh.log() if wanted]
