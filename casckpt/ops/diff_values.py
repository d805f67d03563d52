"""The numbers of changed leaves against each other, read in pieces by several threads.

    pair of leaves -> pieces, cut where chunks end -> those of other ids read -> sums of squares -> measures

Leaves of equal ids never come here. Of a leaf that did, the parts in chunks of equal ids are read only for the lengths
of the whole, so only if they are few: a tenth of what differs. So all that is read is at most 1.1 times what is in
chunks that the two do not share, and a leaf of which one chunk changed has no relative measures unless `exact`.

Of a leaf that grew or shrank along one axis the part that both have is compared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from casckpt.odb.workers import Workers
from casckpt.ops.element_runs import Pair, Piece, numbers, overlapping
from casckpt.ops.measures import Sums, measure
from casckpt.ops.stored_leaves import Chunks, StoredLeaf
from casckpt.ops.value_reports import GroupChange, Measures, Overlap, ValueChange
from casckpt.ops.values import Progress, counted

TASK_PIECES = 8
INLINE_BYTES = 1 << 20
"""Leaves up to this size share chunks with others and are measured at once, while these are at hand."""
SAME_TO_DIFFERING = 10


@dataclass(slots=True)
class _Measured:
    """A pair of leaves, what is to be read of it, and what is known so far."""

    path: str
    change: str
    pair: Pair
    pieces: list[Piece]
    whole: bool
    overlap: Overlap | None = None
    sums: Sums = field(default_factory=Sums)


class ValueComparison:
    """Takes in pairs of leaves one after the other, then measures them."""

    def __init__(self, chunks: Chunks, *, exact: bool) -> None:
        self._chunks = chunks
        self._exact = exact
        self._measured: list[_Measured] = []
        self.unmeasured: list[str] = []

    def add(self, path: str, change: str, before: StoredLeaf, after: StoredLeaf) -> str:
        """Take in two leaves that differ, and say how: small ones are measured at once.

        Returns:
            `change`, or what it is in terms of numbers: recast, reshaped, resized.
        """
        old, new = numbers(before), numbers(after)
        if old is None or new is None:
            if before.info.node is not None and after.info.node is not None:
                self.unmeasured.append(path)
            return change
        overlap: Overlap | None = None
        if old.count != new.count:
            change, found = "resized", overlapping(old, new)
            if found is None:
                return change
            old, new, overlap = found
        elif old.shape != new.shape:
            change = "reshaped"
        elif old.form != new.form:
            change = "recast"
        pair = Pair(old, new, self._chunks)
        if old.form.parts != new.form.parts or not pair.is_readable:
            self.unmeasured.append(path)
            return change
        one = self._planned(path, change, pair)
        one.overlap = overlap
        self._measured.append(one)
        if pair.is_gathered or max(old.nbytes, new.nbytes) <= INLINE_BYTES:
            one.sums += _measure(pair, one.pieces)
            one.pieces = []
            pair.release()
        return change

    def _planned(self, path: str, change: str, pair: Pair) -> _Measured:
        pieces = list(pair.pieces())
        same = sum(piece.cost for piece in pieces if piece.same)
        differing = sum(piece.cost for piece in pieces if not piece.same)
        if self._exact or same * SAME_TO_DIFFERING <= differing:
            return _Measured(path, change, pair, pieces, whole=True)
        skipped = sum(piece.stop - piece.first for piece in pieces if piece.same)
        differing_pieces = [one for one in pieces if not one.same]
        return _Measured(path, change, pair, differing_pieces, whole=False, sums=Sums(count=skipped))

    def run(self, threads: int, progress: Progress | None) -> None:
        """Measure what was not measured yet.

        Args:
            progress: called with the plain bytes done and in all.

        Raises:
            DamagedLeaf: stored bytes are wrong or missing.
        """
        waiting = [one for one in self._measured if one.pieces]
        advance = counted(progress, sum(piece.cost for one in waiting for piece in one.pieces))
        running: deque[tuple[Future[Sums], _Measured, list[Piece]]] = deque()

        def take_oldest() -> None:
            future, one, pieces = running.popleft()
            one.sums += future.result()
            advance(sum(piece.cost for piece in pieces))

        with Workers[Sums](threads, "casckpt-diff") as workers:
            for one, pieces in _tasks(waiting):
                running.append((workers.submit(partial(_measure, one.pair, pieces)), one, pieces))
                if len(running) > 2 * threads:
                    take_oldest()
            while running:
                take_oldest()

    @property
    def compared(self) -> int:
        """How many pairs were measured."""
        return len(self._measured)

    def leaves(self, text: Callable[[StoredLeaf], str], top: int | None) -> Iterator[ValueChange]:
        """The measures of the `top` leaves that differ most, None: all, the largest relative change first.

        Those without one follow, by the length of their difference.
        """
        for one in sorted(self._measured, key=_rank)[:top]:
            before, after = text(one.pair.before.leaf), text(one.pair.after.leaf)
            yield ValueChange(one.path, one.change, before, after, _measures(one.sums, one.whole), one.overlap)

    def groups(self, equal: Iterable[str], depth: int) -> Iterator[GroupChange]:
        """The measures of leaves whose paths have the first `depth` elements in common.

        Args:
            equal: paths of the leaves that are equal.
        """
        found: dict[str, list[_Measured]] = {}
        for one in self._measured:
            found.setdefault(_prefix(one.path, depth), []).append(one)
        counts = dict.fromkeys(found, 0)
        for path in equal:
            if (prefix := _prefix(path, depth)) in counts:
                counts[prefix] += 1
        groups = []
        for prefix, members in found.items():
            total = Sums()
            for one in members:
                total += one.sums
            measures = _measures(total, all(one.whole for one in members))
            groups.append(GroupChange(prefix, len(members), counts[prefix], measures))
        yield from sorted(groups, key=lambda group: (*_order(group.measures), group.path))


def _tasks(waiting: list[_Measured]) -> Iterator[tuple[_Measured, list[Piece]]]:
    for one in waiting:
        for start in range(0, len(one.pieces), TASK_PIECES):
            yield one, one.pieces[start : start + TASK_PIECES]


def _measure(pair: Pair, pieces: list[Piece]) -> Sums:
    total = Sums()
    for piece in pieces:
        before, after = pair.read(piece)
        total += measure(before, after, pair.before.form, pair.after.form)
    return total


def _measures(sums: Sums, whole: bool) -> Measures:
    return Measures(
        elements=sums.count,
        l2=sums.l2,
        relative=sums.relative if whole else None,
        largest=sums.largest,
        cosine=sums.cosine if whole else None,
        changed=sums.changed / sums.count if sums.count else 0.0,
        nan_before=sums.nan_before,
        nan_after=sums.nan_after,
        inf_before=sums.inf_before,
        inf_after=sums.inf_after,
        whole=whole,
    )


def _order(measures: Measures) -> tuple[bool, float]:
    value = measures.l2 if measures.relative is None else measures.relative
    return measures.relative is None, -value if not math.isnan(value) else -math.inf


def _rank(one: _Measured) -> tuple[bool, float, str]:
    return (*_order(_measures(one.sums, one.whole)), one.path)


def _prefix(path: str, depth: int) -> str:
    return "/".join(path.split("/")[:depth])
