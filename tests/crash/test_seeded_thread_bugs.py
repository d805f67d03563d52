"""The sweeps can fail where threads are concerned: each rule of the pipeline that is broken on purpose is noticed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from casckpt.errors import StateChanged
from casckpt.odb import pipeline
from casckpt.odb.pack_writer import PackWriter
from casckpt.odb.pipeline import Pipeline
from casckpt.odb.repository import Repository
from casckpt.odb.staging import BlockWriter
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage
from tests.crash.faultsweeps import fault_sweep
from tests.crash.promises import check_commits, look, settled_world, state_of
from tests.crash.seeded import Bug, assert_caught
from tests.crash.sweeps import power_failures
from tests.crash.workloads import WORKLOADS, threaded

PAUSES_S = (0.005, 0.02, 0.08)
STEP = 301


# --- the sweeps and scenes --------------------------------------------------------------------------------------------


def power() -> list[str]:
    return power_failures(WORKLOADS["threads 2"], positions=6, parts=31, enough=1)[1]


def failing_writes() -> list[str]:
    return fault_sweep(WORKLOADS["threads 2"], "eio", only=lambda call: call.startswith("write_at tmp/pack"), enough=1)[
        1
    ]


def commit_and_look(store: Store) -> None:
    """Commit; everything in the store is then as it went in."""
    store.commit(state_of(STEP), step=STEP, compress="always")
    again = Repository(store._repository.storage)
    now = look(again)
    assert now.steps == {300, STEP}
    check_commits(again, now)
    report = Store(again).fsck("full")
    assert report.ok, [(found.what, found.where, found.leaf) for found in report.findings]


def slow_disk() -> list[str]:
    """Every write of a pack takes longer than it takes the workers to fill a buffer again, also on a busy machine."""
    return next(filter(None, map(_slow_disk, PAUSES_S)), [])


def _slow_disk(pause_s: float) -> list[str]:
    def plan(n: int, call: str, name: str) -> Action | None:
        if call == "write_at" and name.startswith("tmp/pack"):
            threading.Event().wait(pause_s)
        return None

    with settled_world(threaded(2)):
        storage = FaultyStorage(MemoryStorage(threaded(2).base()), plan)
        try:
            commit_and_look(Store(Repository(storage)))
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return []


def failing_worker() -> list[str]:
    """A worker fails once, when it has claimed all its chunks: the commit ends, or it is whole."""
    inner = pipeline._Task.run
    found = []
    with settled_world(threaded(2)):
        base = threaded(2).base()
        for number in range(1, 8):
            tasks = itertools.count(1)

            def run(self: Any, pieces: Any, number: int = number, tasks: Iterator[int] = tasks) -> Any:
                staged = inner(self, pieces)
                if next(tasks) == number:
                    raise InterruptedError
                return staged

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pipeline._Task, "run", run)
                try:
                    commit_and_look(Store(Repository(MemoryStorage(base))))
                except InterruptedError:
                    pass
                except Exception as error:
                    found.append(f"{type(error).__name__}: {error}")
    return found


def changing_state() -> list[str]:
    """Somebody writes to a leaf between the look at it and the copy: nothing is committed under a wrong id."""
    inner = pipeline.object_id
    with settled_world(threaded(2)), pytest.MonkeyPatch.context() as patch:
        store = Store(Repository(MemoryStorage(threaded(2).base())))
        known = state_of(300)["model"]["a"]
        leaf = np.arange(300 << 8, dtype="<i4")
        store.commit({"known": known})

        def object_id(kind: Any, data: Any) -> Any:
            identity = inner(kind, data)
            if np.shares_memory(np.frombuffer(data, np.uint8), leaf):
                leaf[7] += 1
            return identity

        patch.setattr(pipeline, "object_id", object_id)
        try:
            store.commit({"known": known, "new": leaf})
        except StateChanged:
            return []
        report = store.fsck("full")
        return [f"{found.what} {found.where}" for found in report.findings]


# --- the bugs ---------------------------------------------------------------------------------------------------------


def buffer_released_early(patch: pytest.MonkeyPatch) -> None:
    inner = BlockWriter.submit

    def submit(self: BlockWriter, data: memoryview, offset: int, release: Callable[[], None] | None = None) -> None:
        if release is not None:
            release()
        inner(self, data, offset)

    patch.setattr(BlockWriter, "submit", submit)


def finish_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    def end(self: BlockWriter) -> None:
        self._queue.put(None)
        self._thread = None

    patch.setattr(BlockWriter, "end", end)


def write_errors_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BlockWriter, "_check", lambda self: None)


def write_errors_forgotten(patch: pytest.MonkeyPatch) -> None:
    inner = BlockWriter._do

    def do(self: BlockWriter, block: Any) -> None:
        inner(self, block)
        self._error = None

    patch.setattr(BlockWriter, "_do", do)


def failed_tasks_tried_again(patch: pytest.MonkeyPatch) -> None:
    """What the first try claimed counts as known in the second, and nobody stores it."""
    inner = Pipeline._work

    def work(self: Pipeline, *task: Any) -> Any:
        try:
            return inner(self, *task)
        except OSError:
            return inner(self, *task)

    patch.setattr(Pipeline, "_work", work)


def failed_tasks_passed_over(patch: pytest.MonkeyPatch) -> None:
    """Their ids are in the tree, but what was new of them is not stored."""
    inner = Pipeline._work

    def work(self: Pipeline, *task: Any) -> Any:
        try:
            return inner(self, *task)
        except OSError:
            return inner(self, *task)._replace(runs=[])

    patch.setattr(Pipeline, "_work", work)


def runs_placed_where_the_table_begins(patch: pytest.MonkeyPatch) -> None:
    """Behind an extent table, offsets are counted as if it were not there."""
    inner = PackWriter.add_run

    def add_run(self: PackWriter, staging: Any, start: int, stop: int, records: Any) -> None:
        gap = self.offset - self._last_table if self._last_table and not self._extent else 0
        inner(self, staging, start, stop, [record._replace(offset=record.offset - gap) for record in records])

    patch.setattr(PackWriter, "add_run", add_run)


def copy_not_compared(patch: pytest.MonkeyPatch) -> None:
    inner = Pipeline.add
    patch.setattr(Pipeline, "add", lambda self, piece: inner(self, piece._replace(private=True)))


def results_out_of_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pipeline, "_take_oldest", lambda self: self._take(self._window.pop().result()))


def flushed_before_the_last_block(patch: pytest.MonkeyPatch) -> None:
    class Flushed:
        def __init__(self, file: Any) -> None:
            self._file = file

        def sync(self) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    inner = PackWriter._flush

    def flush(self: PackWriter) -> None:
        self._file.sync()
        inner(self)
        self._file = Flushed(self._file)

    patch.setattr(PackWriter, "_flush", flush)


BUGS: dict[str, Bug] = {
    "a buffer is released before it is written": (buffer_released_early, slow_disk),
    "finishing a pack does not wait for the writing thread": (finish_does_not_wait, slow_disk),
    "errors of the writing thread are ignored": (write_errors_ignored, failing_writes),
    "the writing thread forgets its error": (write_errors_forgotten, failing_writes),
    "a failed task is tried again with what it claimed": (failed_tasks_tried_again, failing_worker),
    "a failed task is passed over": (failed_tasks_passed_over, failing_worker),
    "runs go to the wrong place behind an extent table": (runs_placed_where_the_table_begins, slow_disk),
    "a copy is not compared with what was looked at": (copy_not_compared, changing_state),
    "a result is taken out of order": (results_out_of_order, slow_disk),
    "a pack is flushed before its last block is written": (flushed_before_the_last_block, power),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert_caught(name, BUGS[name], monkeypatch)


@pytest.mark.parametrize("scene", [slow_disk, failing_worker, changing_state])
def test_a_scene_is_silent_without_the_bug(scene: Callable[[], list[str]]) -> None:
    """So are the sweeps, in the tests that are theirs."""
    assert scene() == []
