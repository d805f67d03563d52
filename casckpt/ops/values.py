"""What operations return: frozen values with `to_dict()`, the same for Python, `--json` and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from casckpt.units import json_number, rfc3339


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit as users see it. Ids are 64 hex digits; `time_ns` counts from the Unix epoch, UTC."""

    id: str
    run: str
    step: int | None
    epoch: int | float | None
    kind: str
    status: str
    time_ns: int
    metrics: Mapping[str, int | float]
    message: str
    author: str
    parents: tuple[str, ...]
    tree: str
    nbytes: int
    """Plain bytes of all tensors, arrays and texts of the state."""
    added: int | None
    """Bytes this commit added to the store; None if that is no longer known."""
    refs: tuple[str, ...] = ()
    """Short names of the refs that name it: `last`, `best`, `recovery` of its run, and tags."""
    children: tuple[str, ...] = ()
    dropped: str | None = None
    """The rule that dropped it, None if it can be checked out."""

    @property
    def short(self) -> str:
        """The first 12 digits of the id."""
        return self.id[:12]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "run": self.run,
            "step": self.step,
            "epoch": self.epoch,
            "kind": self.kind,
            "status": self.status,
            "time": rfc3339(self.time_ns),
            "metrics": {name: json_number(value) for name, value in self.metrics.items()},
            "message": self.message,
            "author": self.author,
            "parents": list(self.parents),
            "children": list(self.children),
            "tree": self.tree,
            "bytes": self.nbytes,
            "bytes_added": self.added,
            "refs": list(self.refs),
            "dropped": self.dropped,
        }


@dataclass(frozen=True, slots=True)
class LeafSummary:
    """One leaf of a committed state. `nbytes` counts plain bytes; None for values inside the tree."""

    path: str
    kind: str
    dtype: str | None
    shape: tuple[int, ...] | None
    nbytes: int | None
    value: Any = None

    def to_dict(self) -> dict[str, Any]:
        value = self.value
        if isinstance(value, (bytes, bytearray)):
            value = value.hex()
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = json_number(value)
        elif not isinstance(value, (str, bool, type(None))):
            value = str(value)
        return {
            "path": self.path,
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "bytes": self.nbytes,
            "value": value,
        }


@dataclass(frozen=True, slots=True)
class LeafChange:
    """A leaf that differs between two commits; `change` is added, removed, changed, or kind (other type or shape)."""

    path: str
    change: str
    before: str
    after: str
    nbytes: int
    differing: int
    """Plain bytes that lie in chunks the two do not share."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "change": self.change,
            "before": self.before,
            "after": self.after,
            "bytes": self.nbytes,
            "bytes_differing": self.differing,
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two commits, known from ids alone: no tensor is read."""

    before: CommitInfo
    after: CommitInfo
    metrics: Mapping[str, tuple[int | float | None, int | float | None]]
    leaves: tuple[LeafChange, ...]
    equal: int
    """Leaves that are equal."""
    equal_bytes: int
    """Plain bytes in chunks both have."""
    total_bytes: int
    """Plain bytes of the later commit."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "metrics": {
                name: [None if value is None else json_number(value) for value in pair]
                for name, pair in self.metrics.items()
            },
            "leaves": [leaf.to_dict() for leaf in self.leaves],
            "equal": self.equal,
            "bytes_equal": self.equal_bytes,
            "bytes_total": self.total_bytes,
        }


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run: its newest commit and what its refs name."""

    name: str
    commits: int
    last: CommitInfo
    best: CommitInfo | None
    rule: str | None
    """What `best` means, as `val/loss:min`; None if the run has no such rule."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "commits": self.commits,
            "last": self.last.to_dict(),
            "best": None if self.best is None else self.best.to_dict(),
            "rule": self.rule,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """A store at a glance. `stored` counts the bytes of packs and journal files."""

    path: str
    commits: int
    packs: int
    stored: int
    logical: int
    """Plain bytes of all commits, counted as if each were stored whole."""
    free: int | None
    """Bytes free on its disk, None if that cannot be told."""
    runs: tuple[RunInfo, ...]
    tags: Mapping[str, str]
    journal_seq: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "commits": self.commits,
            "packs": self.packs,
            "bytes_stored": self.stored,
            "bytes_logical": self.logical,
            "bytes_free": self.free,
            "runs": [run.to_dict() for run in self.runs],
            "tags": dict(self.tags),
            "journal_seq": self.journal_seq,
        }


@dataclass(frozen=True, slots=True)
class CheckoutReport:
    """What a checkout into the file system wrote."""

    commit: str
    path: str
    files: int
    nbytes: int

    def to_dict(self) -> dict[str, Any]:
        return {"commit": self.commit, "path": self.path, "files": self.files, "bytes": self.nbytes}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing fsck found. `severity` is damage (data is wrong or missing), notice (harmless, or already healed)."""

    severity: str
    what: str
    where: str
    leaf: str | None = None
    commits: tuple[str, ...] = ()
    repaired: str | None = None
    """What a repair did about it, None if nothing."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "what": self.what,
            "where": self.where,
            "leaf": self.leaf,
            "commits": list(self.commits),
            "repaired": self.repaired,
        }


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What fsck looked at and found. `ok` means no damage is left."""

    depth: str
    packs: int
    objects: int
    commits: int
    nbytes: int
    """Stored bytes that were read and compared with their ids."""
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not any(finding.severity == "damage" and finding.repaired is None for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {
            "depth": self.depth,
            "ok": self.ok,
            "packs": self.packs,
            "objects": self.objects,
            "commits": self.commits,
            "bytes_read": self.nbytes,
            "findings": [finding.to_dict() for finding in self.findings],
        }
