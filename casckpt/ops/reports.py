"""What operations that look deeper return; apart from `values`, so that reading history starts fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from casckpt.ops.value_reports import ValueDiff
from casckpt.ops.values import CommitInfo
from casckpt.plan.fields import NO_DIFFERENCES, MetadataDifferences
from casckpt.units import json_number, rfc3339


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


class Lost(NamedTuple):
    """By which rule a commit lost components, and when."""

    rule: str
    time_ns: int

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.rule, "time": rfc3339(self.time_ns)}


@dataclass(frozen=True, slots=True)
class PathInfo(LeafSummary):
    """A leaf of a committed state, or a container. `nbytes` of a container: of what its leaves lie in, each once.

    Of a component that the commit has lost, the kind is `lost` and nothing else is known.
    """

    leaves: int | None = None
    """How many leaves lie below a container; None for a leaf, which an empty container is too."""

    lost: Lost | None = None
    """By which rule and when a lost component went; None for what is there."""

    def to_dict(self) -> dict[str, Any]:
        lost = None if self.lost is None else self.lost.to_dict()
        return {**LeafSummary.to_dict(self), "leaves": self.leaves, "lost": lost}


@dataclass(frozen=True, slots=True)
class BlameLine:
    """The commit in which a leaf changed last, or in which those did that begin with a path."""

    path: str
    leaves: int
    """How many leaves the line is about, of `of` that begin with the path: 1 of 1 for a leaf."""
    of: int
    change: str
    """changed; added: its first parent had no such path; first: the same since the line began."""
    id: str
    run: str
    step: int | None
    time_ns: int
    commits: int
    """Of how many commits of the line this has been the state, up to the one asked for."""
    exact: bool
    """False: it may have been earlier, as commits before this one have no tree any more."""
    shared: bool
    """It is only known that a chunk changed which holds other small leaves too."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "leaves": self.leaves,
            "of": self.of,
            "change": self.change,
            "id": self.id,
            "run": self.run,
            "step": self.step,
            "time": rfc3339(self.time_ns),
            "commits": self.commits,
            "exact": self.exact,
            "shared": self.shared,
        }


@dataclass(frozen=True, slots=True)
class LeafChange:
    """A leaf that differs between two commits; `change` is added, removed, changed, or kind (other type or shape).

    Where values are compared, kind is recast, reshaped or resized if both are numbers, and a leaf may be renamed.
    """

    path: str
    change: str
    before: str
    after: str
    nbytes: int
    differing: int
    """Plain bytes that lie in chunks the two do not share."""
    source: str | None = None
    """Path in the earlier commit of a renamed leaf."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "source": self.source,
            "change": self.change,
            "before": self.before,
            "after": self.after,
            "bytes": self.nbytes,
            "bytes_differing": self.differing,
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two commits, by path; large tensors are compared by their ids and not read."""

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
    values: ValueDiff | None = None
    """How far the numbers are apart; None if not asked for."""
    metadata: MetadataDifferences = NO_DIFFERENCES
    """What differs in the config, environment, code and data they were made with."""
    parts: tuple[str, ...] = ("metadata", "tree")
    """What was compared; the fields of the other part are empty."""
    lost: tuple[str, ...] = ()
    """Components that differ, and of which no more is known, as one of the commits has lost them."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "parts": list(self.parts),
            **self.metadata.to_dict(),
            "metrics": {
                name: [None if value is None else json_number(value) for value in pair]
                for name, pair in self.metrics.items()
            },
            "leaves": [leaf.to_dict() for leaf in self.leaves],
            "lost": list(self.lost),
            "equal": self.equal,
            "bytes_equal": self.equal_bytes,
            "bytes_total": self.total_bytes,
            "values": None if self.values is None else self.values.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class CheckoutReport:
    """What a checkout into the file system wrote."""

    commit: str
    path: str
    files: int
    nbytes: int
    leftover: str | None = None
    """Path of what could not be removed of what was replaced; None if nothing."""
    dry_run: bool = False
    """Whether nothing was written."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "path": self.path,
            "files": self.files,
            "bytes": self.nbytes,
            "leftover": self.leftover,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote. `part` is the path inside the commit, `nbytes` the length of the file."""

    commit: str
    part: str
    path: str
    format: str
    """safetensors, pt, npz, json or h5; file for a committed file, which comes out as it is."""
    leaves: int
    nbytes: int
    dry_run: bool = False
    """Whether nothing was written."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "part": self.part,
            "path": self.path,
            "format": self.format,
            "leaves": self.leaves,
            "bytes": self.nbytes,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class ImportedCheckpoint:
    """One checkpoint that an import looked at. `nbytes` counts the bytes of its files."""

    name: str
    step: int | None
    epoch: int | float | None
    metrics: Mapping[str, int | float]
    nbytes: int
    commit: str | None = None
    """The commit it became, now or in an earlier import; None if it failed, or in a dry run."""
    added: int | None = None
    """Bytes it added to the store."""
    skipped: bool = False
    """The run has it already."""
    opaque: tuple[str, ...] = ()
    """Files of a folder that hold pickled objects, and are in its state as bytes."""
    nonfinite: int = 0
    """How many leaves of its state hold NaN or infinities; 0 if it was skipped."""
    nonfinite_paths: tuple[str, ...] = ()
    """The first eight of them."""
    problem: str | None = None
    """Why it was not imported, None if nothing is wrong."""
    code: str | None = None
    """The stable short name of that error."""
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "step": self.step,
            "epoch": self.epoch,
            "metrics": {name: json_number(value) for name, value in self.metrics.items()},
            "bytes": self.nbytes,
            "commit": self.commit,
            "bytes_added": self.added,
            "skipped": self.skipped,
            "opaque": list(self.opaque),
            "nonfinite": self.nonfinite,
            "nonfinite_paths": list(self.nonfinite_paths),
            "problem": self.problem,
            "code": self.code,
        }


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, checkpoint by checkpoint, oldest first."""

    run: str
    form: str
    dry_run: bool
    checkpoints: tuple[ImportedCheckpoint, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """That of the first checkpoint that failed, 0 if none did."""
        return next((one.exit_code for one in self.checkpoints if one.problem is not None), 0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "form": self.form,
            "dry_run": self.dry_run,
            "ok": self.ok,
            "checkpoints": [one.to_dict() for one in self.checkpoints],
        }


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
class Brought:
    """What a repair brought back from a remote."""

    remote: str
    objects: int
    nbytes: int
    """Plain bytes of them."""
    lacking: tuple[str, ...]
    """Ids of objects that commits need and that the remote does not have whole either; the first 100."""
    lacks: int
    """How many these are in all."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "remote": self.remote,
            "objects": self.objects,
            "bytes": self.nbytes,
            "lacking": list(self.lacking),
            "lacks": self.lacks,
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
    marked: tuple[str, ...] = ()
    """Commits that a repair marked as damaged: neither `best` nor `recovery` moves to them any more."""
    cleared: tuple[str, ...] = ()
    """Commits from which it took that mark, since they are whole again."""
    brought: Brought | None = None
    """What a repair from a remote brought back; None for any other check."""

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
            "marked": list(self.marked),
            "cleared": list(self.cleared),
            "brought": None if self.brought is None else self.brought.to_dict(),
        }
