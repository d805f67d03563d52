"""What a commit still has, what it lost by which rule, and until when that is promised to be taken back."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casckpt.errors import (
    CasckptError,
    CommitDropped,
    CommitThinned,
    FormatError,
    IntegrityError,
    NotFetched,
    PartNotFetched,
)
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, short_id
from casckpt.odb.database import Database
from casckpt.plan.transfer import ABSENT
from casckpt.units import rfc3339

if TYPE_CHECKING:
    from casckpt.ops.load import Loader

_SHOWN_MAX = 8
_PATTERNS_MAX = 1000
_FREED = "some or all of that was freed since, so undo is promised no more"
_BACK = "casckpt undo takes it back (casckpt undo --list has its number); "
_UNKNOWN = "nobody knows when, as the retention policy cannot be read"


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a commit that was dropped or thinned."""

    lost: tuple[str, ...] | None
    """Names of the components that it lost; None for all."""
    rule: str
    time_ns: int
    """When that was recorded."""
    until_ns: int | None
    """Until when undo is promised to take it back; None if it is not, or the kept policy cannot be read."""
    is_freed: bool
    """Whether some or all of what it lost is gone for good."""
    select: tuple[str, ...]
    """The patterns that give what is left; the first 1 000 of them."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "lost": None if self.lost is None else list(self.lost),
            "rule": self.rule,
            "time": rfc3339(self.time_ns),
            "undo_until": None if self.until_ns is None else rfc3339(self.until_ns),
            "freed": self.is_freed,
            "select": list(self.select),
        }


def remains(database: Database, identity: CommitId) -> Remains | None:
    """What is left of a commit; None of one that lost nothing.

    Cost: reads its root and the kept policies, and looks up every object that it had.
    """
    drop = database.drop(identity)
    if drop is None:
        return None
    # Most commits lost nothing, and `show`, which asks about each, starts fast.
    from casckpt.ops.kept_policy import kept_policies
    from casckpt.ops.load import Loader
    from casckpt.ops.reach import Reach

    until_ns = None
    commit = database.commit(identity)
    is_freed = commit is None or not Reach(database).is_whole(identity, commit)
    if not is_freed:
        with suppress(CasckptError):  # what was lost is said all the same
            until_ns = drop.time_ns + kept_policies(database).grace_ns("" if commit is None else commit.run)
    patterns: list[str] = []
    if drop.parts is not None and commit is not None:
        with suppress(IntegrityError, FormatError):
            for pattern in _entries(Loader(database, identity, commit), drop.parts):
                patterns.append(pattern)
                if len(patterns) == _PATTERNS_MAX:
                    break
    return Remains(drop.parts, drop.rule, drop.time_ns, until_ns, is_freed, tuple(patterns))


def lost_parts(database: Database, identity: CommitId) -> tuple[str, ...]:
    """The components that a commit that was not dropped has lost, and that can be had nowhere else."""
    return database.lacking(identity) or ()


def _entries(loader: Loader, lost: tuple[str, ...]) -> Iterator[str]:
    """What the root of a state says lies in it, but for what is lost; components first where there are any."""
    (name, identity), *others = loader.tree().components
    yield from (part for part, _ in others if part not in lost)
    seen = ""
    for leaf in loader.component(name, identity).leaves():
        first = leaf.path.partition("/")[0]
        if leaf.kind != "part" and first and first != seen:
            seen = first
            yield first


def refusal(database: Database, identity: CommitId, drop: Drop) -> CommitDropped | CommitThinned:
    """The error for who asks for what a commit lost."""
    found = remains(database, identity)
    assert found is not None, "there is a record of what it lost"
    until = None if found.is_freed else _UNKNOWN if found.until_ns is None else rfc3339(found.until_ns)
    facts = {"commit": short_id(identity), "rule": drop.rule, "when": rfc3339(drop.time_ns), "until": until}
    facts |= (
        {"undo": _FREED, "back": ""} if found.is_freed else {"undo": f"undo is promised until {until}", "back": _BACK}
    )
    if drop.parts is None:
        return (NotFetched if drop.rule == ABSENT else CommitDropped)(**facts)
    shown = [f"--select {shlex.quote(pattern)}" for pattern in found.select[:_SHOWN_MAX]]
    more = ["and more (casckpt ls)"] if len(found.select) > _SHOWN_MAX else []
    words = " ".join([*shown, *more]) or "nothing"
    kind = PartNotFetched if drop.rule == ABSENT else CommitThinned
    return kind(parts=", ".join(drop.parts), select=list(found.select), left=words, **facts)
