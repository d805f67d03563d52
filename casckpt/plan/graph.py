"""Walking history: commits by their parents. Iterative, so that no chain is too long, and safe against cycles."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId

Lookup = Callable[[CommitId], Commit | None]


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


def nth_ancestor(start: CommitId, count: int, lookup: Lookup) -> CommitId | None:
    """The ancestor `count` steps back along first parents, None if the line ends before."""
    identity = start
    for _ in range(count):
        commit = lookup(identity)
        if commit is None or not commit.parents:
            return None
        identity = commit.parents[0]
    return identity
