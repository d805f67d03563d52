"""Walking history: commits by their parents. Iterative, so that no chain is too long, and safe against cycles."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId

Lookup = Callable[[CommitId], Commit | None]

LEFT, RIGHT, BOTH = 1, 2, 3


def ancestors(starts: Iterable[CommitId], lookup: Lookup) -> Iterator[tuple[CommitId, Commit]]:
    """Commits reachable through parents, newest first; each once. Parents the store does not have are skipped.

    Order: by time, then by id; no commit comes before one of its children, since times grow along parents.
    """
    heap: list[tuple[int, bytes, CommitId, Commit]] = []
    seen: set[CommitId] = set()

    def push(identity: CommitId) -> None:
        commit = None if identity in seen else lookup(identity)
        seen.add(identity)
        if commit is not None:
            heapq.heappush(heap, (-commit.time_ns, identity, identity, commit))

    for start in starts:
        push(start)
    while heap:
        _, _, identity, commit = heapq.heappop(heap)
        yield identity, commit
        for parent in commit.parents:
            push(parent)


def between(
    left: CommitId, right: CommitId, lookup: Lookup, *, symmetric: bool = False
) -> Iterator[tuple[CommitId, Commit, bool]]:
    """The ancestors of `right` that are not of `left`, newest first; with `symmetric` those of either but not of both.

    They come with True. Among them come, with False, the commits outside that the walk meets.

    Cost: the walk ends where the two lines have joined, however long the history before is.
    """
    wanted = (LEFT, RIGHT) if symmetric else (RIGHT,)
    return ((identity, commit, side in wanted) for identity, commit, side in _sided(left, right, lookup, wanted))


def newest_common(left: CommitId, right: CommitId, lookup: Lookup) -> CommitId | None:
    """The newest commit that is an ancestor of both or one of them itself, None if they have nothing in common."""
    walk = _sided(left, right, lookup, (LEFT, RIGHT, BOTH))
    return next((identity for identity, _, side in walk if side == BOTH), None)


def _sided(
    left: CommitId, right: CommitId, lookup: Lookup, wanted: tuple[int, ...]
) -> Iterator[tuple[CommitId, Commit, int]]:
    """Ancestors of both, newest first, with the sides they are reached from, until no wanted one can follow.

    A commit comes after all its children, so its sides are complete when it comes. Parents of a commit that is not
    wanted are not either, unless all are.
    """
    heap: list[tuple[int, CommitId, Commit]] = []
    seen: set[CommitId] = set()
    waiting: dict[CommitId, int] = {}
    """The sides of the commits in the heap."""

    def push(identity: CommitId, side: int) -> int:
        """By how much the number of wanted commits in the heap changes."""
        if identity in waiting:
            old, waiting[identity] = waiting[identity], waiting[identity] | side
            return (waiting[identity] in wanted) - (old in wanted)
        commit = None if identity in seen else lookup(identity)
        seen.add(identity)
        if commit is None:
            return 0
        heapq.heappush(heap, (-commit.time_ns, identity, commit))
        waiting[identity] = side
        return int(side in wanted)

    count = push(left, LEFT) + push(right, RIGHT)
    while count:
        _, identity, commit = heapq.heappop(heap)
        side = waiting.pop(identity)
        count -= side in wanted
        yield identity, commit, side
        for parent in commit.parents:
            count += push(parent, side)


def leads(one: CommitId, other: CommitId, lookup: Lookup) -> bool:
    """Whether a commit is another or an ancestor of it. Cost: the walk ends at the time of the first."""
    commit = lookup(one)
    if commit is None or one == other:
        return one == other
    for identity, found in ancestors([other], lookup):
        if identity == one or found.time_ns < commit.time_ns:
            return identity == one
    return False


def nth_ancestor(start: CommitId, count: int, lookup: Lookup) -> CommitId | None:
    """The ancestor `count` steps back along first parents, None if the line ends before."""
    identity = start
    for _ in range(count):
        commit = lookup(identity)
        if commit is None or not commit.parents:
            return None
        identity = commit.parents[0]
    return identity
