"""What a collection of a remote is going to do, and what it did: values, each with its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from casckpt.ops.gc_reports import WAITS, GcCommit
from casckpt.ops.line import line
from casckpt.plan.decision import Plan
from casckpt.units import format_bytes


@dataclass(frozen=True, slots=True)
class RemoteGcPlan:
    """What a collection of a remote would do at this moment."""

    root: int
    """Number of the root that it goes by, 0 of an empty remote."""
    commits: tuple[GcCommit, ...] = ()
    """Those that let go of something which is still there, in the order in which it goes."""
    retained: Plan | None = None
    """What the policy of the remote says of every commit; None without a policy."""
    packs: int = 0
    """Packs that nothing needs: they are condemned."""
    pack_bytes: int = 0
    rewrites: int = 0
    """Packs of which little is needed, and small ones: what is needed of them is written again, and they go."""
    rewrite_bytes: int = 0
    """About what is uploaded for that."""
    orphans: int = 0
    """Files that interrupted pushes left, and that are old enough."""
    orphan_bytes: int = 0
    young: int = 0
    """Files in no segment that a push may still want; they wait."""
    condemned: int = 0
    """Files that roots before condemned and that are still there."""
    kept_packs: int = 0
    kept_bytes: int = 0
    """Bytes of the packs that stay, as they are now."""

    @property
    def nbytes(self) -> int:
        """Bytes of the files that are condemned, but for those that are written again before."""
        return self.pack_bytes + self.orphan_bytes

    @property
    def waiting(self) -> tuple[GcCommit, ...]:
        """The commits whose drop can still be taken back."""
        return tuple(commit for commit in self.commits if commit.outcome == WAITS)

    def explain(self) -> str:
        """The plan in lines of plain text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from (commit.explain() for commit in self.commits)
        yield f"{self.packs} packs go: {format_bytes(self.pack_bytes)}"
        yield f"{self.rewrites} packs are written again: {format_bytes(self.rewrite_bytes)} to upload"
        yield f"{self.orphans} files left by interrupted pushes go: {format_bytes(self.orphan_bytes)}"
        yield f"{self.young} files in no index are too young to go"
        yield f"{self.condemned} files were condemned before"

    def to_dict(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "commits": [commit.to_dict() for commit in self.commits],
            "retained": None if self.retained is None else self.retained.to_dict(),
            "packs": self.packs,
            "bytes_packs": self.pack_bytes,
            "rewrites": self.rewrites,
            "bytes_rewrites": self.rewrite_bytes,
            "orphans": self.orphans,
            "bytes_orphans": self.orphan_bytes,
            "young": self.young,
            "condemned": self.condemned,
            "bytes_freed": self.nbytes,
            "packs_kept": self.kept_packs,
            "bytes_kept": self.kept_bytes,
        }


@dataclass(frozen=True, slots=True)
class RemoteGcReport:
    """What a collection of a remote did."""

    plan: RemoteGcPlan
    """What it was going to do when it began."""
    root: int
    """Number of the newest root now."""
    condemned: int = 0
    """Files that a root of this collection condemned; they are removed when readers had time to notice."""
    removed: int = 0
    """Files that were removed, condemned by this collection or by one before."""
    nbytes: int = 0
    """Bytes of these, as far as a listing told."""
    rewritten: int = 0
    """Packs that were written."""
    segments: int = 0
    """Index segments that others were merged into."""
    roots: int = 0
    """Old roots that were removed."""
    dry_run: bool = False
    requests: Mapping[str, int] = field(default_factory=dict)
    """By class: `put`, `get`, `list`, `head`, `delete`."""
    up: int = 0
    """Bytes that were sent in all."""
    down: int = 0
    """Bytes that came in all."""
    cost: float | None = None
    """About what that costs in dollars; None where nobody knows a price."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "root": self.root,
            "condemned": self.condemned,
            "removed": self.removed,
            "bytes_freed": self.nbytes,
            "rewritten": self.rewritten,
            "segments": self.segments,
            "roots": self.roots,
            "dry_run": self.dry_run,
            **line(self),
        }
