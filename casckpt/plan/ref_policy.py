"""What becomes of the refs of a remote when somebody pushes others: pure functions of both sides and the history.

    ff      a ref goes on to what descends from it; a tag never moves
    lease   a ref moves anywhere from the one place where it is said to be
    newest  of both the newer, in an order that agrees with ancestry; what loses is kept as `conflicts/<ref>/<12 hex>`

`newest` is a join: commutative, associative and idempotent, so that machines which push in any order, each as often as
it likes, end at the same refs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from casckpt.format.ids import CommitId
from casckpt.plan.names import head_ref, run_of

POLICIES = ("ff", "lease", "newest")
CONFLICTS = "conflicts/"
Refs = Mapping[str, CommitId]
Leads = Callable[[CommitId, CommitId], bool]
"""Whether the first commit is the second, or an ancestor of it."""
Order = Callable[[str, CommitId], tuple[object, ...]]
"""What is compared of a commit that a ref may name: the greater wins. Of `last`, time and id: a commit is later than
its parents, so that a descendant is always greater."""


class Refused(NamedTuple):
    """A ref that cannot move, where it is and where it was to go."""

    ref: str
    theirs: CommitId | None
    ours: CommitId
    expected: CommitId | None = None
    others: int = 0
    """How many more cannot."""


def fast_forward(ours: Refs, theirs: Refs, leads: Leads) -> dict[str, CommitId] | Refused:
    """The refs that move when ours are pushed; or one that cannot, the `last` of a run if that is among them.

    Heads of a run go along with its `last`: what they name on the remote must be known to the history that is pushed.
    What is ahead there stays as it is.
    """
    moves: dict[str, CommitId] = {}
    refused: list[Refused] = []
    for name, commit in sorted(ours.items()):
        old = theirs.get(name)
        if old == commit:
            continue
        head = run_of(name)
        if head is not None and head[1] != "last":
            last = head_ref(head[0], "last")
            tip = ours.get(last, commit)
            there = theirs.get(last)
            if there is not None and there != tip and leads(tip, there):
                continue
            fits = old is None or leads(old, tip)
        elif head is None:
            fits = old is None
        else:
            if old is not None and leads(commit, old):
                continue
            fits = old is None or leads(old, commit)
        if fits:
            moves[name] = commit
        else:
            refused.append(Refused(name, old, commit))
    if not refused:
        return moves
    lasts = (one for one in refused if (head := run_of(one.ref)) is not None and head[1] == "last")
    return next(lasts, refused[0])._replace(others=len(refused) - 1)


def with_lease(ours: Refs, theirs: Refs, expected: Mapping[str, CommitId | None]) -> dict[str, CommitId] | Refused:
    """The refs that move when ours are pushed, or the first that is not where it is expected to be.

    Args:
        expected: where refs are, None for absent. Refs that it does not name move with those that it does.
    """
    for name, commit in sorted(ours.items()):
        if name in expected and theirs.get(name) not in (expected[name], commit):
            return Refused(name, theirs.get(name), commit, expected[name])
    return {name: commit for name, commit in ours.items() if theirs.get(name) != commit}


def joined(one: Refs, other: Refs, order: Order, leads: Leads) -> dict[str, CommitId]:
    """The refs of two sides as one: of each the greater, and beside them every loser that nothing else leads to."""
    winners: dict[str, CommitId] = {}
    losers: dict[str, set[CommitId]] = {}
    for name, commit in [*one.items(), *other.items()]:
        if name.startswith(CONFLICTS):
            losers.setdefault(name[len(CONFLICTS) :].rpartition("/")[0], set()).add(commit)
            continue
        known = winners.get(name)
        if known is None:
            winners[name] = commit
        elif known != commit:
            greater, less = (known, commit) if order(name, known) > order(name, commit) else (commit, known)
            winners[name] = greater
            losers.setdefault(name, set()).add(less)
    found = dict(winners)
    pools: dict[str, set[CommitId]] = {}
    for name, lost in losers.items():
        pools.setdefault(_family(name), set()).update(lost)
    for family, pool in pools.items():
        heads = [commit for name, commit in winners.items() if _family(name) == family]
        for commit in _greatest(pool, heads, leads):
            found[conflict_ref(family, commit)] = commit
    return found


def conflict_ref(name: str, commit: CommitId) -> str:
    """The ref that keeps what lost a ref; one for all heads of a run, as its `last` leads to most of them."""
    head = run_of(name)
    return f"{CONFLICTS}{name if head is None else head_ref(head[0], 'last')}/{commit.hex()[:12]}"


def _family(name: str) -> str:
    """The ref that stands for all that a ref is a head of."""
    head = run_of(name)
    return name if head is None else head_ref(head[0], "last")


def _greatest(pool: set[CommitId], heads: Sequence[CommitId], leads: Leads) -> set[CommitId]:
    """Those of a pool that lead neither to a head nor to another of the pool."""
    return {
        one
        for one in pool
        if not any(leads(one, head) for head in heads) and not any(leads(one, other) for other in pool if other != one)
    }
