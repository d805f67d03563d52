"""Every durable call fails once, or for good, or is the last one of its process.

After an error the same store object goes on: the step did not happen, the error is typed and names what failed, and
no unfinished file is left. After a kill, or where the disk did not even let the step be taken back, it happened
wholly or not at all. The next commit works, and the next session removes what the dead left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casckpt.errors import CasckptError, StorageError, StoreFull
from casckpt.odb.repository import Repository
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash import faults
from tests.crash.faults import Action, FaultyStorage, Killed, Plan, at, never, since
from tests.crash.faultsweeps import OWN_CALL, calls_of, cases, check_error, differs, fault_sweep, run_to_fault
from tests.crash.folders import ram_folder, write_tree
from tests.crash.promises import check_store, look, settled_world, state_of
from tests.crash.workloads import WORKLOADS

pytestmark = pytest.mark.slow

NAMES = ("init", "tiny", "refs", "names", "pack", "seal", "repair", "reopen")
ONCE: tuple[Action, ...] = ("kill", "kill-mid-write", "eio", "enospc", "eio-after", "eio-lost", "short")
# Of commits of several workers; the others change nothing that the threads have to do with.
THREADED: tuple[Action, ...] = ("kill", "kill-mid-write", "eio", "enospc", "short")
STICKY: tuple[Action, ...] = ("eio", "enospc", "eio-after", "short")
FEWEST: dict[Action, int] = {"kill-mid-write": 2, "short": 2, "eio-lost": 3}
"""A repair writes twice and flushes three files."""


@pytest.mark.parametrize(("name", "action"), cases(NAMES, ONCE))
def test_a_fault_at_any_call_keeps_every_promise(name: str, action: Action) -> None:
    count, found = fault_sweep(WORKLOADS[name], action)
    assert found == []
    assert count >= FEWEST.get(action, 10)


@pytest.mark.parametrize(("name", "action"), cases(["threads 2"], THREADED) + cases(["threads 4"], ("eio",)))
def test_a_fault_at_any_call_of_several_threads_keeps_every_promise(name: str, action: Action) -> None:
    count, found = fault_sweep(WORKLOADS[name], action)
    assert found == []
    assert count >= (30 if action in OWN_CALL else 50)


@pytest.mark.parametrize("action", ["kill", "eio", "enospc"])
def test_a_fault_at_any_call_of_a_collection_keeps_every_promise(action: Action) -> None:
    count, found = fault_sweep(WORKLOADS["gc"], action)
    assert found == []
    assert count >= 40


def test_a_full_disk_from_any_call_of_a_collection_on_keeps_every_promise() -> None:
    count, found = fault_sweep(WORKLOADS["gc"], "enospc", since)
    assert found == []
    assert count >= 40


@pytest.mark.parametrize("action", ["enospc"])
def test_a_fault_that_stays_in_a_commit_of_several_threads_keeps_every_promise(action: Action) -> None:
    count, found = fault_sweep(WORKLOADS["threads 2"], action, since)
    assert found == []
    assert count >= 50


@pytest.mark.parametrize(("name", "action"), cases(NAMES, STICKY))
def test_a_fault_that_stays_keeps_every_promise(name: str, action: Action) -> None:
    count, found = fault_sweep(WORKLOADS[name], action, since)
    assert found == []
    assert count >= FEWEST.get(action, 10)


def test_more_than_2000_faults_are_tried() -> None:
    total = 0
    for name in NAMES:
        with settled_world(WORKLOADS[name]):
            for call in calls_of(WORKLOADS[name], WORKLOADS[name].base()):
                total += sum(differs(action, call) for action in (*ONCE, *STICKY))
    assert total > 2000


# --- on a real folder, with its index ---------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    with ram_folder() as path:
        yield path


@pytest.mark.parametrize(
    ("name", "action"),
    cases(["init", "pack", "seal once", "reopen"], ["kill", "kill-mid-write", "eio", "enospc", "eio-after"]),
)
def test_a_fault_at_any_call_keeps_every_promise_on_disk(folder: Path, name: str, action: Action) -> None:
    workload = WORKLOADS[name]
    with settled_world(workload):
        moments, base = workload.moments(), workload.base()
        for number, call in enumerate(calls_of(workload, base), 1):
            if not differs(action, call):
                continue
            inner = LocalStorage(write_tree(folder / str(number), base))
            storage = FaultyStorage(inner, at(number, action))
            run = run_to_fault(workload, storage, lambda number: None, new=not base)
            check_error(run.error, action)
            storage.plan = never
            if run.repository is not None and action.startswith("kill"):
                run.repository.database.release()
            if run.done is None:
                continue
            repository = Repository(inner) if action.startswith("kill") or run.repository is None else run.repository
            reached = moments[: run.done + (2 if action.startswith("kill") else 1)]
            check_store(repository, reached, first=run.done)
            assert repository.database.tables.count("rows") > 0, call
            repository.close()


# --- what the caller is told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [at, since])
def test_a_full_disk_in_the_middle_of_a_pack_says_so(folder: Path, plan: Callable[[int, Action], Plan]) -> None:
    workload = WORKLOADS["pack"]
    with settled_world(workload):
        inner = LocalStorage(write_tree(folder / "store", workload.base()))
        storage = FaultyStorage(inner)
        store = Store(Repository(storage))
        before = look(Repository(inner))
        storage.plan = faults.on("write_at", "enospc", prefix="tmp/pack")
        with pytest.raises(StoreFull, match="tmp/pack"):
            store.commit(state_of(200), step=200)
        assert inner.list("tmp") == []
        assert look(Repository(inner)) == before
        storage.plan = never
        store.commit(state_of(200), step=200)
        store.close()


def test_a_failed_flush_is_never_repeated_on_the_same_file() -> None:
    """After a failed flush Linux calls the lost pages clean: only writing them again can save them."""
    workload = WORKLOADS["pack"]
    with settled_world(workload):
        base = workload.base()
        calls = calls_of(workload, base)
        for number, call in enumerate(calls, 1):
            if call.startswith("sync tmp/"):
                storage = FaultyStorage(MemoryStorage(base), at(number, "eio-lost"))
                run = run_to_fault(workload, storage, lambda number: None, new=False)
                assert not isinstance(run.error, Killed)
                assert storage.calls.count(call) <= 1
                assert all(later != storage.calls[number - 1] for later in storage.calls[number:])


def test_a_flush_that_fails_before_the_frame_is_not_the_end_of_the_process() -> None:
    """A process that finds frames of another makes them durable first; when that fails once, the next commit works."""
    with settled_world():
        storage = FaultyStorage(MemoryStorage(WORKLOADS["tiny"].base()))
        store = Store(Repository(storage))
        failed = iter([True])
        storage.plan = lambda n, call, name: (
            "eio" if (call, name) == ("sync", "journal/0.log") and next(failed, False) else None
        )
        with pytest.raises(StorageError):
            store.commit(state_of(2), step=2)
        store.commit(state_of(2), step=2)


@pytest.mark.parametrize("content", [b"", bytes(1000), bytes(range(1, 251))])
def test_a_journal_without_one_valid_frame_is_a_typed_error(folder: Path, content: bytes) -> None:
    with settled_world():
        path = write_tree(folder / "store", WORKLOADS["tiny"].base())
        (path / "journal/0.log").write_bytes(content)
        with pytest.raises(CasckptError):
            Store(Repository(LocalStorage(path))).commit(state_of(2), step=2)
