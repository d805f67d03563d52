"""Real processes that push to one folder: killed at every request, and ten at once while somebody collects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.storage.local_objects import FolderObjects
from tests.crash.folders import ram_folder
from tests.remote.push_worker import PRELUDE
from tests.remote.test_push_crashes import collect
from tests.support.buckets import chain, newest, store_of
from tests.support.histories import same, training
from tests.support.nursery import Nursery, nursery

PROCESSES = 10
PUSHES = 4
_PUSH = "import sys; from tests.remote.push_worker import *; a = sys.argv; "


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In RAM: what a power loss takes is not asked here."""
    with ram_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery(PRELUDE) as found:
        yield found


@pytest.fixture(scope="module")
def prepared(processes: Nursery) -> Iterator[Path]:
    """A folder with a store and a remote that has half of its commits."""
    with ram_folder() as folder:
        (folder / "remote").mkdir()
        with casckpt.init(folder / "store") as store:
            for number, state in enumerate(training(4, size=30_000)):
                store.commit(state, run="a", step=number)
                if number == 1:
                    _run(processes, folder)
        yield folder


def _run(processes: Nursery, folder: Path, *words: object) -> tuple[int | None, str]:
    """Push in a process: its exit code, and how many requests it made."""
    call = "push_once(a[1], a[2], *map(int, a[3:]))"
    child = processes.start(_PUSH + call, folder / "store", folder / "remote", *words)
    output, errors = child.communicate(60)
    assert child.returncode == -9 or not errors, errors
    return child.returncode, output


@pytest.mark.parametrize("is_late", [False, True])
def test_a_process_that_is_killed_at_any_request_leaves_what_the_next_push_finishes(
    prepared: Path, processes: Nursery, tmp_path: Path, is_late: bool
) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        shutil.copytree(prepared, folder)
        code, _ = _run(processes, folder, number, int(is_late))
        if code == 0:
            break
        assert code == -9
        assert _run(processes, folder)[0] == 0
        objects = FolderObjects(folder / "remote")
        assert len(chain(objects)) == 2
        copy = store_of(objects)
        for back, state in enumerate(training(4, size=30_000)):
            assert same(copy.checkout(f"a~{3 - back}"), state)
        with casckpt.open(folder / "store") as store:
            assert store.show("origin/a").id == store.show("a").id
            assert store.fsck().ok
        assert not (folder / "store/remotes/origin/push").exists()
        shutil.rmtree(folder)
    assert number == 6, "an incremental push makes four requests and one for each pack"


def test_of_ten_processes_that_push_at_once_every_acknowledged_commit_is_there(
    processes: Nursery, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    call = "push_often(a[1], a[2], int(a[3]), int(a[4]))"
    running = [
        processes.start(_PUSH + call, tmp_path / f"store{number}", remote, number, PUSHES)
        for number in range(PROCESSES)
    ]
    objects = FolderObjects(remote)
    for _ in range(5):
        collect(objects)
    acknowledged: set[str] = set()
    for child in running:
        output, errors = child.communicate(120)
        assert (child.returncode, errors) == (0, "")
        acknowledged |= set(output.split())
    assert len(acknowledged) == 2 * PROCESSES * PUSHES
    collect(objects)
    copy = store_of(objects)
    database = copy._repository.database
    assert {identity.hex() for identity in database.commit_ids()} == acknowledged
    root = newest(objects)
    shared = {commit.id: commit for commit in copy.log() if commit.run == "shared"}
    assert root.refs["runs/shared/last"].commit.hex() == max(shared, key=lambda one: (shared[one].time_ns, one))
    for number in range(PROCESSES):
        assert root.refs[f"runs/own{number}/last"].commit.hex() in acknowledged
        state = {"x": [number, PUSHES - 1], "text": "y" * 3000}
        assert copy.checkout(f"own{number}") == state
