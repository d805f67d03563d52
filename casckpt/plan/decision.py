"""What is known of a commit that may be dropped, and what is decided about it: values, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId
from casckpt.plan.policy import BUCKETS, KEEPS
from casckpt.units import json_number, rfc3339

FOREVER = (1 << 63) - 1
"""`pinned_until` of a pin that does not end."""

RULES = ("head", "unruled", "keep_pins", "keep_tags", "protect_unpushed", *KEEPS)
"""Codes of what keeps a commit, in the order of its reasons: keys of the policy, the refs of a run, and no policy."""

_TEXTS: dict[str, tuple[str, ...]] = {
    "head": ("{heads} of its run",),
    "unruled": ("no policy for this run",),
    "keep_pins": ("pinned", " until {until}"),
    "keep_tags": ("tag {tags}",),
    "protect_unpushed": ("on no remote",),
    "keep_last": ("newest {rank} of {of}",),
    "keep_best": ("best {rank} of {of} by {metric} ({mode}): {value}",),
    "keep_recovery": ("recovery {rank} of {of}",),
    "keep_periodic": ("first from {start} on, every {every}",),
    **{rule: ("newest of {bucket}, {rank} of {of} " + rule,) for rule in BUCKETS},
    "within": ("younger than {duration}",),
    "unwanted": ("no rule keeps it",),
    "cleanup_older_than_days": ("older than {days} days",),
    "max_total": ("more than {of}, oldest first",),
}
"""What each code says, in parts; a part is left out if its facts are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitFacts:
    """What a decision needs to know of one commit. Times are nanoseconds since 1970, UTC, of 64 bits."""

    id: CommitId
    run: str
    time_ns: int
    step: int | None = None
    epoch: int | float | None = None
    kind: str = "step"
    status: str = "completed"
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    """Which of `last`, `best` and `recovery` of a run name it."""
    tags: tuple[str, ...] = ()
    pinned_until: int | None = None
    """When its pin ends, `FOREVER` if it does not; None without a pin."""
    damaged: bool = False
    nonfinite: bool = False
    """Whether its weights hold NaN or Inf and that is to count."""
    unpushed: bool = False
    dropped_ns: int | None = None
    """When it was dropped; None if it was not."""
    components: tuple[str, ...] = ()
    """Names of the components it still has; needed for policies that thin. The root component has no name."""

    @classmethod
    def of(cls, identity: CommitId, commit: Commit, **others: Any) -> CommitFacts:
        """What a commit says of itself, and `others` what is known of it."""
        return cls(
            id=identity,
            run=commit.run,
            time_ns=commit.time_ns,
            step=commit.step,
            epoch=commit.epoch,
            kind=commit.kind,
            status=commit.status,
            metrics=commit.metrics,
            **others,
        )

    @property
    def unsound(self) -> str:
        """Why it may not stand for its run, empty if it may."""
        if self.damaged:
            return "damaged"
        if self.nonfinite:
            return "not finite"
        return "" if self.status == "completed" else self.status


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule, by its code, and what it goes by."""

    rule: str
    facts: Mapping[str, int | float | str | None] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The reason in words."""
        stands_in = f"; {self.facts['unsound']}, for want of a sound one" if "unsound" in self.facts else ""
        return "".join(_filled(part, self.facts) for part in _TEXTS[self.rule]) + stands_in

    def to_dict(self) -> dict[str, Any]:
        numbers = {key: json_number(value) for key, value in self.facts.items() if isinstance(value, int | float)}
        return {"rule": self.rule, "text": self.text, **self.facts, **numbers}


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one commit, and why."""

    id: CommitId
    run: str
    outcome: str
    """`keep`, `drop`, or `dropped` for what was dropped before."""
    wanted: tuple[Reason, ...]
    """Everything that wants it, in the order of `RULES`; also if a cap lets it go."""
    by: Reason | None = None
    """What lets it go; None if it is kept or was dropped before."""
    thin: tuple[str, ...] = ()
    """The components that it loses, ascending, since every rule that keeps it lists them."""
    final_ns: int | None = None
    """Until when its drop, or the loss of components, can be undone; None if it loses nothing."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id.hex(),
            "run": self.run,
            "outcome": self.outcome,
            "wanted": [reason.to_dict() for reason in self.wanted],
            "by": None if self.by is None else self.by.to_dict(),
            "thin": list(self.thin),
            "final": None if self.final_ns is None else rfc3339(self.final_ns),
        }


class Notice(NamedTuple):
    """A rule that could not do in a run what it says."""

    run: str
    rule: str
    problem: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One decision for each commit, run by run, the newest first."""

    decisions: tuple[Decision, ...]
    notices: tuple[Notice, ...] = ()

    @property
    def kept(self) -> tuple[Decision, ...]:
        return tuple(one for one in self.decisions if one.outcome == "keep")

    @property
    def dropped(self) -> tuple[Decision, ...]:
        """What is to be dropped now."""
        return tuple(one for one in self.decisions if one.outcome == "drop")

    @property
    def thinned(self) -> tuple[Decision, ...]:
        """What is to lose components now."""
        return tuple(one for one in self.decisions if one.thin)

    @property
    def counts(self) -> dict[str, int]:
        """How many kept commits each rule wants, in the order of `RULES`, without rules that want none."""
        found = [rule for one in self.kept for rule in {reason.rule for reason in one.wanted}]
        return {rule: found.count(rule) for rule in RULES if rule in found}

    def to_dict(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "decisions": [one.to_dict() for one in self.decisions],
            "notices": [notice._asdict() for notice in self.notices],
        }


def _filled(part: str, facts: Mapping[str, object]) -> str:
    try:
        return part.format_map(facts)
    except KeyError:
        return ""
