"""Collections of real processes that are killed or stopped: nothing is lost, and nobody but the collector waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import BusyError
from casckpt.odb.repository import Repository
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage, Killed
from tests.crash.folders import ram_folder, start_python, write_tree
from tests.crash.powerfail import crash_states
from tests.crash.promises import (
    AGAIN,
    Workload,
    check_commits,
    check_store,
    commit,
    drop,
    look,
    settled_world,
    state_of,
)
from tests.crash.recorder import RecordingStorage
from tests.crash.test_sigkill import STOP
from tests.crash.workloads import WORKLOADS

LONGEST_S = 3.0
"""No commit may wait longer for a collector."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with ram_folder() as path:
        yield path


# --- killed -----------------------------------------------------------------------------------------------------------


def run_until_killed(workload: Workload, path: Path, call: int) -> tuple[int, bool]:
    """How many operations a process acknowledged that killed itself at one of its durable calls; whether it did."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)

        def plan(n: int, called: str, name: str) -> Action | None:
            if n == call:
                signal.raise_signal(signal.SIGKILL)
            return None

        try:
            store = Store(Repository(FaultyStorage(LocalStorage(path), plan)))
            for operation in workload.then:
                operation.do(store)
                os.write(write, b".")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        done = len(pipe.read())
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or done == len(workload.then), "it failed"
    return done, os.WIFSIGNALED(status)


# Python 3.12 and later warn of every fork of a process with threads; this one's children use none of theirs.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_killed_at_any_call_of_a_collection_leaves_a_whole_store(folder: Path) -> None:
    whole = WORKLOADS["gc"]
    workload = replace(whole, before=(*whole.before, whole.then[0]), then=(whole.then[1],))
    with settled_world(workload):
        base, moments = workload.base(), workload.moments()
        number, killed = 0, True
        while killed:
            number += 1
            path = write_tree(folder / str(number), base)
            Repository(LocalStorage(path)).close()  # makes the index, with rows of what is about to go
            done, killed = run_until_killed(workload, path, number)
            repository = Repository(LocalStorage(path))
            check_store(repository, moments[: done + 2], first=done)
            repository.close()
    assert number > 15


@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_a_collector_relies_on_no_frame_that_its_killed_predecessor_did_not_flush(model: Any) -> None:
    """Else the files of packs go for good, and the power takes the frame that said so."""
    workload = Workload((), (commit(200), commit(201), commit(2), drop(201)))
    with settled_world(workload):
        recording = RecordingStorage(MemoryStorage(workload.base()))
        flushes = 0

        def before_the_frame_is_flushed(n: int, call: str, name: str) -> Action | None:
            nonlocal flushes
            flushes += (call, name) == ("sync", "journal/0.log")
            return "kill" if flushes == 2 else None

        with pytest.raises(Killed):
            Store(Repository(FaultyStorage(recording, before_the_frame_is_flushed))).gc(now=True)
        start = len(recording.operations)
        report = Store(Repository(recording)).gc(now=True)
        assert report.orphans == 3, "the first one was killed before its frame"
        states = list(crash_states(recording.base, recording.operations, model=model, start=start))
        for state in states:
            store = Store(Repository(MemoryStorage(state.files)))
            store.commit(state_of(201), step=AGAIN + 201)
            assert store.fsck().ok, state.description
        assert len(states) >= 5


# --- stopped ----------------------------------------------------------------------------------------------------------


@contextmanager
def stopped_committer(path: Path) -> Iterator[Any]:
    """A process that stopped in the middle of a commit of what was dropped; it goes on afterwards."""
    process = start_python(STOP, path, 1)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "hashing\n"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield process
    finally:
        os.kill(process.pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_a_stopped_committer_delays_a_collector_and_nobody_else(folder: Path) -> None:
    path = folder / "store"
    with casckpt.init(path) as store:
        for step in (200, AGAIN + 201, 2):
            store.commit(state_of(step), step=step)
        store.drop(f"main@step={AGAIN + 201}")
        slowest = 0.0
        waited: list[float] = []
        errors: list[BusyError] = []

        def collect() -> None:
            started = time.monotonic()
            with casckpt.open(path) as own, pytest.raises(BusyError) as caught:
                own.gc(now=True, wait_s=LONGEST_S)
            waited.append(time.monotonic() - started)
            errors.append(caught.value)

        with stopped_committer(path) as process:
            collector = threading.Thread(target=collect)
            collector.start()
            step = 3
            while collector.is_alive():
                started = time.monotonic()
                store.commit(state_of(step), step=step)
                slowest = max(slowest, time.monotonic() - started)
                step += 1
                if step == 5:
                    started = time.monotonic()
                    with pytest.raises(BusyError) as second:
                        store.gc(now=True)
                    assert second.value.facts["lock"] == "gc"
                    assert time.monotonic() - started < 1
                time.sleep(0.05)
            collector.join()
        print(f"{step - 3} commits, the slowest {slowest:.2f} s; the collector gave up after {waited[0]:.2f} s")
        assert errors[0].facts["lock"] == "commit"
        assert f"process {process.pid}" in str(errors[0])
        assert waited[0] < 2 * LONGEST_S
        assert slowest < LONGEST_S
        assert step >= 5
        store.gc(now=True)
        now = look(Repository(LocalStorage(path)))
        assert f"freed {AGAIN + 201}" not in dict(now.facts), "the stopped one had found it"
        check_commits(Repository(LocalStorage(path)), now)
        assert store.fsck("full").ok
