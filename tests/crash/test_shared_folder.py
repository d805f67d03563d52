"""The machine that holds a shared folder loses its power: no push that was acknowledged is lost, and nobody is misled.

Who pushes and who reads are other machines, which remember what they saw. After every power loss of the folder's own
machine each of them goes on: what it was told is there, what it reads is right, and its next push works.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from casckpt.errors import RemoteUnavailable
from casckpt.odb.repository import Repository
from casckpt.ops.clone import clone
from casckpt.ops.fetch import fetch
from casckpt.ops.push import push
from casckpt.ops.remote_gc import remote_gc
from casckpt.plan.policy import Retention
from casckpt.remote import roots, sending
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.view import RemoteView
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.calls import RecordedCalls
from tests.crash.folders import ram_folder, write_tree
from tests.crash.powerfail import crash_states
from tests.crash.promises import Moment, look, make, same, settled_world, state_of
from tests.crash.recorder import Snapshot
from tests.support.buckets import live_packs, newest

NEXT_STEPS = {"a": 90, "b": 91}


class Told(NamedTuple):
    """What a machine was when it was told something."""

    name: str
    files: Snapshot
    mark: int
    """Of the files."""
    pushed: int
    """The step that it knows to be on the remote, 0 for none. Those of a machine grow."""


class Machines:
    """Stores on machines of their own, whose remote is one folder on another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Told] = []
        self.mark: Callable[[int], None] = lambda number: None
        """Called with the number of what was told."""
        self._stores: dict[str, MemoryStorage] = {}
        self._pushed: dict[str, int] = {}

    def _repository(self, name: str) -> Repository:
        """Of a machine, opened by a new process."""
        if name not in self._stores:
            self._stores[name] = MemoryStorage()
            make(self._stores[name])
        return Repository(self._stores[name])

    def commit(self, name: str, step: int) -> None:
        """Commit to the run that is called like the machine."""
        Store(self._repository(name)).commit(state_of(step), step=step, run=name)
        self._tell(name)

    def push(self, name: str) -> None:
        """Push all that is new, once more if it fails."""
        repository = self._repository(name)
        try:
            push(repository, FolderObjects(self.folder), "origin", concurrency=1)
        except RemoteUnavailable:
            push(repository, FolderObjects(self.folder), "origin", concurrency=1)
        self._pushed[name] = Store(repository).show(name).step or 0
        self._tell(name)

    def fetch(self, name: str) -> None:
        """Fetch everything."""
        fetch(self._repository(name), FolderObjects(self.folder), "origin")
        self._tell(name)

    def collect(self, name: str) -> None:
        """Free what nothing needs."""
        repository = self._repository(name)
        view = RemoteView(FolderObjects(self.folder), RemoteFolder(repository.storage, "origin"))
        assert remote_gc(repository.database, view, Retention(keep_last=1), now=True).removed
        self._tell(name)

    def _tell(self, name: str) -> None:
        files = self._stores[name].snapshot()
        self.told.append(Told(name, files, hash(tuple(files.items())), self._pushed.get(name, 0)))
        self.mark(len(self.told) - 1)


@contextmanager
def machines() -> Iterator[Machines]:
    """Machines around an empty folder, where nobody waits for anything."""
    with settled_world(), ram_folder() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (roots, sending):
            patch.setattr(module, "_FIRST_PAUSE_S", 0)
        patch.setattr(time, "sleep", lambda seconds: None)
        (folder / "shared").mkdir()
        yield Machines(folder / "shared")


# --- what is looked at ------------------------------------------------------------------------------------------------


def judge(files: Snapshot, latest: Mapping[str, Told], place: Path) -> None:
    """Let everybody go on with a folder after a power loss.

    Args:
        latest: what the machines are, by their names.
    """
    objects = FolderObjects(write_tree(place, files))
    pushed = {f"runs/{name}/last": one.pushed for name, one in latest.items() if one.pushed}
    for one in latest.values():
        storage = MemoryStorage(one.files)
        fetch(Repository(storage), objects, "origin")
        seen = check_whole(Repository(storage))
        check_refs({ref.removeprefix("remotes/origin/"): step for ref, step in seen.refs}, pushed)
    check_reader(objects, pushed)
    for name, one in latest.items():
        store = Store(Repository(MemoryStorage(one.files)))
        step = NEXT_STEPS[name]
        store.commit(state_of(step), step=step, run=name)
        push(store._repository, FolderObjects(place), "origin", [name])
        there = newest(objects).refs[f"runs/{name}/last"].commit.hex()
        assert there == store.show(name).id, f"the next push of {name} did not arrive"
    if latest:
        live_packs(objects)


def check_reader(objects: FolderObjects, pushed: Mapping[str, int]) -> None:
    """A machine that knew nothing finds what was pushed, and everything that it finds is whole."""
    if not list(objects.list("root/")):
        assert not pushed, "all that was pushed is gone"
        return
    live_packs(objects)
    found = check_whole(clone(MemoryStorage(), objects)[0])
    check_refs(dict(found.refs), pushed)
    assert newest(objects).refs.keys() == {name for name, _ in found.refs if not name.startswith("remotes/")}


def check_whole(repository: Repository) -> Moment:
    """Every commit that was not dropped checks out; the moment at which the store is."""
    store, now = Store(repository), look(repository)
    for identity, commit in repository.database.commits():
        assert repository.database.drop(identity) or same(store.checkout(identity.hex()), state_of(commit.step or 0))
    return now


def check_refs(refs: Mapping[str, int | None], pushed: Mapping[str, int]) -> None:
    """Refs are where they were pushed to, or further."""
    for ref, step in pushed.items():
        assert (refs.get(ref) or 0) >= step, f"step {step} was pushed as {ref}, which is at {refs.get(ref)}"


def losses(
    before: Callable[[Machines], object],
    then: Callable[[Machines], object],
    meanwhile: Callable[[Machines], object] | None = None,
    *,
    enough: int | None = None,
) -> tuple[int, list[str]]:
    """Cut the power of the folder at every moment of something.

    Args:
        meanwhile: done before the first flush of a folder, and all over again before the second, and so on.
        enough: violations after which nothing more is looked at.

    Returns:
        How many states there were, and what was broken in them.
    """
    count, found, seen = 0, list[str](), set[int]()
    for at in itertools.count():
        with machines() as world:
            before(world)
            calls = RecordedCalls(world.folder)
            for number in range(len(world.told)):
                calls.mark(number)
            world.mark = calls.mark
            start, flushes = len(calls.operations), itertools.count()

            def hook(world: Machines = world, at: int = at, flushes: Iterator[int] = flushes) -> None:
                if next(flushes) == at and meanwhile is not None:
                    meanwhile(world)

            calls.before_flush = hook
            with calls.watched():
                then(world)
            for model in ("strict", "ordered"):
                for state in crash_states(calls.base, calls.operations, model=model, start=start):
                    acked = (world.told[number] for number in state.acked if isinstance(number, int))
                    latest = {one.name: one for one in acked}
                    key = hash((*(one.mark for one in latest.values()), *state.files.items()))
                    if key in seen:
                        continue
                    seen.add(key)
                    count += 1
                    try:
                        with ram_folder() as place:
                            judge(state.files, latest, place)
                    except Exception as error:
                        found.append(f"{type(error).__name__}: {error} [{state.description}; flush {at}]")
                        if enough is not None and len(found) >= enough:
                            return count, found
        if meanwhile is None or at >= next(flushes):
            break
    return count, found


# --- what happens -----------------------------------------------------------------------------------------------------


def nothing(world: Machines) -> None:
    """The folder is empty, and nobody has seen it."""


def pushed_before(world: Machines) -> None:
    world.commit("a", 1)
    world.push("a")
    world.fetch("b")
    world.commit("a", 3)


def dropped_before(world: Machines) -> None:
    """Of two commits there the first is to go."""
    pushed_before(world)
    world.push("a")


def first_push(world: Machines) -> None:
    world.commit("a", 1)
    world.push("a")


def next_push(world: Machines) -> None:
    world.push("a")


def collection(world: Machines) -> None:
    world.collect("a")


def fetch_of_another(world: Machines) -> None:
    world.fetch("b")


def flush_that_fails(world: Machines) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


SCENES = {
    "first push": (nothing, first_push),
    "next push": (pushed_before, next_push),
    "collection": (dropped_before, collection),
}


@pytest.mark.parametrize("name", SCENES)
def test_a_power_loss_of_the_folder_takes_no_push_that_was_acknowledged(name: str) -> None:
    count, found = losses(*SCENES[name])
    print(f"{name}: {count} distinct states")
    assert found == []
    assert count >= 8


@pytest.mark.parametrize(
    ("name", "meanwhile"),
    [
        ("next push", fetch_of_another),
        ("first push", flush_that_fails),
        ("next push", flush_that_fails),
    ],
)
def test_a_power_loss_takes_nothing_that_somebody_was_told_meanwhile(
    name: str, meanwhile: Callable[[Machines], object]
) -> None:
    count, found = losses(*SCENES[name], meanwhile)
    print(f"{name}, {meanwhile.__name__}: {count} distinct states")
    assert found == []
    assert count >= 20
