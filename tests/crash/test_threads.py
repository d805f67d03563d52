"""A commit of several threads is interrupted, cancelled, or fails in one of them: nothing of it is left behind.

No thread, no lock and no unfinished file stays, the refs have not moved (or the commit is complete), and the same
store object goes on: it takes the very state that failed, and what it stores then is whole.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from casckpt.errors import StorageError, StoreFull
from casckpt.format.codec import Codec
from casckpt.format.ids import Kind
from casckpt.odb import pipeline
from casckpt.odb.repository import Repository
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage, _FaultyWriteFile, never
from tests.crash.promises import check_store, settled_world, state_of
from tests.crash.sweeps import record
from tests.crash.workloads import threaded

T = TypeVar("T")

THREADS = [1, 2, 4]
two_threads = pytest.mark.parametrize("threads", [2], indirect=True)
STEP = 301


class Cancelled(Exception):
    """Somebody pressed a button."""


class Odd(BaseException):
    """Nothing that anybody expects."""


class Scene:
    """A store with one commit, and another commit that something happens to."""

    def __init__(self, threads: int) -> None:
        workload = threaded(threads)
        self.moments = workload.moments()[:2]
        self.storage = MemoryStorage(workload.base())
        self.before = set(threading.enumerate())

    def open(self, storage: Storage | None = None) -> Store:
        return Store(Repository(storage or self.storage))

    def check(self, store: Store, *, complete: bool | None = None) -> None:
        """Nothing is left of a commit that ended early, and the next ones work.

        Args:
            complete: whether it got its effect all the same; None for either.
        """
        assert set(threading.enumerate()) <= self.before, "a thread is left"
        assert self.storage.list("tmp") == [], "an unfinished file is left"
        assert not any(self.storage._locks.values()), "a lock is left"
        moments = self.moments if complete is None else self.moments[complete : complete + 1]
        # Where the commit is missing, this makes it, under another name.
        check_store(store._repository, [*moments, self.moments[1]], first=0, depth="full")
        assert self.storage.list("tmp") == []


def commit(store: Store, **words: Any) -> None:
    store.commit(state_of(STEP), step=STEP, compress="always", **words)


@pytest.fixture(params=THREADS)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with settled_world(threaded(request.param)):
        yield request.param


def test_the_durable_calls_come_in_the_same_order_however_many_threads_there_are() -> None:
    recordings = []
    for threads in (1, 2, 4, 4):
        with settled_world(threaded(threads)):
            recordings.append(record(threaded(threads)).operations)
    assert all(operations == recordings[0] for operations in recordings)


def test_the_workload_has_what_it_is_for() -> None:
    """Several packs and tasks a commit, and chunks that are new, known, equal, encoded and raw."""
    tasks: list[int] = []
    inner = pipeline._Task.run

    def run(self: Any, pieces: Any) -> Any:
        tasks.append(len(pieces))
        return inner(self, pieces)

    with settled_world(threaded(2)), pytest.MonkeyPatch.context() as patch:
        scene = Scene(2)
        store = scene.open()
        database = store._repository.database
        packs = set(database.pack_set())
        patch.setattr(pipeline._Task, "run", run)
        commit(store)
        added = [database.packs.contents(pack.id) for pack in set(database.pack_set()) - packs]
    assert len(added) >= 3
    assert len(tasks) >= 7
    assert max(tasks) >= 2
    records = [record for contents in added for record in contents.records]
    codecs = {record.codec for record in records if record.kind == Kind.CHUNK}
    assert Codec.RAW in codecs and len(codecs) >= 2
    new = sum(record.length for record in records)
    assert new < sum(scene_bytes(state_of(STEP))) / 2


def scene_bytes(state: Any) -> Iterator[int]:
    for value in state.values():
        if isinstance(value, dict):
            yield from scene_bytes(value)
        else:
            yield getattr(value, "nbytes", 0)


# --- the one who commits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, Cancelled])
def test_an_error_out_of_progress_cancels_the_commit_at_every_step(threads: int, error: type[BaseException]) -> None:
    scene = Scene(threads)
    steps: list[int] = []
    commit(scene.open(), progress=lambda done, total: steps.append(done))
    assert len(steps) >= 6
    for number in range(1, len(steps) + 1):
        scene = Scene(threads)
        calls = itertools.count(1)

        def progress(done: int, total: int, number: int = number, calls: Iterator[int] = calls) -> None:
            if next(calls) == number:
                raise error

        store = scene.open()
        with pytest.raises(error):
            commit(store, progress=progress)
        scene.check(store, complete=False)


class Interrupted(FaultyStorage):
    """Raises KeyboardInterrupt when one changing call is about to be made, or was made just now."""

    def __init__(self, inner: Storage, number: int, *, late: bool) -> None:
        super().__init__(inner)
        self.number = number
        self.late = late

    def perform(
        self,
        call: str,
        name: str,
        effect: Callable[[], T],
        part: Callable[[], T] | None = None,
        lose: Callable[[], object] | None = None,
    ) -> T:
        with self._mutex:
            meant = len(self.calls) + 1 == self.number
            if meant and not self.late:
                self.calls.append(f"{call} {name}")
                raise KeyboardInterrupt
            result = super().perform(call, name, effect, part, lose)
            if meant:
                if isinstance(result, _FaultyWriteFile):
                    result.close()
                raise KeyboardInterrupt
            return result


@pytest.mark.parametrize("late", [False, True])
@two_threads
def test_an_interrupt_at_any_durable_call_leaves_nothing_or_the_whole_commit(threads: int, late: bool) -> None:
    for number in itertools.count(1):
        scene = Scene(threads)
        storage = Interrupted(scene.storage, number, late=late)
        store = scene.open(storage)
        try:
            commit(store)
        except KeyboardInterrupt:
            pass
        else:
            break
        if late and storage.calls[number - 1].startswith("create "):
            # Nobody has heard of that file yet; the next process takes it for what the dead left.
            Repository(scene.storage).session()
        scene.check(store)
    assert number > 30


# --- a worker ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError, Odd])
@pytest.mark.parametrize("late", [False, True])
def test_a_worker_that_fails_at_any_task_ends_the_commit(
    threads: int, error: type[BaseException], late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`late`: when it has claimed its chunks, so that a later look would take them for stored."""
    inner = pipeline._Task.run
    for number in itertools.count(1):
        scene = Scene(threads)
        tasks = itertools.count(1)

        def run(self: Any, pieces: Any, number: int = number, tasks: Iterator[int] = tasks) -> Any:
            meant = next(tasks) == number
            if meant and not late:
                raise error
            staged = inner(self, pieces)
            if meant:
                raise error
            return staged

        store = scene.open()
        with monkeypatch.context() as patch:
            patch.setattr(pipeline._Task, "run", run)
            try:
                commit(store)
            except error:
                pass
            else:
                break
        scene.check(store, complete=False)
    assert number > 7


# --- the disk ---------------------------------------------------------------------------------------------------------


class Filling(FaultyStorage):
    """A disk with so many bytes left, to which nothing is given back."""

    def __init__(self, inner: Storage, left: int) -> None:
        super().__init__(inner)
        self.left = left
        self.plan = self._full

    def _full(self, n: int, call: str, name: str) -> Action | None:
        if call != "write_at":
            return None
        self.left -= 4096
        return "enospc" if self.left < 0 else None


def test_a_disk_that_is_full_in_the_middle_of_a_pack_is_the_end_of_that_commit_alone(threads: int) -> None:
    for writes in range(0, 40, 2):
        scene = Scene(threads)
        storage = Filling(scene.storage, writes * 4096)
        store = scene.open(storage)
        try:
            commit(store)
        except StoreFull:
            # It stays full: the next one fails in the same way, and leaves as little.
            with pytest.raises(StoreFull):
                commit(store)
        else:
            break
        storage.plan = never
        scene.check(store, complete=False)
    assert writes > 12


@pytest.mark.parametrize("error", [Odd, MemoryError])
@two_threads
def test_whatever_the_writing_thread_dies_of_ends_the_commit(threads: int, error: type[BaseException]) -> None:
    for number in itertools.count(1):
        scene = Scene(threads)
        storage = FaultyStorage(scene.storage)
        writes = itertools.count(1)

        def plan(n: int, call: str, name: str, number: int = number, writes: Iterator[int] = writes) -> Action | None:
            if call == "write_at" and name.startswith("tmp/pack") and next(writes) == number:
                raise error
            return None

        storage.plan = plan
        store = scene.open(storage)
        try:
            commit(store)
        except error:
            pass
        else:
            break
        scene.check(store, complete=False)
    assert number > 10


@two_threads
def test_a_writing_thread_that_runs_out_of_memory_between_two_writes_ends_the_commit(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casckpt.odb.staging import BlockWriter

    inner = BlockWriter._do
    for number in itertools.count(1):
        scene = Scene(threads)
        blocks = itertools.count(1)

        def do(self: BlockWriter, block: Any, number: int = number, blocks: Iterator[int] = blocks) -> None:
            if next(blocks) == number:
                raise MemoryError
            inner(self, block)

        store = scene.open()
        with monkeypatch.context() as patch:
            patch.setattr(BlockWriter, "_do", do)
            try:
                commit(store)
            except MemoryError:
                pass
            else:
                break
        scene.check(store, complete=False)
    assert number > 10


# --- and back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, Odd, StorageError])
def test_an_error_in_any_worker_of_a_checkout_is_what_the_caller_gets(
    threads: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    from casckpt.odb.fetch import _Fetcher

    scene = Scene(threads)
    store = scene.open()
    inner = _Fetcher.run
    for number in itertools.count(1):
        tasks = itertools.count(1)

        def run(self: Any, task: Any, number: int = number, tasks: Iterator[int] = tasks) -> None:
            if next(tasks) == number:
                raise error
            inner(self, task)

        with monkeypatch.context() as patch:
            patch.setattr(_Fetcher, "run", run)
            try:
                store.checkout()
            except error:
                pass
            else:
                break
        assert set(threading.enumerate()) <= scene.before
    assert number > 3
    scene.check(store, complete=False)
