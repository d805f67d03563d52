"""What fetch and pull return: what came, and which refs moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casckpt.ops.line import line
from casckpt.ops.push_reports import RemoteMove


def moved(name: str, old: bytes | None, new: bytes | None) -> RemoteMove:
    """A ref that moved, as reports say it."""
    return RemoteMove(name, None if old is None else old.hex(), None if new is None else new.hex())


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch brought, or would."""

    remote: str
    url: str
    root: int
    """Number of the root that was read; 0 of an empty remote."""
    refs: tuple[RemoteMove, ...]
    """Refs of the remote, by their names there, that name something else than at the last look."""
    commits: int
    """Commits that were not known here."""
    whole: int
    """Commits whose content came, but for what they lost there."""
    partial: int
    """Commits of which only some components came."""
    absent: int
    """New commits that came as names only."""
    objects: int
    nbytes: int
    """Stored bytes of these objects."""
    operation: int | None
    """Number of the journal entry; None if nothing was new, or of a dry run."""
    requests: Mapping[str, int]
    """By class: `get` and `list`."""
    up: int
    down: int
    """Bytes that came."""
    seconds: float
    dry_run: bool
    cost: float | None = None
    """About what that costs in dollars; None where nobody knows a price."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "remote": self.remote,
            "url": self.url,
            "root": self.root,
            "refs": [ref.to_dict() for ref in self.refs],
            "commits": self.commits,
            "whole": self.whole,
            "partial": self.partial,
            "absent": self.absent,
            "objects": self.objects,
            "bytes": self.nbytes,
            "operation": self.operation,
            "seconds": self.seconds,
            "dry_run": self.dry_run,
            **line(self),
        }


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull fetched, and which refs of this store it moved, or would."""

    fetched: FetchReport
    moves: tuple[RemoteMove, ...]
    operation: int | None
    """Number of the journal entry that moved them; None if none did, or of a dry run."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "fetched": self.fetched.to_dict(),
            "moves": [move.to_dict() for move in self.moves],
            "operation": self.operation,
        }
