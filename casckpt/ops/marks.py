"""Which commits let go of what, in which order, and what the store needs for all others.

drop records, graces -> losses in the order in which they end -> what commits reach -> ids that must stay
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from casckpt.errors import LostFrames
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.odb.database import Database
from casckpt.ops.reach import Loss, Reach
from casckpt.plan.id_sets import among
from casckpt.plan.reclaim import STAYS, Holder, Reached, reached


class Leaving(NamedTuple):
    """A commit that was dropped or thinned, and when what it lost may be freed."""

    id: CommitId
    commit: Commit
    drop: Drop
    final_ns: int
    """From then on its grace is over; nanoseconds since 1970, UTC."""


class Marks(NamedTuple):
    """What a store needed at one moment.

    `leaving` starts with those whose grace is over, `ended` of them, and each of both parts is ordered by when it ends.
    The number of a commit in it is its rank in `reached`.
    """

    commits: frozenset[CommitId]
    leaving: tuple[Leaving, ...]
    ended: int
    reached: Reached

    @property
    def needed(self) -> Ids:
        """What must stay, ascending."""
        return self.reached.needed(self.ended)


def leaving(database: Database, grace_ns: Callable[[str], int]) -> list[Leaving]:
    """All commits that were dropped or thinned, in the order in which their graces end.

    Args:
        grace_ns: of a run, by its name.
    """
    graces: dict[str, int] = {}
    found: list[Leaving] = []
    for identity, drop in database.drops().items():
        commit = database.commit(identity)
        if commit is not None:
            if commit.run not in graces:
                graces[commit.run] = grace_ns(commit.run)
            found.append(Leaving(identity, commit, drop, drop.time_ns + graces[commit.run]))
    return ordered(found)


def ordered(found: Iterable[Leaving]) -> list[Leaving]:
    """Commits that leave, in the order in which their graces end."""
    return sorted(found, key=lambda one: (one.final_ns, one.commit.time_ns, one.id))


def mark(reach: Reach, database: Database, leaves: Sequence[Leaving], is_over: Callable[[Leaving], bool]) -> Marks:
    """What the store needs at this moment, as the database knows it.

    Args:
        reach: of the same database; it reads only what it has not seen.
        leaves: from `leaving`, or with others that do not leave yet; a commit may lose something more than once.
        is_over: whether the grace of one of them is over.

    Raises:
        UnreadableCommit: an object on the way to a commit's state is damaged.
        LostFrames: the journal is damaged, and with it commits may be lost that need anything.
    """
    if database.gaps():
        raise LostFrames
    commits = list(database.commits())
    over = [one for one in leaves if is_over(one)]
    line = (*over, *(one for one in leaves if not is_over(one)))
    losses: dict[CommitId, list[Loss]] = {}
    for rank, one in enumerate(line):
        losses.setdefault(one.id, []).append(Loss(rank, one.drop.parts, is_final=rank < len(over)))
    ids = frozenset(identity for identity, _ in commits)
    # Commits themselves stay: their place in history does not depend on what is left of their state.
    holders = [Holder(prefixes(b"".join(ids)), STAYS, STAYS), *reach.holders(commits, losses)]
    return Marks(ids, line, len(over), reached(holders))


def needed_since(marks: Marks, reach: Reach, database: Database) -> Ids:
    """What is needed now and was not needed by `marks`, ascending: by commits made since, and drops taken back.

    Errors as for `mark`. Cost: grows with what is new; 5 ms for 10 000 commits that are not.
    """
    if database.gaps():
        raise LostFrames
    now = database.drops()
    changed = [one.id for one in marks.leaving[: marks.ended] if now.get(one.id) != one.drop]
    fresh = [*(database.commit_ids() - marks.commits), *changed]
    commits = [(identity, commit) for identity in fresh if (commit := database.commit(identity)) is not None]
    losses = {
        identity: (Loss(0, drop.parts, is_final=False),)
        for identity in fresh
        if (drop := now.get(identity)) is not None
    }
    own = prefixes(b"".join(identity for identity, _ in commits))
    found = reached([Holder(own, STAYS, STAYS), *reach.holders(commits, losses)])
    return found.ids[~among(found.ids, marks.needed)] if len(found.ids) else found.ids
