"""What dropping and forgetting return: which commits lost what, which were spared, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from casckpt.ops.values import CommitInfo
from casckpt.plan.decision import Decision, Plan
from casckpt.units import rfc3339


class Spared(NamedTuple):
    """A commit that a filter wants and that stays all the same."""

    commit: CommitInfo
    reasons: tuple[str, ...]
    """What holds it, in words: `last of gpt`, `tag v1`, `pinned`."""

    def to_dict(self) -> dict[str, Any]:
        return {"commit": self.commit.to_dict(), "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True)
class DropReport:
    """What a drop did, or would do."""

    dropped: tuple[CommitInfo, ...]
    """The commits that lost something by it, newest first, as they are now or would be."""
    already: tuple[str, ...]
    """Ids of those that had lost that before."""
    spared: tuple[Spared, ...]
    """Those that a filter wants and that a name or a pin holds, newest first."""
    rule: str
    parts: tuple[str, ...] | None
    """Patterns of the components they lost; None for all."""
    left: int
    """How many commits wait for another call, as one operation takes no more."""
    operation: int | None
    """Its number, by which it can be taken back; None if nothing was written down."""
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "dropped": [commit.to_dict() for commit in self.dropped],
            "already": list(self.already),
            "spared": [one.to_dict() for one in self.spared],
            "rule": self.rule,
            "parts": None if self.parts is None else list(self.parts),
            "left": self.left,
            "operation": self.operation,
            "dry_run": self.dry_run,
        }


class Fate(NamedTuple):
    """What a policy says of a commit, and which one that is."""

    decision: Decision
    step: int | None
    time_ns: int

    def to_dict(self) -> dict[str, Any]:
        return {**self.decision.to_dict(), "step": self.step, "time": rfc3339(self.time_ns)}


@dataclass(frozen=True, slots=True)
class RetainReport:
    """What a policy says of every commit; what it lets go was dropped, unless this was a dry run."""

    plan: Plan
    fates: tuple[Fate, ...]
    """Run by run, newest first."""
    left: int
    """How many commits wait for another call, as one operation takes no more."""
    operation: int | None
    """Its number, by which it can be taken back; None if nothing was written down."""
    dry_run: bool

    @property
    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """How many commits are kept, dropped and thinned, by the rules that say so; a commit may have several."""
        return {
            "kept": self.plan.counts,
            "dropped": dict(Counter(one.by.rule for one in self.plan.dropped if one.by is not None)),
            "thinned": dict(Counter(rule for one in self.plan.thinned for rule in {w.rule for w in one.wanted})),
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "commits": [fate.to_dict() for fate in self.fates],
            "kept": len(self.plan.kept),
            "dropped": len(self.plan.dropped),
            "thinned": len(self.plan.thinned),
            "counts": {what: dict(by_rule) for what, by_rule in self.counts.items()},
            "notices": [notice._asdict() for notice in self.plan.notices],
            "left": self.left,
            "operation": self.operation,
            "dry_run": self.dry_run,
        }


class HeadMove(NamedTuple):
    """A ref that named a forgotten commit, and the commit it names now; None if it is gone."""

    ref: str
    now: str | None

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True, slots=True)
class Purge:
    """What removing the bytes of forgotten commits did, or would do."""

    journal_files: int = 0
    """Older files of the journal that went: changes of names before can no more be looked up or taken back."""
    journal_bytes: int = 0
    packs_removed: int = 0
    packs_written: int = 0
    """New packs, which hold what of those is needed by others."""
    freed: int = 0
    """Bytes by which the store is shorter, the journal included; in a dry run, of the files that go."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What a forget did, or would do."""

    forgotten: tuple[CommitInfo, ...]
    """The commits, newest first, as they were."""
    runs: tuple[str, ...]
    """Runs that are known no more."""
    refs: tuple[HeadMove, ...]
    """Every ref that named one of the commits."""
    pins: tuple[str, ...]
    """Ids of those that were pinned."""
    children: int
    """How many commits stay whose parent is forgotten."""
    purge: Purge
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "forgotten": [commit.to_dict() for commit in self.forgotten],
            "runs": list(self.runs),
            "refs": [move.to_dict() for move in self.refs],
            "pins": list(self.pins),
            "children": self.children,
            "purge": self.purge.to_dict(),
            "dry_run": self.dry_run,
        }
