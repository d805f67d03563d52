from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from casckpt.format.widening import elements
from casckpt.ops.measures import BLOCK, Sums, measure

DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", ">f4", "<c8", "<c16")


def found(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> Sums:
    old, new = elements(before.dtype.str), elements(after.dtype.str)
    assert old is not None
    assert new is not None
    return measure(before.tobytes(), after.tobytes(), old, new)


def check(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> None:
    """Compare with the same measures in the widest floats, straight from their definitions."""
    sums = found(before, after)
    wide = np.clongdouble if before.dtype.kind == "c" else np.longdouble
    same = before.dtype == after.dtype
    a, b = (before, after) if same else (before.astype(float), after.astype(float))
    assert sums.count == len(a)
    assert sums.changed == sum(1 for x, y in zip(a, b, strict=True) if not (x == y or both_nan(x, y)))
    for side, nan, inf in ((before, sums.nan_before, sums.inf_before), (after, sums.nan_after, sums.inf_after)):
        assert nan == np.count_nonzero(np.isnan(side))
        assert inf == np.count_nonzero(np.isinf(side) & ~np.isnan(side))
    kept = np.isfinite(a) & np.isfinite(b)
    old, new = ((side[kept].astype(float) if wide is np.longdouble else side[kept]).astype(wide) for side in (a, b))
    length = np.sqrt(np.sum(np.abs(old) ** 2))
    change = np.sqrt(np.sum(np.abs(new - old) ** 2))
    assert sums.l2 == pytest.approx(float(change), rel=1e-9)
    assert sums.largest == pytest.approx(float(np.max(np.abs(new - old), initial=0)), rel=1e-9)
    assert sums.relative == pytest.approx(0 if not change else math.inf if not length else float(change / length))
    other = np.sqrt(np.sum(np.abs(new) ** 2))
    if not length or not other:
        assert sums.cosine is None
    else:
        product = np.sum((old / length * (new / other).conj()).real)
        assert sums.cosine == pytest.approx(float(product), abs=1e-9)


def both_nan(x: Any, y: Any) -> bool:
    """Whether both numbers are NaN; of complex ones, whether each part is the same or NaN on both sides."""
    pairs = ((x.real, y.real), (x.imag, y.imag))
    return all(p == q or (np.isnan(p) and np.isnan(q)) for p, q in pairs)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    size = draw(st.integers(0, 30))
    before = draw(arrays.arrays(dtype, size))
    if draw(st.booleans()):
        return before, draw(arrays.arrays(dtype, size))
    after = before.copy()
    if size:
        after[draw(st.integers(0, size - 1))] = draw(arrays.from_dtype(dtype))
    return before, after


# Bounds within which neither a difference nor a sum leaves float64: beyond it a measure is infinite.
@given(pairs())
def test_every_measure_is_that_of_its_definition(pair: tuple[Any, Any]) -> None:
    before, after = pair
    if before.dtype.kind in "fc" and before.dtype.itemsize >= 8 * (1 + (before.dtype.kind == "c")):
        before, after = (np.where(np.abs(side) > 1e300, 1e300, side).astype(before.dtype) for side in pair)
    with np.errstate(all="ignore"):
        check(before, after)


@given(
    st.lists(st.floats(width=32), max_size=20),
    st.sampled_from(["<f2", "<f4", "<f8", "<i4"]),
    st.sampled_from(DTYPES[:13]),
)
def test_numbers_of_two_types_are_compared_as_float64(numbers: list[float], one: str, other: str) -> None:
    with np.errstate(all="ignore"):
        exact = np.array(numbers, float)
        check(exact.astype(one), exact.astype(one).astype(other))


@pytest.mark.parametrize("parts", [1, 2])
def test_blocks_add_up(parts: int) -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal((2 * BLOCK + 77) * parts).astype("<f4")
    after = before + rng.standard_normal(len(before)).astype("<f4") * 0.1
    after[BLOCK + 5] = np.nan
    if parts == 2:
        before, after = before.view("<c8"), after.view("<c8")
    sums = found(before, after)
    kept = np.isfinite(after)
    assert sums.l2 == pytest.approx(np.linalg.norm((after - before)[kept].astype("c16")), rel=1e-6)
    assert (sums.nan_after, sums.count) == (1, len(before))


def test_integers_that_float64_cannot_tell_apart_differ() -> None:
    before = np.array([2**60, 2**60, 7])
    sums = found(before, np.array([2**60 + 1, 2**60, 7]))
    assert (sums.changed, sums.largest) == (1, 0.0)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_numbers_whose_squares_leave_float64_are_measured(scale: float) -> None:
    before = np.array([3.0, 4.0]) * scale
    sums = found(before, before * 2)
    assert sums.l2 == pytest.approx(5 * scale)
    assert (sums.relative, sums.cosine) == (pytest.approx(1), pytest.approx(1))


def test_numbers_at_both_ends_of_float64_are_infinitely_far_apart() -> None:
    most = np.array([np.finfo(float).max])
    assert (found(-most, most).largest, found(-most, most).l2) == (math.inf, math.inf)
