"""Which leaves share memory: the connected components of "a byte of one is a byte of the other".

Nearly always no two leaves meet, so one sort by address and one sweep settle a cluster of views whose ranges overlap.
Only clusters with a gappy view (`x[::2]`) are looked at pair by pair, since overlapping ranges then prove nothing.
Joining too much is safe, it only stores the gaps; so every bound below errs to that side. Bounds count work, not
time: the same layout gives the same groups everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from casckpt.state.leaves import View
from casckpt.state.memory import window

if TYPE_CHECKING:
    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_PAIRS_MAX = 200_000
"""Pairs of one cluster looked at, 1 to 2 us each. Beyond, overlapping ranges count as shared."""

_WORK_MAX = 1_000
"""Candidate solutions `np.shares_memory` may try for one pair; strides seen in practice need a handful."""


def share(views: Sequence[View]) -> Iterator[list[View]]:
    """The views in groups, in no particular order; every view is in exactly one.

    Cost: O(n log n) time without gappy views.
    """
    spaces: dict[object, list[View]] = {}
    for view in views:
        # A lazy view's values are not in memory, so only its exact like can be the same blob.
        spaces.setdefault((view.identity, view.element) if view.lazy else view.space, []).append(view)
    for members in spaces.values():
        if members[0].lazy:
            yield members
            continue
        members.sort(key=attrgetter("low"))
        for cluster in _clusters(members):
            if len(cluster) == 1 or not any(view.gappy for view in cluster):
                yield cluster
            else:
                yield from _refined(cluster)


def _clusters(views: list[View]) -> Iterator[list[View]]:
    """Views in order of `low`, cut where no range reaches across."""
    cluster: list[View] = []
    end = 0
    for view in views:
        if cluster and view.low >= end:
            yield cluster
            cluster = []
        cluster.append(view)
        end = max(end, view.high)
    if cluster:
        yield cluster


def _refined(cluster: list[View]) -> Iterator[list[View]]:
    """Views that share bytes, told from views whose ranges merely overlap."""
    same: dict[object, list[View]] = {}
    for view in cluster:
        same.setdefault(view.identity, []).append(view)
    distinct = [members[0] for members in same.values()]
    group = list(range(len(distinct)))  # a forest: the parent of each, roots are their own

    def root(number: int) -> int:
        while group[number] != number:
            group[number] = group[group[number]]
            number = group[number]
        return number

    arrays = [_byte_array(view) for view in distinct]
    active: list[int] = []
    compared = 0
    for number, view in enumerate(distinct):
        active = [other for other in active if distinct[other].high > view.low]
        compared += len(active)
        exact = compared <= _PAIRS_MAX
        for other in active:
            mine, theirs = root(number), root(other)
            gaps = view.gappy or distinct[other].gappy
            if mine != theirs and not (exact and gaps and not _touch(arrays[number], arrays[other])):
                group[mine] = theirs
        active.append(number)
        if not exact:  # all active ones are joined, so the one that reaches farthest stands for them
            active = [max(active, key=lambda other: distinct[other].high)]
    joined: dict[int, list[View]] = {}
    for number, members in enumerate(same.values()):
        joined.setdefault(root(number), []).extend(members)
    yield from joined.values()


def _byte_array(view: View) -> Bytes:
    """An array of exactly the bytes of a CPU view, without the dimensions that add none."""
    kept = [(n, t) for n, t in zip(view.shape, view.strides, strict=True) if n > 1 and t]
    shape, strides = [n for n, _ in kept], [t for _, t in kept]
    return window(view.owner, view.address, [*shape, view.itemsize], [*strides, 1], "|u1")


def _touch(one: Bytes, other: Bytes) -> bool:
    import numpy as np

    try:
        return np.shares_memory(one, other, max_work=_WORK_MAX)  # type: ignore[arg-type]  # its stub knows 0 and -1 only
    except np.exceptions.TooHardError:
        return True
