"""What of a history goes to a remote: which commits are new there, and what is known of those that lost something.

    refs that are pushed, refs of the remote -> commits that none of its refs leads to -> objects, and records of drops

A commit that the remote's refs lead to is there as whole as its records of drops say, so that nothing below it needs a
look. One that is new goes as it is here: whole, thinned or as a name with parents; what it lacks goes as a record.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from casckpt.format.canonical import encode
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId
from casckpt.plan.graph import Lookup

ABSENT = "not here"
"""The rule in the record of a commit that no rule dropped: its content was not pushed, or not fetched."""
PACK_BYTES = 32 << 20
"""A pack that is pushed ends at the first object at or after this."""
METADATA_PACK_BYTES = 8 << 20
"""Commits, trees and what they are made of go into packs of their own, so that a history is read without chunks."""
SEGMENT_ROWS = 1 << 17
"""Objects that one index segment lists at most when it is pushed."""
_OURS, _THEIRS = 1, 2


class Fresh(NamedTuple):
    """A commit that goes to a remote, and its record of what it lost, None if it goes whole."""

    id: CommitId
    commit: Commit
    drop: Drop | None


def fresh(ours: Iterable[CommitId], theirs: Iterable[CommitId], lookup: Lookup) -> list[tuple[CommitId, Commit]]:
    """The commits that ours lead to and theirs do not, newest first.

    Args:
        theirs: those that are not known here lead to nothing.

    Cost: the walk ends where the lines have joined, however long the history before is.
    """
    heap: list[tuple[int, CommitId, Commit]] = []
    sides: dict[CommitId, int] = {}
    seen: set[CommitId] = set()
    found: list[tuple[CommitId, Commit]] = []

    def push(identity: CommitId, side: int) -> int:
        """By how much the number of commits in the heap that only ours lead to changes."""
        if identity in sides:
            old, sides[identity] = sides[identity], sides[identity] | side
            return (sides[identity] == _OURS) - (old == _OURS)
        commit = None if identity in seen else lookup(identity)
        seen.add(identity)
        if commit is None:
            return 0
        heapq.heappush(heap, (-commit.time_ns, identity, commit))
        sides[identity] = side
        return int(side == _OURS)

    count = sum(push(identity, _OURS) for identity in ours) + sum(push(identity, _THEIRS) for identity in theirs)
    while count:
        _, identity, commit = heapq.heappop(heap)
        side = sides.pop(identity)
        if side == _OURS:
            count -= 1
            found.append((identity, commit))
        for parent in commit.parents:
            count += push(parent, side)
    return found


def merged_drops(remote: Iterable[Drop], sent: Mapping[CommitId, Drop | None]) -> tuple[Drop, ...]:
    """The records of a remote after a push, in their order.

    Args:
        sent: of each commit that was sent, what it lacks; None for one that is whole, whose record goes.
    """
    kept = {drop.commit: drop for drop in remote if drop.commit not in sent}
    kept.update((identity, drop) for identity, drop in sent.items() if drop is not None)
    return tuple(sorted(kept.values(), key=lambda drop: encode(drop[:4])))


def packs_for(nbytes: int, limit: int = PACK_BYTES) -> int:
    """About how many packs so many stored bytes make."""
    return -(-nbytes // limit)
