"""drill: can what is on a remote be restored? Random commits are read from it as a restore would, and thrown away.

newest root -> commits that its refs lead to and that were not dropped -> some of them at random -> every object read,
compared with its id and with what the commit says of it

Nothing of it comes from the local store, and nothing is written: a store that lost everything reads the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, NamedTuple

from casckpt.errors import CasckptError, RemoteNotFound, UsageError
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, ObjectId
from casckpt.ops.line import line
from casckpt.ops.remote_contents import Checked, RemoteContents, commit_ids
from casckpt.ops.values import Progress
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.reading import CONCURRENCY, RemoteReader
from casckpt.remote.salvage import UNREADABLE, readable
from casckpt.remote.view import RemoteView
from casckpt.storage.metered import Metered
from casckpt.storage.objects import Objects
from casckpt.units import rfc3339

COMMITS = 3
"""How many commits are drawn unless told otherwise."""
_SEED_BYTES = 4
_AT_ONCE = 500
"""Commit objects that are in memory at a time."""


class _Known(NamedTuple):
    """What is kept of every commit of a remote."""

    parents: tuple[CommitId, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class DrilledCommit:
    """What came of one commit. `run`, `step` and `time_ns` are None if its own object could not be read."""

    id: str
    run: str | None
    step: int | None
    time_ns: int | None
    objects: int
    nbytes: int
    """Plain bytes that were read and compared; what earlier commits of the drill share is not read again."""
    problem: str | None
    """Why it cannot be restored, None if it can."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "run": self.run,
            "step": self.step,
            "time": None if self.time_ns is None else rfc3339(self.time_ns),
            "objects": self.objects,
            "bytes": self.nbytes,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class DrillReport:
    """Which commits of a remote were tried, and whether all of them came back."""

    remote: str
    root: int
    """Number of the root that was looked at."""
    seed: int
    """Gives the same commits again, as long as the remote has the same."""
    whole: int
    """Commits of the remote that may be drawn: those that its refs lead to and that were not dropped, and those whose
    own object cannot be read."""
    commits: tuple[DrilledCommit, ...]
    seconds: float
    requests: Mapping[str, int] = field(default_factory=dict)
    """By class: `put`, `get`, `list`, `head`, `delete`."""
    up: int = 0
    """Bytes that were sent in all."""
    down: int = 0
    """Bytes that came in all."""
    cost: float | None = None
    """About what that costs in dollars; None where nobody knows a price."""

    @property
    def ok(self) -> bool:
        return all(one.problem is None for one in self.commits)

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in self.commits)

    @property
    def objects(self) -> int:
        return sum(one.objects for one in self.commits)

    def to_dict(self) -> dict[str, Any]:
        return {
            "remote": self.remote,
            "root": self.root,
            "ok": self.ok,
            "seed": self.seed,
            "whole": self.whole,
            "commits": [one.to_dict() for one in self.commits],
            "objects": self.objects,
            "bytes": self.nbytes,
            "seconds": self.seconds,
            **line(self),
        }


def drill(
    objects: Objects,
    folder: RemoteFolder | None = None,
    *,
    commits: int | None = COMMITS,
    seed: int | None = None,
    concurrency: int = CONCURRENCY,
    progress: Progress | None = None,
) -> DrillReport:
    """Restore random commits of a remote into nothing, every byte compared with its id.

    Args:
        objects: the remote.
        folder: what the store remembers of it, which saves requests; None to remember nothing.
        commits: how many to draw; None for all.
        seed: draws the same commits again; None for a new one, which the report tells.
        progress: hears of the plain bytes of the commits drawn.

    Returns:
        What came of each. That a commit cannot be restored is told there and raises nothing.

    Raises:
        UsageError: `commits` is not positive.
        RemoteNotFound: nothing was ever pushed there.
        RolledBack, RemoteUntrusted: the root or its segments are not what they can be.
        RemoteUnavailable, RemoteDenied: the remote could not be read.

    Cost: the bytes of these commits once, those they share once in all; and the objects of all commits, which are
    small. Memory: as `RemoteReader`, and 64 MB.
    """
    if commits is not None and commits < 1:
        raise UsageError(problem=f"a drill needs at least one commit, not {commits}")
    started = time.monotonic()
    metered = Metered(objects)
    view = RemoteView(metered, folder)
    root = view.refresh()
    if root is None:
        raise RemoteNotFound(remote=objects.url, problem="nothing was pushed there yet")
    seed = int.from_bytes(os.urandom(_SEED_BYTES), "little") if seed is None else seed
    reader = RemoteReader(view, concurrency=concurrency)
    drops = {drop.commit: drop for drop in root.drops}
    problems: dict[ObjectId, str] = {}
    known = _known(view, reader, problems)
    reached = _reached((ref.commit for ref in root.refs.values()), known, problems)
    chosen = sorted(one for one in reached if one not in drops or drops[one].parts is not None)
    whole = len(chosen)
    if commits is not None and commits < whole:
        chosen = Random(seed).sample(chosen, commits)
    meter = _Meter(progress, sum(known[one].nbytes for one in chosen if one in known))
    contents = RemoteContents(view, reader, meter.advance)
    done: list[DrilledCommit] = []
    for identity, commit in _read(reader, chosen, known, problems):
        if commit is None:
            problem = problems.get(identity, "a ref names it, and no pack holds it")
            done.append(DrilledCommit(identity.hex(), None, None, None, 0, 0, problem))
        else:
            done.append(_checked(contents, identity, commit, drops.get(identity)))
            meter.finish(commit.nbytes)
    return DrillReport(
        remote=objects.url,
        root=root.seq,
        seed=seed,
        whole=whole,
        commits=tuple(done),
        requests=dict(metered.traffic.requests),
        down=metered.traffic.down,
        seconds=time.monotonic() - started,
    )


def _known(view: RemoteView, reader: RemoteReader, problems: dict[ObjectId, str]) -> dict[CommitId, _Known]:
    """All commits whose objects can be read; `problems` gains what is wrong with the others."""
    found: dict[CommitId, _Known] = {}
    for one in readable(reader, commit_ids(view), partial(_note, problems)):
        try:
            commit = Commit.decode(one.plain())
        except UNREADABLE as error:
            _note(problems, one.record.id, error)
        else:
            found[CommitId(one.record.id)] = _Known(commit.parents, commit.nbytes)
    return found


def _note(problems: dict[ObjectId, str], identity: ObjectId, error: CasckptError) -> None:
    problems[identity] = _said(error)


def _reached(tips: Iterable[CommitId], known: Mapping[CommitId, _Known], problems: Iterable[ObjectId]) -> set[CommitId]:
    """The commits that refs lead to; a parent that is not listed ends the way.

    Those that are listed and cannot be read count among them, since nobody knows which of them lead to which.
    """
    unreadable = set(map(CommitId, problems))
    found: set[CommitId] = set()
    waiting = [*tips, *unreadable]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            parents = known[one].parents if one in known else ()
            waiting += [parent for parent in parents if parent in known]
    return found


def _read(
    reader: RemoteReader, ids: Sequence[CommitId], known: Container[CommitId], problems: dict[ObjectId, str]
) -> Iterator[tuple[CommitId, Commit | None]]:
    """Commits in this order, None for those that cannot be read."""
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        wanted = [one for one in some if one in known]
        found = {one.record.id: one.plain() for one in readable(reader, wanted, partial(_note, problems))}
        yield from ((one, Commit.decode(found[one]) if one in found else None) for one in some)


def _checked(contents: RemoteContents, identity: CommitId, commit: Commit, drop: Drop | None) -> DrilledCommit:
    checked, problem = Checked(0, 0), None
    try:
        checked = contents.check(identity, commit, () if drop is None or drop.parts is None else drop.parts)
    except UNREADABLE as error:
        problem = _said(error)
    row = commit.run, commit.step, commit.time_ns
    return DrilledCommit(identity.hex(), *row, checked.objects, checked.nbytes, problem)


def _said(error: CasckptError) -> str:
    """What an error says, without its advice: that is for whoever reads the whole report."""
    return "; ".join(part for part in (error.summary, error.reason) if part)


class _Meter:
    """Progress over commits of which only what is new is read: a commit is done when it is finished."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._before = self._within = 0

    def advance(self, nbytes: int) -> None:
        """Take in that so many bytes of the current commit were read."""
        self._within += nbytes
        self._tell(self._before + self._within)

    def finish(self, nbytes: int) -> None:
        """Take in that the current commit, of so many bytes, is done."""
        self._before += nbytes
        self._within = 0
        self._tell(self._before)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(done, self._total), self._total)
