"""What repacking returns: what was packed as deltas, what that saved, and what was left, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class RepackedWindow(NamedTuple):
    """Neighbouring commits of a run that were packed together, or would be."""

    run: str
    commits: int
    first_step: int | None
    last_step: int | None
    packs: int
    """Packs that are redundant afterwards."""
    nbytes: int
    """Plain bytes of what is needed in them."""
    stored: int
    """Stored bytes of that, before."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "commits": self.commits,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "packs": self.packs,
            "bytes": self.nbytes,
            "bytes_stored": self.stored,
        }


@dataclass(frozen=True, slots=True)
class RepackReport:
    """What a repack did, or would do."""

    windows: tuple[RepackedWindow, ...]
    commits: int
    """Commits that had something to pack."""
    packs: int
    """Packs of the store when it began."""
    before: int
    after: int
    """Bytes of all packs, before and after; of a dry run the same."""
    deltas: int
    plain: int
    """Versions of chunks that were stored with and without bases."""
    groups: Mapping[int, int]
    """How many groups have so many versions."""
    written: int
    """Packs that were written."""
    removed: int
    """Packs that were removed, since nothing needs them any more."""
    left: Mapping[str, int]
    """Commits that were left for a later time, by the reason: `limit`, `few` or `space`.

    For `busy` it is windows whose old packs could not be removed yet.
    """
    seconds: float
    thorough: bool
    dry_run: bool = False

    @property
    def nbytes(self) -> int:
        """Plain bytes of what was packed, or would be."""
        return sum(window.nbytes for window in self.windows)

    def to_dict(self) -> dict[str, Any]:
        return {
            "windows": [window.to_dict() for window in self.windows],
            "commits": self.commits,
            "packs": self.packs,
            "bytes": self.nbytes,
            "bytes_before": self.before,
            "bytes_after": self.after,
            "chunks_delta": self.deltas,
            "chunks_plain": self.plain,
            "groups": {str(size): count for size, count in sorted(self.groups.items())},
            "packs_written": self.written,
            "packs_removed": self.removed,
            "left": dict(self.left),
            "elapsed_s": round(self.seconds, 3),
            "max": self.thorough,
            "dry_run": self.dry_run,
        }
