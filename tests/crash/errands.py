"""Errands: commands between a store and a remote, crashed at every durable call, and what must be true after that.

The store loses its power or meets faults; the remote is another machine, which has what it had taken by then. After
each crash the store opens at a moment that it was to go through, all that it holds reads back, what it acted on is
remembered, its next commit works, and the same command again ends as if nothing had happened.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from casckpt.errors import DamagedLeaf, DamagedObject, RolledBack, StoreExists, StoreNotFound
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId
from casckpt.format.remote import root_key, root_seq
from casckpt.odb import session as sessions
from casckpt.odb.repository import Repository
from casckpt.ops.bundle import bundle_apply, bundle_create
from casckpt.ops.clone import clone
from casckpt.ops.fetch import fetch
from casckpt.ops.fsck import fsck
from casckpt.ops.on_demand import OnDemand, Place
from casckpt.ops.pull import pull
from casckpt.ops.push import push
from casckpt.ops.remote_changes import add_remote
from casckpt.remote import roots, sending
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.view import RemoteView
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Objects, Outcome
from casckpt.store import Store
from tests.crash.calls import RecordedCalls
from tests.crash.faults import Action, FaultyStorage, Killed, at
from tests.crash.faultsweeps import check_error
from tests.crash.powerfail import CrashState, crash_states
from tests.crash.promises import Moment, look, make, same, settled_world, state_of
from tests.crash.recorder import RecordingStorage, Snapshot
from tests.support.buckets import chain, live_packs, newest
from tests.support.remotes import Crash, Crashing, Wrapping

DONE = "done"
TRACKED = "remotes/origin/"
NEXT_STEP = 91
FRAME_BYTES = 200
"""New bytes from here on take a pack, so that a small state does."""
POSITIONS = 3
"""As of `crash_states`."""
Contents = Mapping[str, bytes]


@dataclass(frozen=True)
class Errand:
    """A command, and where a store and its remote are before it.

    Attributes:
        do: the command; done again, it goes on or has nothing to do.
        files: of the store; empty if there is none.
        remote: what the remote holds.
        moments: how many moments the store goes through, the first and the last included.
        quiet: how many of the first ones rest on nothing that the remote says.
        damaged: whether the store is damaged before.
        remembers: whether the store knows the remote from then on.
    """

    do: Callable[[Storage, Objects], object]
    files: Snapshot
    remote: Contents
    moments: int
    quiet: int = 1
    damaged: bool = False
    remembers: bool = True


class Taking(Wrapping):
    """A remote in memory that writes down, among the calls of a store, what it has taken."""

    def __init__(self, inner: MemoryObjects, recording: RecordingStorage) -> None:
        super().__init__(inner)
        self.taken: dict[str, bytes] = {}
        self._recording = recording

    def create(self, key: str, data: Buffer) -> Outcome:
        outcome = super().create(key, data)
        if outcome is Outcome.CREATED:
            self.taken[key] = bytes(data)
            self._recording.mark((key,))
        return outcome


def filled(contents: Contents) -> MemoryObjects:
    """A remote that holds this."""
    objects = MemoryObjects()
    for key, data in contents.items():
        objects.create(key, data)
    return objects


def contents_of(objects: MemoryObjects) -> dict[str, bytes]:
    """All that a remote holds."""
    return {one.key: objects.get(one.key, limit=1 << 30) for one in objects.list("")}


# --- the errands ------------------------------------------------------------------------------------------------------


def do_push(storage: Storage, objects: Objects) -> None:
    push(Repository(storage), objects, "origin", everything=True, concurrency=1)


def do_fetch(storage: Storage, objects: Objects) -> None:
    fetch(Repository(storage), objects, "origin", concurrency=1)


def do_pull(storage: Storage, objects: Objects) -> None:
    pull(Repository(storage), objects, "origin", everything=True, concurrency=1)


def do_clone(storage: Storage, objects: Objects) -> None:
    """Clone, or if that came so far that there is a store with refs of its own, pull."""
    try:
        clone(storage, objects, configure=_configure, concurrency=1)
    except StoreExists:
        do_pull(storage, objects)


def _configure(storage: Storage) -> None:
    add_remote(storage, "origin", "s3://bucket/remote", {}, probe=False, again=True)


def do_look(storage: Storage, objects: Objects) -> None:
    """Read what was freed here and the remote still has."""
    repository = Repository(storage)
    repository.ask(OnDemand(repository, lambda: [Place("origin", lambda: objects, 1)]))
    assert same(Store(repository).checkout("main@step=5"), state_of(5))


def do_repair(storage: Storage, objects: Objects) -> None:
    repository = Repository(storage)
    report = fsck(repository, repair=True, source=RemoteView(objects, RemoteFolder(storage, "origin")))
    assert report.ok, report.findings


@contextmanager
def errands(folder: Path) -> Iterator[dict[str, Errand]]:
    """The errands by name, in a world where all of them can be done.

    Args:
        folder: for the bundle.
    """
    with settled_world(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "FRAME_OBJECT_BYTES", FRAME_BYTES)
        patch.setattr(time, "sleep", lambda seconds: None)
        for module in (roots, sending):
            patch.setattr(module, "_FIRST_PAUSE_S", 0)
        yield _build(folder)


def _build(folder: Path) -> dict[str, Errand]:
    objects, storage = MemoryObjects(), MemoryStorage()
    make(storage)
    store = Store(Repository(storage))
    for step in (1, 5):
        store.commit(state_of(step), step=step)
    new = storage.snapshot()
    do_push(storage, objects)
    half = contents_of(objects)
    pushed = storage.snapshot()
    other = MemoryStorage()
    clone(other, filled(half), concurrency=1)
    store.drop("main@step=1")
    store.commit(state_of(2), step=2)
    store.tag("kept")
    store.commit(state_of(6), step=6, run="side")
    store.set_retention({"keep_last": 5}, run="side")
    before = storage.snapshot()
    interrupted = MemoryStorage(before)
    cut = filled(half)
    try:
        do_push(interrupted, Crashing(cut, 3, is_late=True))
    except Crash:
        assert interrupted.size("remotes/origin/push") is not None
    do_push(storage, objects)
    whole = contents_of(objects)
    store.drop("main@step=5")
    store.gc(now=True)
    freed = storage.snapshot()
    bundle = folder / "bundle"
    bundle_create(Repository(MemoryStorage(before)), bundle, everything=True, since=["main@step=5"])
    return {
        "first push": Errand(do_push, new, {}, 2),
        "push": Errand(do_push, before, half, 2),
        "push again": Errand(do_push, interrupted.snapshot(), contents_of(cut), 2),
        "fetch": Errand(do_fetch, other.snapshot(), whole, 2),
        "pull": Errand(do_pull, other.snapshot(), whole, 3),
        "clone": Errand(do_clone, {}, half, 5, quiet=3),
        "look": Errand(do_look, freed, whole, 2),
        "apply": Errand(
            lambda storage, _: bundle_apply(Repository(storage), bundle), other.snapshot(), {}, 3, remembers=False
        ),
        "repair": Errand(do_repair, without_a_pack(pushed), half, 1, damaged=True),
    }


def without_a_pack(files: Snapshot) -> Snapshot:
    """The files of a store that has lost its last pack."""
    lost = max(name for name in files if name.startswith("packs/"))
    return {name: data for name, data in files.items() if name != lost}


# --- one of them ------------------------------------------------------------------------------------------------------


@dataclass
class Course:
    """An errand that was done without a fault: the calls that it made, what the remote took, and where it ended."""

    errand: Errand
    recording: RecordingStorage
    taken: Contents
    moments: list[Moment]
    commits: Collection[tuple[CommitId, Commit]] = ()
    """All that are known at the end."""
    end: tuple[Any, ...] = ()
    checked: set[int] = field(default_factory=set)
    """Marks of what was checked: files without those that are remembered of remotes, and keys of remotes."""

    @classmethod
    def of(cls, errand: Errand, wrap: Callable[[RecordingStorage], Storage] = lambda recording: recording) -> Course:
        """Do an errand and write down what happens.

        Args:
            wrap: puts something between the store and the recorder.
        """
        inner = MemoryStorage(errand.files)
        recording = RecordingStorage(inner)
        objects = Taking(filled(errand.remote), recording)
        seen: list[Snapshot] = []

        def plan(n: int, call: str, name: str) -> Action | None:
            if call in {"sync", "sync_dir"}:
                seen.append(inner.snapshot())
            return None

        errand.do(FaultyStorage(wrap(recording), plan), objects)
        recording.mark(DONE)
        files = [errand.files, *seen, inner.snapshot()]
        moments = [_moment(MemoryStorage(one)) for one in files]
        made = cls(errand, recording, objects.taken, [one for one, _ in itertools.groupby(moments)])
        assert len(made.moments) == errand.moments, made.moments
        made.commits = tuple(Repository(inner).database.commits())
        made.end = made.ended(inner, objects.inner)
        return made

    def ended(self, storage: MemoryStorage, objects: Objects) -> tuple[Any, ...]:
        """What both sides are, all of it read."""
        self._check_remote(objects)
        repository = Repository(storage)
        check_commits(repository)
        report = fsck(repository, "full" if self.errand.damaged else "quick")
        assert report.ok, report.findings
        assert storage.size("remotes/origin/push") is None, "the journal of a push that is done is left"
        there = newest(objects) if list(objects.list("root/")) else None
        refs = None if there is None else {name: ref.commit for name, ref in there.refs.items()}
        drops = None if there is None else {drop.commit for drop in there.drops}
        return look(repository), refs, drops

    def remote_after(self, acked: tuple[Any, ...]) -> MemoryObjects:
        """The remote when this had been told."""
        keys = [fact[0] for fact in acked if isinstance(fact, tuple)]
        return filled({**self.errand.remote, **{key: self.taken[key] for key in keys}})

    def judge(self, storage: MemoryStorage, objects: MemoryObjects, *, is_done: bool) -> None:
        """Raise for what is broken after a crash, which left this storage and this remote."""
        files = storage.snapshot()
        local = hash((is_done, *((name, data) for name, data in files.items() if not name.startswith("remotes"))))
        now = self._check_store(storage, is_done=is_done, thorough=local not in self.checked)
        self.checked.add(local)
        self._check_remote(objects)
        if self.errand.remembers:
            self._check_tracking(objects, now)
            self._check_alarm(files, objects, now)
        self.errand.do(storage, objects)
        assert self.ended(storage, objects) == self.end, "done again, it ends elsewhere"

    def _check_remote(self, objects: Objects) -> None:
        """Who reads the remote finds it whole; the names of its files tell what is in them, but for the nonces."""
        mark = hash(tuple(one.key for one in objects.list("")))
        if mark not in self.checked and list(objects.list("root/")):
            live_packs(objects)
            check_commits(clone(MemoryStorage(), objects, concurrency=1)[0])
        self.checked.add(mark)

    def _check_store(self, storage: MemoryStorage, *, is_done: bool, thorough: bool) -> Moment | None:
        moments = self.moments[-1:] if is_done else self.moments
        now = _moment(storage)
        assert now in moments, f"the store is at {now}, which is none of {moments}"
        if now is None or not thorough:
            return now
        copy = MemoryStorage(storage.snapshot())
        repository = Repository(copy)
        check_commits(repository, is_damaged=self.errand.damaged and not is_done)
        if not self.errand.damaged or is_done:
            report = fsck(repository)
            assert report.ok, report.findings
        Store(repository).commit(state_of(NEXT_STEP), step=NEXT_STEP, run="next")
        assert same(Store(Repository(copy)).checkout("next"), state_of(NEXT_STEP))
        assert copy.list("tmp") == [], "a new session left an unfinished file"
        return now

    def _check_tracking(self, objects: MemoryObjects, now: Moment | None) -> None:
        """Where a store believes refs of the remote to be they are, or were."""
        refs = dict(() if now is None else now.refs)
        tracked = {name.removeprefix(TRACKED): step for name, step in refs.items() if name.startswith(TRACKED)}
        steps = {identity: commit.step for identity, commit in self.commits}
        were = [{name: steps.get(ref.commit) for name, ref in root.refs.items()} for root in chain(objects)]
        assert not tracked or tracked in were, f"{tracked} was never what the remote has"

    def _check_alarm(self, files: Snapshot, objects: MemoryObjects, now: Moment | None) -> None:
        """What the store acted on it remembers: a remote that was set back before it is told from one that was not."""
        roots = [root_seq(one.key) for one in objects.list("root/")]
        own = [seq for seq in roots if root_key(seq) not in self.errand.remote]
        acted = max(own, default=1) - 1 if now in self.moments[: self.errand.quiet] else max(roots)
        if acted:
            older = filled({key: data for key, data in contents_of(objects).items() if key < root_key(acted)})
            older.delete([one.key for one in older.list("root/") if root_seq(one.key) >= acted])
            try:
                RemoteView(older, RemoteFolder(MemoryStorage(files), "origin")).refresh()
            except RolledBack:
                return
            raise AssertionError(f"it acted on root {acted}, and does not remember it")


def _moment(storage: MemoryStorage) -> Moment | None:
    """Where a store is, None if there is none."""
    try:
        return look(Repository(storage))
    except StoreNotFound:
        return None


def check_commits(repository: Repository, *, is_damaged: bool = False) -> None:
    """Every commit that was not dropped checks out; one that is damaged may not, and is nothing else either."""
    repository.database.refresh()
    store = Store(repository)
    for identity, commit in repository.database.commits():
        if repository.database.drop(identity) is not None:
            continue
        try:
            found = store.checkout(identity.hex())
        except (DamagedObject, DamagedLeaf):
            assert is_damaged, f"step {commit.step} cannot be read"
        else:
            assert same(found, state_of(commit.step or 0)), f"step {commit.step} is not what it was"


def losses(recording: RecordingStorage | RecordedCalls) -> Iterator[CrashState]:
    """What a power loss may leave of a store in either model, each state once."""
    seen: set[int] = set()
    for model in ("strict", "ordered"):
        for state in crash_states(
            recording.base, recording.operations, model=model, random_subsets=1, positions=POSITIONS
        ):
            key = hash((state.acked, *state.files.items()))
            if key not in seen:
                seen.add(key)
                yield state


def power_failures(course: Course, *, enough: int | None = None) -> tuple[int, list[str]]:
    """Cut the power at every moment of an errand; how many states there were, and what was broken.

    Args:
        enough: violations after which nothing more is looked at.
    """
    count, found = 0, list[str]()
    for state in losses(course.recording):
        count += 1
        try:
            course.judge(MemoryStorage(state.files), course.remote_after(state.acked), is_done=DONE in state.acked)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error} [{state.description}]")
            if enough is not None and len(found) >= enough:
                break
    return count, found


def second_power_failures(course: Course, *, count: int, parts: int, seed: int = 0) -> tuple[int, list[str]]:
    """Cut the power during an errand, and again while it is done once more.

    Args:
        count: of first cuts, drawn by `seed` from those that came before its end.
        parts: one in so many of the states that the second cuts left is looked at.
    """
    firsts = [state for state in losses(course.recording) if DONE not in state.acked]
    number, found = 0, list[str]()
    for first in random.Random(seed).sample(firsts, count):
        recording = RecordingStorage(MemoryStorage(first.files))
        before = contents_of(course.remote_after(first.acked))
        objects = Taking(filled(before), recording)
        course.errand.do(recording, objects)
        recording.mark(DONE)
        for state in losses(recording):
            number += 1
            if number % parts:
                continue
            remote = filled({**before, **{fact[0]: objects.taken[fact[0]] for fact in state.acked if fact != DONE}})
            try:
                course.judge(MemoryStorage(state.files), remote, is_done=DONE in state.acked)
            except Exception as error:
                text = f"{type(error).__name__}: {error} [{state.description}; before that, {first.description}]"
                found.append(text)
    return number, found


def faults(course: Course, action: Action) -> tuple[int, list[str]]:
    """Let each durable call of an errand fail; how many there were, and what was broken."""
    storage = FaultyStorage(MemoryStorage(course.errand.files))
    course.errand.do(storage, filled(course.errand.remote))
    found: list[str] = []
    for number, call in enumerate(storage.calls, 1):
        inner, objects = MemoryStorage(course.errand.files), filled(course.errand.remote)
        raised: BaseException | None = None
        try:
            try:
                course.errand.do(FaultyStorage(inner, at(number, action)), objects)
            except (Exception, Killed) as error:
                raised = error
            check_error(raised, action)
            course.judge(inner, objects, is_done=raised is None)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error} [{action} at call {number}, {call}]")
    return len(storage.calls), found


def bundle_power_failures(files: Snapshot, folder: Path, *, old: bytes | None) -> tuple[int, list[str]]:
    """Cut the power while a bundle is made; how many states there were, and in which it is neither whole nor `old`.

    Args:
        files: of the store.
        folder: an empty place for the bundle.
        old: what had its name before.
    """
    place = folder / "place"
    place.mkdir()
    if old is not None:
        (place / "bundle").write_bytes(old)
    calls = RecordedCalls(place)
    with calls.watched():
        bundle_create(Repository(MemoryStorage(files)), place / "bundle", everything=True, replace=old is not None)
    calls.mark(DONE)
    new = (place / "bundle").read_bytes()
    states = list(losses(calls))
    found = [
        state.description
        for state in states
        if state.files.get("bundle") not in ((new,) if DONE in state.acked else (old, new))
    ]
    return len(states), found
