"""How far two lists of numbers are apart: sums over blocks, put together at the end.

Elements of which one is NaN or infinite count as such and as changed, and are left out of all sums: one of them would
hide what the others say. Sums are kept in the widest float of the machine, blocks are added in float64; only where the
squares of a block leave its range (values beyond 1e150 or below 1e-150) that block is added in the widest float too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from casckpt.format.widening import Elements

BLOCK = 1 << 16
"""Elements that are widened at once: half a megabyte, which stays in the cache of a core."""
_SMALLEST = 1e-250
"""Below this a sum of squares may have lost terms that are no longer normal numbers."""

_Array = np.ndarray[Any, np.dtype[Any]]
_Data = bytes | memoryview
_ZERO = np.longdouble(0)


@dataclass(slots=True)
class Sums:
    """What is known of the differences of some pairs of elements; `+=` takes in those of others."""

    count: int = 0
    """Elements, those of skipped chunks too."""
    changed: int = 0
    largest: float = 0.0
    nan_before: int = 0
    nan_after: int = 0
    inf_before: int = 0
    inf_after: int = 0
    square: np.longdouble = _ZERO
    """Sum of the squares of the differences."""
    before: np.longdouble = _ZERO
    after: np.longdouble = _ZERO
    """Sums of the squares of the elements."""
    product: np.longdouble = _ZERO

    def __iadd__(self, other: Sums) -> Sums:
        for field in fields(self):
            if field.name != "largest":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.largest = max(self.largest, other.largest)
        return self

    @property
    def l2(self) -> float:
        """Length of the difference."""
        return float(np.sqrt(self.square))

    @property
    def relative(self) -> float:
        """Length of the difference by the length before: 0 if both are 0, infinite if only the latter is."""
        if not self.square:
            return 0.0
        return float(np.sqrt(self.square / self.before)) if self.before else math.inf

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between the two; None if one has no direction."""
        if not self.before or not self.after:
            return None
        return min(1.0, max(-1.0, float(self.product / (np.sqrt(self.before) * np.sqrt(self.after)))))


def measure(before: _Data, after: _Data, old: Elements, new: Elements) -> Sums:
    """Compare elements one by one.

    Args:
        before, after: the same count of whole elements; both complex or neither.

    Cost: memory for some blocks of 64 Ki elements.
    """
    total = Sums()
    count = len(before) // old.itemsize
    step = BLOCK // old.parts
    for start in range(0, count, step):
        stop = min(start + step, count)
        a = old.read(memoryview(before)[start * old.itemsize : stop * old.itemsize])
        b = new.read(memoryview(after)[start * new.itemsize : stop * new.itemsize])
        total += _block(a, b, old, new)
    return total


def _block(a: _Array, b: _Array, old: Elements, new: Elements) -> Sums:
    found = Sums(count=len(a) // old.parts)
    if old.name != new.name:
        a, b = _wide(a), _wide(b)
    differs = a != b
    a, b = _wide(a), _wide(b)
    if not (old.is_exact or np.isfinite(a).all()) or not (new.is_exact or np.isfinite(b).all()):
        differs &= ~(np.isnan(a) & np.isnan(b))
        found.nan_before, found.inf_before = _not_finite(a, old.parts)
        found.nan_after, found.inf_after = _not_finite(b, old.parts)
        finite = _by_element(np.isfinite(a) & np.isfinite(b), old.parts).all(axis=1).repeat(old.parts)
        a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    found.changed = int(np.count_nonzero(_by_element(differs, old.parts).any(axis=1) if old.parts > 1 else differs))
    found.before = _dot(a, a)
    if not found.changed:
        found.after = found.product = found.before
        return found
    found.after, found.product = _dot(b, b), _dot(a, b)
    with np.errstate(over="ignore"):  # numbers at both ends of float64: their difference is beyond it
        b = np.subtract(b, a)
    found.square = _dot(b, b)
    lengths = np.hypot(b[0::2], b[1::2]) if old.parts > 1 else np.abs(b, out=b)
    found.largest = float(lengths.max())
    return found


def _wide(numbers: _Array) -> _Array:
    with np.errstate(invalid="ignore"):  # NaN of the signaling kind
        return numbers.astype(np.float64, copy=False)


def _by_element(flags: _Array, parts: int) -> _Array:
    return flags.reshape(-1, parts)


def _not_finite(numbers: _Array, parts: int) -> tuple[int, int]:
    """How many elements are NaN, and how many infinite; a complex one with both is NaN."""
    nan = _by_element(np.isnan(numbers), parts).any(axis=1)
    infinite = _by_element(np.isinf(numbers), parts).any(axis=1)
    return int(np.count_nonzero(nan)), int(np.count_nonzero(infinite & ~nan))


def _dot(x: _Array, y: _Array) -> np.longdouble:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # np.dot would let BLAS threads of its own take part, which wait for the next block at full speed: with a few
        # of our threads at it, a comparison takes three times as long.
        found = float(np.einsum("i,i->", x, y))
    if _SMALLEST < abs(found) < math.inf or not (x.any() and y.any()):
        return np.longdouble(found)
    with np.errstate(under="ignore"):
        return np.longdouble(np.dot(x.astype(np.longdouble), y.astype(np.longdouble)))
