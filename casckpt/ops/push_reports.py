"""What a push returns: which refs moved, and what was sent for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from casckpt.ops.line import line


class RemoteMove(NamedTuple):
    """A ref of a remote that named `old` and names `new`, in 64 hex digits; None is absence."""

    ref: str
    old: str | None
    new: str | None

    def to_dict(self) -> dict[str, Any]:
        return {"ref": self.ref, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did, or would do."""

    remote: str
    """The name of the remote."""
    url: str
    moves: tuple[RemoteMove, ...]
    """The refs that moved there, by name; none if all was there already."""
    commits: int
    """Commits that are new there."""
    objects: int
    """Objects that were sent, chunks and all others."""
    packs: int
    nbytes: int
    """Bytes of these packs; of a dry run about so many."""
    resumed: int
    """Packs that an interrupted push had sent before, and that were not sent again."""
    root: int
    """The number of the remote's newest root then; 0 of an empty remote."""
    requests: Mapping[str, int]
    """By class: `put`, `get`, `list`, `head`, `delete`; of a dry run those it would take."""
    up: int
    """Bytes that were sent in all."""
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
            "moves": [move.to_dict() for move in self.moves],
            "commits": self.commits,
            "objects": self.objects,
            "packs": self.packs,
            "bytes": self.nbytes,
            "resumed": self.resumed,
            "root": self.root,
            "seconds": self.seconds,
            "dry_run": self.dry_run,
            **line(self),
        }
