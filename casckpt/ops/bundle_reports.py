"""What making, listing and applying bundles returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from casckpt.units import rfc3339

Content = Literal["whole", "thinned", "absent"]


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What went into a bundle, or would; ids are 64 hex digits."""

    path: str
    refs: tuple[str, ...]
    """Names in it: runs and tags as in the store, `commits/<id>` for commits that were asked for otherwise."""
    needs: tuple[str, ...]
    """Commits that whoever applies it must have."""
    commits: int
    """Commits that are in it with their content, or what a rule left of it."""
    objects: int
    nbytes: int
    """Length of the file; of a dry run about so much."""
    seconds: float
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "refs": list(self.refs),
            "needs": list(self.needs),
            "commits": self.commits,
            "objects": self.objects,
            "bytes": self.nbytes,
            "seconds": self.seconds,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class BundledRef:
    """A ref of a bundle."""

    name: str
    commit: str
    time_ns: int
    """When the bundle was made."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "commit": self.commit, "time": rfc3339(self.time_ns)}


@dataclass(frozen=True, slots=True)
class BundledCommit:
    """A commit of a bundle."""

    id: str
    run: str
    step: int | None
    time_ns: int
    nbytes: int
    """Plain bytes of its state, whether they are in the bundle or not."""
    content: Content
    """Whether its state can be had from the bundle and the commits that this needs, in part, or not."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "run": self.run,
            "step": self.step,
            "time": rfc3339(self.time_ns),
            "bytes": self.nbytes,
            "content": self.content,
        }


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a bundle says it holds, and whether that is so if every byte was compared."""

    path: str
    nbytes: int
    """Length of the file."""
    time_ns: int
    """When it was made; `by` whom."""
    by: str
    needs: tuple[str, ...]
    """Commits that whoever applies it must have."""
    refs: tuple[BundledRef, ...]
    commits: tuple[BundledCommit, ...]
    """Newest first."""
    objects: int
    verified: bool
    """Whether every object was compared with its id."""
    problems: tuple[str, ...]
    """What is wrong with objects, the first 100; empty if nothing was compared."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "ok": self.ok,
            "bytes": self.nbytes,
            "time": rfc3339(self.time_ns),
            "by": self.by,
            "needs": list(self.needs),
            "refs": [ref.to_dict() for ref in self.refs],
            "commits": [commit.to_dict() for commit in self.commits],
            "objects": self.objects,
            "verified": self.verified,
            "problems": list(self.problems),
        }
