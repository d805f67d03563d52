"""Real processes that pull and clone from a folder, killed at every request: the next one ends as if none had been."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.ops.push import push
from casckpt.storage.local_objects import FolderObjects
from tests.crash.folders import ram_folder
from tests.remote.pull_worker import PRELUDE
from tests.support.histories import same, training
from tests.support.nursery import Nursery, nursery

_CALL = "import sys; from tests.remote.pull_worker import *; a = sys.argv; "
STATES = list(training(4, size=60_000))


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery(PRELUDE) as found:
        yield found


@pytest.fixture(scope="module")
def prepared(processes: Nursery) -> Iterator[Path]:
    """A remote with four commits in two pushes, and a store that has the first two of them."""
    with ram_folder() as folder:
        (folder / "remote").mkdir()
        objects = FolderObjects(folder / "remote")
        with casckpt.init(folder / "source") as store:
            for number, state in enumerate(STATES):
                store.commit(state, run="a", step=number)
                if number % 2:
                    push(store._repository, objects, "origin", ["a"])
                if number == 1:
                    assert _run(processes, "clone", folder / "store", folder / "remote")[0] == 0
        yield folder


def _run(processes: Nursery, verb: str, *words: object) -> tuple[int | None, str]:
    child = processes.start(f"{_CALL}{verb}_once(a[1], a[2], *map(int, a[3:]))", *words)
    output, errors = child.communicate(60)
    assert child.returncode == -9 or not errors, errors
    return child.returncode, output


def _check(path: Path) -> None:
    with casckpt.open(path) as store:
        assert [one.step for one in store.log("a")] == [3, 2, 1, 0]
        for back, state in enumerate(reversed(STATES)):
            assert same(store.checkout(f"a~{back}"), state)
        refs = store._repository.database.refs()
        assert refs["runs/a/last"] == refs["remotes/origin/runs/a/last"]
        assert not store._repository.database.drops()
        assert store.fsck("full").ok


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("verb", ["pull", "clone"])
def test_a_process_that_is_killed_at_any_request_leaves_what_the_next_one_finishes(
    prepared: Path, processes: Nursery, verb: str, is_late: bool
) -> None:
    remote = prepared / "remote"
    for number in range(30):
        with ram_folder() as folder:
            path = folder / "store"
            if verb == "pull":
                shutil.copytree(prepared / "store", path)
            code, output = _run(processes, verb, path, remote, number, int(is_late))
            if code == 0:
                break
            assert code == -9
            if verb == "pull":
                with casckpt.open(path) as store:
                    assert [one.step for one in store.log("a")] == [1, 0]
            assert _run(processes, verb, path, remote)[0] == 0
            _check(path)
    assert number == int(output) >= 4
