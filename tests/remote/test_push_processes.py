"""Real processes that push: killed at every request, and ten at once while another one collects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.objects import Objects
from tests.crash.folders import ram_folder
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy
from tests.remote.push_worker import PRELUDE
from tests.remote.servers import REGION
from tests.support.buckets import chain, newest, store_of
from tests.support.histories import same, training
from tests.support.nursery import Nursery, nursery

PROCESSES = 10
PUSHES = 4
_WORK = "import sys; from tests.remote.push_worker import *; a = sys.argv; "


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
    child = processes.start(_WORK + call, folder / "store", folder / "remote", *words)
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


@pytest.mark.parametrize("where", ["folder", "moto", "weed"])
def test_of_processes_that_push_at_once_every_acknowledged_commit_is_there(
    where: str, processes: Nursery, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them, and one that collects the remote without any grace; two on SeaweedFS, where races take long."""
    remote, endpoint, count = tmp_path / "remote", "", 2 if where == "weed" else PROCESSES
    remote.mkdir()
    objects: Objects = FolderObjects(remote)
    url = str(remote)
    if where != "folder":
        set_keys(monkeypatch)
        bucket: Bucket = request.getfixturevalue("bucket" if where == "weed" else "moto_bucket")
        objects, url, endpoint = bucket.objects(), bucket.url, bucket.server.endpoint
    call = "push_often(a[1], a[2], a[3], int(a[4]), int(a[5]))"
    running = [
        processes.start(_WORK + call, tmp_path / f"store{number}", url, endpoint, number, PUSHES)
        for number in range(count)
    ]
    collecting = processes.start(_WORK + "collect_often(*a[1:])", url, endpoint, tmp_path / "stop")
    acknowledged: set[str] = set()
    for child in running:
        output, errors = child.communicate(120)
        assert (child.returncode, errors) == (0, ""), errors
        acknowledged |= set(output.split())
    (tmp_path / "stop").touch()
    output, errors = collecting.communicate(60)
    assert (collecting.returncode, errors) == (0, "")
    assert int(output) > 0
    assert len(acknowledged) == 2 * count * PUSHES
    copy = store_of(objects)
    database = copy._repository.database
    assert {identity.hex() for identity in database.commit_ids()} == acknowledged
    root = newest(objects)
    shared = {commit.id: commit for commit in copy.log() if commit.run == "shared"}
    assert root.refs["runs/shared/last"].commit.hex() == max(shared, key=lambda one: (shared[one].time_ns, one))
    for number in range(count):
        state = {"x": [number, PUSHES - 1], "text": "y" * 3000}
        assert copy.checkout(f"own{number}") == state


@pytest.mark.parametrize("late", [False, True])
def test_a_command_that_is_killed_at_any_request_to_a_server_is_finished_by_the_same_command(
    late: bool,
    processes: Nursery,
    proxy: FaultProxy,
    moto_bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_keys(monkeypatch)
    states = list(training(4, size=30_000))
    path = tmp_path / "store"
    with casckpt.init(path) as store:
        for number, state in enumerate(states[:2]):
            store.commit(state, run="a", step=number)
    access = f'endpoint = "{proxy.endpoint}"\nregion = "{REGION}"\nallow_http = true\n'
    (path / "config.toml").write_text(f'[remote.origin]\nurl = "{moto_bucket.url}"\n{access}')
    objects = moto_bucket.objects()
    (tmp_path / "go").touch()
    assert _command(processes, tmp_path) == 0
    proxy.clear()
    made = 0
    for number in range(40):
        with casckpt.open(path) as store:
            last = store.commit({"noise": np.random.default_rng(number).random(20_000)}, run="a").id
            made += 1
        (tmp_path / "go").unlink()
        child = processes.start(_WORK + "push_by_command(*a[1:])", path, tmp_path / "go")
        fault = proxy.add("kill", pid=child.pid, skip=number, late=late)
        (tmp_path / "go").touch()
        child.communicate(60)
        if child.returncode == 0:
            assert not fault.hits
            break
        assert child.returncode == -9
        proxy.clear()
        assert _command(processes, tmp_path) == 0
        assert newest(objects).refs["runs/a/last"].commit.hex() == last
        assert not (path / "remotes/origin/push").exists()
    # Four requests, two packs, and the index of the push before, which died before it could remember that.
    assert [request.method for request in proxy.log[2:]] == ["GET", "GET", "PUT", "PUT", "PUT", "PUT", "GET"]
    assert number == 7
    copy = store_of(objects)
    assert len(list(copy.log("a"))) == 2 + made
    assert same(copy.checkout(f"a~{made}"), states[1])
    assert len(chain(objects)) == 1 + made


def _command(processes: Nursery, folder: Path) -> int | None:
    child = processes.start(_WORK + "push_by_command(*a[1:])", folder / "store", folder / "go")
    _, errors = child.communicate(60)
    assert child.returncode == 0, errors
    return child.returncode
