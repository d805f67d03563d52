"""What forgetting returns: which commits are known no more, what went along, and what became of their bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from casckpt.ops.values import CommitInfo


class HeadMove(NamedTuple):
    """A ref that named a forgotten commit, and the commit it names now; None if it is gone."""

    ref: str
    now: str | None

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True, slots=True)
class Purge:
    """What removing the bytes of forgotten commits did, or would do."""

    journal_files: int = 0
    """Older files of the journal that went: changes of names before can no more be looked up or taken back."""
    journal_bytes: int = 0
    packs_removed: int = 0
    packs_written: int = 0
    """New packs, which hold what of those is needed by others."""
    freed: int = 0
    """Bytes by which the store is shorter, the journal included; in a dry run, of the files that go."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What a forget did, or would do."""

    forgotten: tuple[CommitInfo, ...]
    """The commits, newest first, as they were."""
    runs: tuple[str, ...]
    """Runs that are known no more."""
    refs: tuple[HeadMove, ...]
    """Every ref that named one of the commits."""
    pins: tuple[str, ...]
    """Ids of those that were pinned."""
    children: int
    """How many commits stay whose parent is forgotten."""
    purge: Purge
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "forgotten": [commit.to_dict() for commit in self.forgotten],
            "runs": list(self.runs),
            "refs": [move.to_dict() for move in self.refs],
            "pins": list(self.pins),
            "children": self.children,
            "purge": self.purge.to_dict(),
            "dry_run": self.dry_run,
        }
