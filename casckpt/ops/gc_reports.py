"""What a collection is going to free, and what it freed: values, each with its reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from casckpt.ops.journal_files import OldFiles
from casckpt.ops.lifetime_reports import RetainReport
from casckpt.ops.repack_reports import RepackReport
from casckpt.ops.rewrite import Rewritten
from casckpt.units import format_bytes, rfc3339

FREES, WAITS, EARLY = "frees", "waits", "early"
"""What becomes of the state that a commit lets go of: its grace is over; it can still be taken back; it could be, and
goes all the same, since the disk is nearly full or that was asked for."""


@dataclass(frozen=True, slots=True)
class GcCommit:
    """A commit that lets go of its state, or of components."""

    id: str
    run: str
    step: int | None
    time_ns: int
    outcome: str
    """`frees`, `waits` or `early`."""
    rule: str
    """The rule in its drop."""
    parts: tuple[str, ...] | None
    """The components it lost; None for all of its state."""
    dropped_ns: int
    is_new: bool
    """Whether a policy drops it with this collection."""
    final_ns: int
    """When its grace ends."""
    alone: int
    """Stored bytes that nothing but this commit needs."""
    together: int
    """Stored bytes that nothing needs once it and those before it in the list are gone."""

    def explain(self) -> str:
        """The commit in a line of plain text."""
        lost = "" if self.parts is None else f", loses {', '.join(self.parts)}"
        until = f" until {rfc3339(self.final_ns)}" if self.outcome == WAITS else ""
        freed = f"alone {format_bytes(self.alone)}, with those before {format_bytes(self.together)}"
        where = f"{self.id[:12]} {self.run} step {self.step}"
        return f"{self.outcome}{until} {where}: {self.rule}{lost}; {freed}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "run": self.run,
            "step": self.step,
            "time": rfc3339(self.time_ns),
            "outcome": self.outcome,
            "rule": self.rule,
            "parts": None if self.parts is None else list(self.parts),
            "dropped": rfc3339(self.dropped_ns),
            "new": self.is_new,
            "final": rfc3339(self.final_ns),
            "bytes_alone": self.alone,
            "bytes_together": self.together,
        }


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What a collection would free at this moment."""

    commits: tuple[GcCommit, ...]
    """Those that let go of something which is still there, in the order in which it goes."""
    retained: RetainReport | None
    """What the policy says of every commit; None without a policy."""
    packs: int
    """Packs that nothing needs: their files are removed."""
    pack_bytes: int
    orphans: int
    """Pack files that an interrupted command left."""
    orphan_bytes: int
    dead_bytes: int
    """Stored bytes that nothing needs in packs that stay."""
    kept_packs: int
    kept_bytes: int
    """Bytes of the packs that stay, as they are now."""

    @property
    def nbytes(self) -> int:
        """Bytes of the files that are removed."""
        return self.pack_bytes + self.orphan_bytes

    @property
    def waiting(self) -> tuple[GcCommit, ...]:
        """The commits whose drop can still be taken back."""
        return tuple(commit for commit in self.commits if commit.outcome == WAITS)

    @property
    def early(self) -> tuple[GcCommit, ...]:
        """The commits whose grace ends before its time."""
        return tuple(commit for commit in self.commits if commit.outcome == EARLY)

    def explain(self) -> str:
        """The plan in lines of plain text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from (commit.explain() for commit in self.commits)
        yield f"{self.packs} packs go: {format_bytes(self.pack_bytes)}"
        yield f"{self.orphans} files left by interrupted commands go: {format_bytes(self.orphan_bytes)}"
        yield f"{format_bytes(self.dead_bytes)} more in packs that stay"

    def to_dict(self) -> dict[str, Any]:
        return {
            "commits": [commit.to_dict() for commit in self.commits],
            "retained": None if self.retained is None else self.retained.to_dict(),
            "packs": self.packs,
            "bytes_packs": self.pack_bytes,
            "orphans": self.orphans,
            "bytes_orphans": self.orphan_bytes,
            "bytes_freed": self.nbytes,
            "bytes_dead": self.dead_bytes,
            "packs_kept": self.kept_packs,
            "bytes_kept": self.kept_bytes,
        }


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was written again so that what stays takes less room."""

    rewritten: Rewritten | None = None
    """Packs that were mostly dead, or many and small; None if it was not tried."""
    repacked: RepackReport | None = None
    """Commits that were packed as deltas; None if it was not tried."""
    problem: str = ""
    """What ended it early, empty if nothing did."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "rewritten": None if self.rewritten is None else self.rewritten.to_dict(),
            "repacked": None if self.repacked is None else self.repacked.to_dict(),
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection did."""

    plan: GcPlan
    """What it was going to do."""
    packs: int
    """Packs that were removed."""
    orphans: int
    """Pack files that an interrupted command had left."""
    nbytes: int
    """Bytes of the files that were removed, before anything was written again."""
    rescued: int = 0
    """Packs that stayed since a commit came that needs them."""
    journal: OldFiles = field(default_factory=OldFiles)
    """Journal files that were removed."""
    shrunk: Shrunk = field(default_factory=Shrunk)
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "packs": self.packs,
            "orphans": self.orphans,
            "bytes_freed": self.nbytes,
            "rescued": self.rescued,
            "journal": {"files": self.journal.files, "bytes": self.journal.nbytes},
            "shrunk": self.shrunk.to_dict(),
            "dry_run": self.dry_run,
        }
