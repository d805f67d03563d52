"""Where the bytes of a store are, and what dropping commits would free: values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casckpt.units import rfc3339

KEPT, THINNED, WAITING, DROPPED = "kept", "thinned", "waiting", "dropped"
"""What of a commit's state is here: all of it; not all components; all or some, until the grace of its drop is over;
nothing."""


@dataclass(frozen=True, slots=True)
class CodecUse:
    """Records with one codec."""

    codec: str
    """`raw`, `zstd`, `planes` or `delta`."""
    records: int
    plain: int
    stored: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "codec": self.codec,
            "records": self.records,
            "bytes_plain": self.plain,
            "bytes_stored": self.stored,
        }


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one run, commit, component or dtype takes."""

    name: str | None
    """A run, the id of a commit, a component (empty for the root) or a dtype. None for what describes states: commits,
    trees, configs, and by dtype structures too."""
    commits: int
    """How many of the commits have anything of it."""
    logical: int
    """Plain bytes of its states, every commit for itself."""
    unique: int
    """Stored bytes that only it reaches."""
    shared: int
    """Stored bytes that it reaches, and others too."""
    run: str | None = None
    """The run of a commit; the fields below are of a commit too."""
    step: int | None = None
    time_ns: int | None = None
    state: str | None = None
    """`kept`, `thinned`, `waiting` or `dropped`."""
    codecs: tuple[CodecUse, ...] = ()
    """Of a dtype: how its records are stored."""

    @property
    def reached(self) -> int:
        """Stored bytes that it reaches."""
        return self.unique + self.shared

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "commits": self.commits,
            "bytes_logical": self.logical,
            "bytes_unique": self.unique,
            "bytes_shared": self.shared,
            "run": self.run,
            "step": self.step,
            "time": None if self.time_ns is None else rfc3339(self.time_ns),
            "state": self.state,
            "codecs": [codec.to_dict() for codec in self.codecs],
        }


@dataclass(frozen=True, slots=True)
class FileUse:
    """Lengths of the files of a store."""

    packs: int
    """Of all packs of the store."""
    journal: int
    index: int
    """The index: a view that can be removed at any time."""
    other: int
    """Of everything else: settings, the reserve, what interrupted commands left."""

    @property
    def total(self) -> int:
        """Of all files."""
        return self.packs + self.journal + self.index + self.other

    def to_dict(self) -> dict[str, Any]:
        return {
            "bytes_packs": self.packs,
            "bytes_journal": self.journal,
            "bytes_index": self.index,
            "bytes_other": self.other,
            "bytes_total": self.total,
        }


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Where the bytes of a store are.

    `files.total` is `stored` + `waiting` + `dead` + `overhead`. Where all commits were chosen, the `unique` of all rows
    and `shared` add up to `stored` + `waiting`.
    """

    by: str
    """`run`, `commit`, `component` or `dtype`."""
    rows: tuple[UsageRow, ...]
    """The largest first."""
    commits: int
    """How many were chosen."""
    all_commits: int
    """How many the store has."""
    logical: int
    """Plain bytes of the chosen states."""
    unique: int
    """Stored bytes that one row alone reaches, and nothing that was not chosen."""
    shared: int
    """The other stored bytes that rows reach, each counted once."""
    stored: int
    """Bytes of the records that something needs."""
    waiting: int
    """Of those that only dropped commits need whose drop can still be taken back."""
    dead: int
    """Of those that nothing needs, copies of what others hold included."""
    packs: int
    unreadable: int
    """Packs whose table of contents cannot be read: all their bytes are overhead."""
    files: FileUse

    @property
    def overhead(self) -> int:
        """Bytes of files that are no records: tables of contents, padding, old journal files, the index."""
        return self.files.total - self.stored - self.waiting - self.dead

    def to_dict(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "rows": [row.to_dict() for row in self.rows],
            "commits": self.commits,
            "commits_all": self.all_commits,
            "bytes_logical": self.logical,
            "bytes_unique": self.unique,
            "bytes_shared": self.shared,
            "bytes_stored": self.stored,
            "bytes_waiting": self.waiting,
            "bytes_dead": self.dead,
            "bytes_overhead": self.overhead,
            "packs": self.packs,
            "packs_unreadable": self.unreadable,
            "files": self.files.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class DropCost:
    """What dropping one commit would free."""

    id: str
    run: str
    step: int | None
    time_ns: int
    alone: int
    """Stored bytes that nothing but this commit needs."""
    together: int
    """Stored bytes that nothing needs once it and those before it in the list are dropped."""
    held: tuple[str, ...]
    """What forbids dropping it: names and pins."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "run": self.run,
            "step": self.step,
            "time": rfc3339(self.time_ns),
            "bytes_alone": self.alone,
            "bytes_together": self.together,
            "held": list(self.held),
        }


@dataclass(frozen=True, slots=True)
class DropPlan:
    """What dropping commits would free, once their grace is over and `gc` ran.

    What was dropped before is taken to be gone by then.
    """

    commits: tuple[DropCost, ...]
    """Those that have state, oldest first."""
    already: tuple[str, ...]
    """Those that were dropped before."""
    freed: int
    """Stored bytes that nothing needs then."""
    packs: int
    """Packs that go as a whole then."""
    pack_bytes: int
    """Bytes of their files: so much the disk gets back without anything being rewritten."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "commits": [commit.to_dict() for commit in self.commits],
            "already": list(self.already),
            "bytes_freed": self.freed,
            "packs": self.packs,
            "bytes_packs": self.pack_bytes,
        }
