"""What looking back at the journal returns: changes of refs, operations, what an undo took back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casckpt.units import rfc3339


@dataclass(frozen=True, slots=True)
class RefChange:
    """One change of a ref, as the journal has it. Ids are 64 hex digits."""

    ref: str
    """Full name, as `runs/gpt/last`."""
    old: str | None
    """The commit it named before, None if it was not there or that is not known any more."""
    new: str | None
    """The commit it named from then on, None if it was removed."""
    time_ns: int
    reason: str
    """What was done: commit, tag, repair; snapshot if the journal before that is gone."""
    note: str
    by: str
    """Host and process that did it."""
    operation: int
    """Number of the operation that it was a part of."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "ref": self.ref,
            "old": self.old,
            "new": self.new,
            "time": rfc3339(self.time_ns),
            "reason": self.reason,
            "note": self.note,
            "by": self.by,
            "operation": self.operation,
        }


@dataclass(frozen=True, slots=True)
class FactChange:
    """One change of what is known of a commit (its `note` or `pin`), or of a setting of a run; None is absence."""

    of: str
    """Id of the commit, 64 hex digits, or name of the run."""
    key: str
    old: Any
    new: Any

    def to_dict(self) -> dict[str, Any]:
        return {"of": self.of, "key": self.key, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class DropChange:
    """That a commit lost its state or some components, or that a loss was taken back."""

    commit: str
    """64 hex digits."""
    parts: tuple[str, ...] | None
    """Names of the components; None for the whole state."""
    rule: str
    restored: bool
    """Whether the loss was taken back."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "parts": None if self.parts is None else list(self.parts),
            "rule": self.rule,
            "restored": self.restored,
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the journal: what was done at once, and what it changed."""

    number: int
    """Sequence number of its entry."""
    op: str
    """What was done: commit, tag, untag, pin, unpin, note, run-fork, run-rename, run-finish, run-policy, drop, retain,
    undo, repair, init."""
    time_ns: int
    by: str
    """Host and process that did it."""
    note: str
    refs: tuple[RefChange, ...]
    marks: tuple[FactChange, ...]
    """Notes and pins of commits."""
    settings: tuple[FactChange, ...]
    """Settings of runs; `old` is None too where the entry does not tell it."""
    drops: tuple[DropChange, ...] = ()
    """What commits lost, or got back."""
    undoes: int | None = None
    """The operation that it took back."""
    undone_by: int | None = None
    """The undo that took it back, None while it is in effect."""

    @property
    def changes(self) -> int:
        """How many refs, marks and settings it changed, and what commits lost or got back."""
        return len(self.refs) + len(self.marks) + len(self.settings) + len(self.drops)

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "op": self.op,
            "time": rfc3339(self.time_ns),
            "by": self.by,
            "note": self.note,
            "refs": [change.to_dict() for change in self.refs],
            "marks": [change.to_dict() for change in self.marks],
            "settings": [change.to_dict() for change in self.settings],
            "drops": [change.to_dict() for change in self.drops],
            "undoes": self.undoes,
            "undone_by": self.undone_by,
        }


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What an undo took back."""

    undone: Operation
    """The operation that it took back, as it was."""
    operation: Operation
    """The operation that this was itself; of a dry run the one that it would be."""
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return {"undone": self.undone.to_dict(), "operation": self.operation.to_dict(), "dry_run": self.dry_run}
