"""Which leaves share memory: the connected components of "a byte of one is a byte of the other".

Nearly always no two leaves meet, so one sort by address and one sweep settle a cluster of views whose ranges overlap.
Only clusters with a gappy view (`x[::2]`) are looked at pair by pair, since overlapping ranges then prove nothing.
Joining too much is safe, it only stores the gaps; so every bound below errs to that side. Bounds count work, not
time: the same layout gives the same groups everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from casckpt.state.leaves import Form, View
from casckpt.state.memory import window

if TYPE_CHECKING:
    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Numbers = np.ndarray[Any, np.dtype[np.int64]]

Cluster = tuple[tuple[int, int], ...]
"""Numbers of views, two or more, and where each begins from the first byte of all; by that byte, then by number."""

_PAIRS_MAX = 200_000
"""Pairs of one cluster looked at, 1 to 2 us each. Beyond, overlapping ranges count as shared."""

_WORK_MAX = 1_000
"""Candidate solutions `np.shares_memory` may try for one pair; strides seen in practice need a handful."""


class Ranges:
    """Where views lie, from the addresses of their first elements: columns for each space, and the lazy ones."""

    def __init__(self, forms: Sequence[Form]) -> None:
        import numpy as np

        self._forms = forms
        self._lazy: list[int] = []
        spaces: dict[str, list[int]] = {}
        for index, form in enumerate(forms):
            if form.lazy:
                self._lazy.append(index)
            elif form.high > form.low:
                spaces.setdefault(form.space, []).append(index)
        self._spaces = [
            (
                np.array(members, np.int64),
                np.array([forms[index].low for index in members], np.int64),
                np.array([forms[index].high for index in members], np.int64),
            )
            for members in spaces.values()
        ]

    def clusters(self, addresses: Sequence[int]) -> tuple[Cluster, ...]:
        """The views whose ranges meet, in the one order that does not depend on where they lie.

        Cost: O(n log n) time, 0.1 us per view.
        """
        import numpy as np

        found = list(self._lazy_clusters(addresses))
        column = np.array(addresses, np.int64)
        for members, low, high in self._spaces:
            lows, highs = column[members] + low, column[members] + high
            order = np.argsort(lows, kind="stable")
            lows, ends = lows[order], np.maximum.accumulate(highs[order])
            meets = np.flatnonzero(lows[1:] < ends[:-1]).tolist()
            cluster: list[int] = []
            for place in meets:
                if not cluster or cluster[-1] != place:
                    found += self._cluster(cluster, members[order], lows, addresses)
                    cluster = [place]
                cluster.append(place + 1)
            found += self._cluster(cluster, members[order], lows, addresses)
        return tuple(sorted(found))

    def _cluster(self, places: list[int], members: Numbers, lows: Numbers, addresses: Sequence[int]) -> list[Cluster]:
        if not places:
            return []
        base = int(lows[places[0]])
        return [tuple((int(members[place]), addresses[int(members[place])] - base) for place in places)]

    def _lazy_clusters(self, addresses: Sequence[int]) -> Iterator[Cluster]:
        # A lazy view's values are not in memory, so only its exact like can be the same blob.
        same: dict[object, list[int]] = {}
        for index in self._lazy:
            form = self._forms[index]
            if form.high > form.low:
                alike = form.space, form.shape, form.strides, form.itemsize, form.element
                same.setdefault((addresses[index], alike), []).append(index)
        return (tuple((index, 0) for index in members) for members in same.values() if len(members) > 1)


def groups(cluster: list[View]) -> Iterator[list[View]]:
    """The views of one cluster in groups that share memory, in no particular order; every view is in exactly one."""
    if cluster[0].form.lazy or not any(view.form.gappy for view in cluster):
        yield cluster
    else:
        yield from _refined(cluster)


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
            gaps = view.form.gappy or distinct[other].form.gappy
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
    kept = [(n, t) for n, t in zip(view.form.shape, view.form.strides, strict=True) if n > 1 and t]
    shape, strides = [n for n, _ in kept], [t for _, t in kept]
    # Only the addresses are compared, so nothing need be kept alive; they begin at 0, which numpy takes for no memory.
    return window(None, view.address + 1, [*shape, view.form.itemsize], [*strides, 1], "|u1")


def _touch(one: Bytes, other: Bytes) -> bool:
    import numpy as np

    try:
        return np.shares_memory(one, other, max_work=_WORK_MAX)  # type: ignore[arg-type]  # its stub knows 0 and -1 only
    except np.exceptions.TooHardError:
        return True
