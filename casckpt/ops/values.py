"""What reading history returns: frozen values with `to_dict()`, the same for Python, `--json` and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from casckpt.units import json_number, rfc3339

Progress = Callable[[int, int], object]
"""Called with the plain bytes done and in all, by the thread that does the work; what it raises cancels the work."""


def counted(progress: Progress | None, total: int) -> Callable[[int], None]:
    """What to call with the bytes done since the last call, so that `progress` hears of all that were."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


Verify = Literal["first", "background"]
"""When a checkout compares bytes with their ids, other than while it reads them."""

WhenBusy = Literal["wait", "skip", "coalesce"]
"""What a commit in the background does while an earlier one is on its way."""


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
    """Plain bytes of the state's tensors, arrays, files and longer texts; small values inside the tree do not count."""
    added: int | None
    """Bytes this commit added to the store; None if that is no longer known."""
    refs: tuple[str, ...] = ()
    """Short names of the refs that name it: `last`, `best`, `recovery` of its run, tags; `origin/last` of a remote."""
    children: tuple[str, ...] = ()
    dropped: str | None = None
    """The rule that dropped it, None if it can be checked out."""
    thinned: tuple[str, ...] = ()
    """Components that were dropped from it, while the others are still there."""
    schema: tuple[str, int] | None = None
    """Name and version of what its state means to the program that made it."""
    required: tuple[str, ...] = ()
    """Patterns of the paths that schema requires."""
    note: str | None = None
    """A remark that was made later."""
    pinned: bool = False
    """Whether it is pinned now."""
    pinned_until: int | None = None
    """When its pin ends, as `time_ns`; None if never, or without one."""
    nonfinite: int = 0
    """How many leaves of its state hold NaN or infinities, as far as that was looked for when it was made."""
    nonfinite_paths: tuple[str, ...] = ()
    """The first eight of them."""
    damaged: int = 0
    """How many leaves of it a repair found damaged or missing and could not heal."""
    damaged_paths: tuple[str, ...] = ()
    """The first eight of them."""

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
            "thinned": list(self.thinned),
            "schema": None if self.schema is None else list(self.schema),
            "required": list(self.required),
            "note": self.note,
            "pinned": self.pinned,
            "pinned_until": None if self.pinned_until is None else rfc3339(self.pinned_until),
            "nonfinite": self.nonfinite,
            "nonfinite_paths": list(self.nonfinite_paths),
            "damaged": self.damaged,
            "damaged_paths": list(self.damaged_paths),
        }


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on in a run, by its newest commits."""

    state: str
    """running, stopped, finished, failed, cancelled or preempted. A run that says nothing is running until three of
    its usual intervals have passed without a commit, at least a minute."""
    interval_ns: int | None
    """The median time between recent commits; None with a single one."""
    metric: str | None
    """The metric of the rule for best, else the first one; None if there is none."""
    recent: tuple[int | float | None, ...]
    """Its values in the recent commits, the newest last."""
    commits: int
    """How many recent commits were looked at, at most 32."""
    bad: int
    """How many of them have a metric that is no finite number."""
    bad_since: int | None
    """The step of the first of those, if it has one."""
    nbytes: int
    """Plain bytes of all commits of the run, counted as if each were stored whole."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "interval_s": None if self.interval_ns is None else self.interval_ns / 1e9,
            "metric": self.metric,
            "recent": [None if value is None else json_number(value) for value in self.recent],
            "commits": self.commits,
            "bad": self.bad,
            "bad_since": self.bad_since,
            "bytes": self.nbytes,
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
    activity: Activity | None = None
    """What goes on in it; None where that was not asked for."""
    finished: str | None = None
    """How it ended: completed, failed, cancelled or preempted. None if nobody said so, or commits came after that."""
    finished_ns: int | None = None
    """When that was said, as `time_ns`."""
    nonfinite: int = 0
    """How many of its commits that are not dropped hold NaN or infinities in their state."""
    damaged: int = 0
    """Of how many damage was recorded."""
    health_gate: bool = True
    """Whether `best` and `recovery` pass over commits with NaN or infinities; over damaged ones they always do."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "commits": self.commits,
            "last": self.last.to_dict(),
            "best": None if self.best is None else self.best.to_dict(),
            "rule": self.rule,
            "activity": None if self.activity is None else self.activity.to_dict(),
            "finished": self.finished,
            "finished_at": None if self.finished_ns is None else rfc3339(self.finished_ns),
            "nonfinite": self.nonfinite,
            "damaged": self.damaged,
            "health_gate": self.health_gate,
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
