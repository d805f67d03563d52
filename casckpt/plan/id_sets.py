"""Sets of ids by their first 8 bytes, millions of them: ascending columns, and where ids are in one.

    unsorted ids -> sort, drop what repeats -> ascending column -> table of where each leading bit pattern starts

Ids are hashes, so their leading bits spread them evenly: a table by these, about as long as the column, leads to where
an id must be in one step, where a binary search takes twenty, most of them into memory that no cache holds. Sorting
what is looked up, so that a binary search is fast too, costs three times as much as looking it up this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from casckpt.format.pack_columns import Ids

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Positions = npt.NDArray[np.uint32]
_Number = TypeVar("_Number", bound=np.generic)

_BLOCK = 1 << 16
"""Ids that are looked up at once: their temporary columns fit a cache."""
_STEPS = 32
"""Steps from where a bit pattern starts. Ids that somebody made up may share theirs; those are searched for."""


def union(parts: Sequence[Ids]) -> Ids:
    """All ids of some columns, each once, ascending. Cost: O(n log n), about 0.03 s for a million."""
    return distinct(np.concatenate(parts) if parts else np.empty(0, np.uint64))


def distinct(column: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """What is in a column, each once, ascending; the column itself is sorted."""
    column.sort()
    is_first = np.ones(len(column), np.bool_)
    np.not_equal(column[1:], column[:-1], out=is_first[1:])
    return column if is_first.all() else column[is_first]


def nearly_ordered(ids: Ids) -> tuple[Positions, Flags]:
    """Places of ids in the order of their leading bits, and which of them share these with a neighbour.

    Leading bits and place fit one number, and numbers are sorted in a sixth of the time that it takes to sort places
    by ids. Of ids that nobody made up few share them: with ten million, 40 bits are left, and about a hundred do.
    """
    low = np.uint64((1 << len(ids).bit_length()) - 1)
    keys = ids & ~low
    for block in blocks(len(ids)):
        keys[block] |= np.arange(block.start, block.stop, dtype=np.uint64)
    keys.sort()
    crowded = np.zeros(len(ids), np.bool_)
    np.less_equal(keys[1:] ^ keys[:-1], low, out=crowded[1:])
    crowded[:-1] |= crowded[1:]
    keys &= low
    return keys.astype(np.uint32), crowded


def among(ids: Ids, ascending: Ids) -> Flags:
    """For each id whether it is in a column; for few ids, or such as ascend."""
    if not len(ascending):
        return np.zeros(len(ids), np.bool_)
    at = np.searchsorted(ascending, ids)
    at[at == len(ascending)] = 0
    found: Flags = ascending[at] == ids
    return found


class Places:
    """Where ids are in a column. Memory: 8 bytes for each of its ids, and 8 MB while looking."""

    def __init__(self, ascending: Ids) -> None:
        """Take a column of ids that ascend, each once, fewer than 2^32."""
        self._ids = ascending
        # More patterns than ids: most of those that are looked for are where their pattern starts.
        bits = max(len(ascending).bit_length(), 1)
        self._shift = np.uint64(64 - bits)
        self._starts = np.zeros((1 << bits) + 1, np.uint32)
        for block in blocks(len(ascending)):
            patterns = (ascending[block] >> self._shift).view(np.int64)
            counts = np.bincount(patterns - patterns[0])
            self._starts[patterns[0] + 1 : patterns[0] + 1 + len(counts)] += counts.astype(np.uint32)
        np.cumsum(self._starts, out=self._starts)

    def find(self, ids: Ids) -> Positions:
        """The place of each id; of what is not there, the one behind the last."""
        found = np.zeros(len(ids), np.uint32)
        if len(self._ids):
            for block in blocks(len(ids)):
                found[block] = self._find(ids[block])
        return found

    def _find(self, ids: Ids) -> Positions:
        last = len(self._ids) - 1
        at = self._starts.take((ids >> self._shift).view(np.int64))
        values = self._ids.take(at, mode="clip")  # what would be behind the last is compared with the last
        behind = np.flatnonzero(values < ids)
        for _ in range(_STEPS):
            if not len(behind):
                break
            at[behind] += np.uint32(1)
            values[behind] = self._ids.take(at[behind], mode="clip")
            behind = behind[(values[behind] < ids[behind]) & (at[behind] < last)]
        if len(behind):
            at[behind] = np.searchsorted(self._ids, ids[behind])
            values[behind] = self._ids.take(at[behind], mode="clip")
        at[values != ids] = len(self._ids)
        return at


def blocks(count: int) -> Iterator[slice]:
    """Parts of a long column for work whose temporary columns should fit a cache, and take no fresh memory."""
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


def batches(counts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, end) of neighbours that have about a block of ids together, by how many each has."""
    first = end = held = 0
    for end, count in enumerate(counts, 1):
        held += count
        if held >= _BLOCK:
            yield first, end
            first, held = end, 0
    if first < end:
        yield first, end
