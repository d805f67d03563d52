"""The index may be lost, old, foreign or garbage: data stay right, no process dies of it, the next command works.

LMDB trusts its file and a damaged one can end the process by a signal, so each of these stores is used by a process of
its own, forked from one that never opened a store: it must end with 0, having found every commit as it was, committed
once more and checked the store.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.odb.index import is_clean
from casckpt.odb.repository import Repository
from casckpt.storage.local import LocalStorage
from tests.crash.folders import CRASH_PRELUDE, ram_folder
from tests.crash.promises import check_store, look, state_of
from tests.support.nursery import Nursery, nursery

STEPS = (1, 2, 201, 3, 202)
USE = """
import sys
from casckpt.odb.repository import Repository
from casckpt.storage.local import LocalStorage
from casckpt.store import Store
from tests.crash.promises import check_store, look

repository = Repository(LocalStorage(sys.argv[1]))
now = look(repository)
assert sorted(now.steps) == sorted(map(int, sys.argv[2].split(","))), now
check_store(repository, [now], first=0, depth="full")
repository.close()
again = Repository(LocalStorage(sys.argv[1]))
assert look(again).steps == now.steps | {90}
again.close()
"""


def fill(path: Path, steps: tuple[int, ...] = STEPS) -> Path:
    with casckpt.init(path) as store:
        for step in steps:
            store.commit(state_of(step), step=step)
    return path


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery(CRASH_PRELUDE) as started:
        yield started


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A closed store; never changed."""
    with ram_folder() as folder:
        yield fill(folder / "store")


@pytest.fixture
def store(whole: Path) -> Iterator[Path]:
    """A copy of it, to be damaged."""
    with ram_folder() as folder:
        yield Path(shutil.copytree(whole, folder / "store", symlinks=True))


def check_in_a_process(processes: Nursery, store: Path, steps: tuple[int, ...] = STEPS) -> None:
    process = processes.start(USE, store, ",".join(map(str, steps)))
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, f"ended with {process.returncode}: {output}{errors}"


def overwrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def noise(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def replace_index(store: Path, other: Path) -> None:
    shutil.rmtree(store / "index")
    shutil.copytree(other, store / "index")


def with_file_for_folder(index: Path) -> None:
    shutil.rmtree(index)
    index.write_bytes(b"not a folder")


DATA, CLEAN, LOCK = "data.mdb", "clean", "lock.mdb"
DAMAGE: dict[str, Callable[[Path], object]] = {
    "absent": shutil.rmtree,
    "a file": with_file_for_folder,
    "an empty folder": lambda index: [path.unlink() for path in index.iterdir()],
    "data absent": lambda index: (index / DATA).unlink(),
    "data empty": lambda index: overwrite(index / DATA, lambda data: b""),
    "data cut to half": lambda index: overwrite(index / DATA, lambda data: data[: len(data) // 2]),
    "data cut in a page": lambda index: overwrite(index / DATA, lambda data: data[: 3 * 4096 + 100]),
    "data zero": lambda index: overwrite(index / DATA, lambda data: bytes(len(data))),
    "data zero behind the meta pages": lambda index: overwrite(
        index / DATA, lambda data: data[:8192] + bytes(len(data) - 8192)
    ),
    "data garbage": lambda index: overwrite(index / DATA, lambda data: noise(len(data))),
    "data garbage behind the meta pages": lambda index: overwrite(
        index / DATA, lambda data: data[:8192] + noise(len(data) - 8192)
    ),
    "data and clean garbage": lambda index: [
        overwrite(index / name, lambda data: noise(len(data))) for name in (DATA, CLEAN)
    ],
    "clean absent": lambda index: (index / CLEAN).unlink(),
    "clean empty": lambda index: overwrite(index / CLEAN, lambda text: b""),
    "clean half-written": lambda index: overwrite(index / CLEAN, lambda text: text[: len(text) // 2]),
    "clean of other data": lambda index: overwrite(index / CLEAN, lambda text: text[:-8] + b"00000000"),
    "clean a folder": lambda index: ((index / CLEAN).unlink(), (index / CLEAN).mkdir()),
    "lock absent": lambda index: (index / LOCK).unlink(),
    "lock garbage": lambda index: overwrite(index / LOCK, lambda data: noise(len(data))),
    "lock empty": lambda index: overwrite(index / LOCK, lambda data: b""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_store_with_a_damaged_index_works_at_once(processes: Nursery, store: Path, name: str) -> None:
    DAMAGE[name](store / "index")
    check_in_a_process(processes, store)


@pytest.mark.parametrize("seed", range(12))
def test_a_store_with_a_flipped_bit_in_its_index_works_at_once(processes: Nursery, store: Path, seed: int) -> None:
    rng = random.Random(seed)

    def flip(data: bytes) -> bytes:
        at = rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]

    overwrite(store / "index" / DATA, flip)
    check_in_a_process(processes, store)


def test_an_index_older_than_the_journal_is_brought_up_to_date(processes: Nursery) -> None:
    with ram_folder() as folder:
        path = fill(folder / "store", (1, 201))
        old = shutil.copytree(path / "index", folder / "old")
        with casckpt.open(path) as store:
            for step in (2, 202, 3):
                store.commit(state_of(step), step=step)
        replace_index(path, old)
        check_in_a_process(processes, path, (1, 201, 2, 202, 3))


def test_an_index_older_than_several_journal_files_is_brought_up_to_date(
    processes: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("casckpt.odb.journal.SEAL_FRAMES", 3)
    with ram_folder() as folder:
        path = fill(folder / "store", (1,))
        old = shutil.copytree(path / "index", folder / "old")
        steps = (2, 3, 201, 4, 5, 6, 101)
        with casckpt.open(path) as store:
            for step in steps:
                store.commit(state_of(step), step=step)
        assert len(list((path / "journal").iterdir())) > 2
        replace_index(path, old)
        check_in_a_process(processes, path, (1, *steps))


def test_the_index_of_another_store_is_not_believed(processes: Nursery, store: Path) -> None:
    with ram_folder() as folder:
        replace_index(store, fill(folder / "other", (4, 203, 5)) / "index")
        check_in_a_process(processes, store)


def test_an_index_ahead_of_the_journal_is_not_believed(processes: Nursery) -> None:
    """As after a journal came back from a backup."""
    with ram_folder() as folder:
        path = fill(folder / "store", (1, 2))
        journal = (path / "journal/0.log").read_bytes()
        with casckpt.open(path) as store:
            store.commit(state_of(3), step=3)
            store.commit(state_of(201), step=201)
        (path / "journal/0.log").write_bytes(journal)
        check_in_a_process(processes, path, (1, 2))


def test_an_index_ahead_of_a_journal_that_went_on_otherwise_is_not_believed(processes: Nursery) -> None:
    """The frames it knows were replaced by others of the same length."""
    with ram_folder() as folder:
        path = fill(folder / "store", (1, 2))
        shutil.copytree(path, folder / "copy")
        with casckpt.open(path) as store:
            store.commit(state_of(3), step=3)
        with casckpt.open(folder / "copy") as copy:
            copy.commit(state_of(4), step=4)
        replace_index(folder / "copy", path / "index")
        check_in_a_process(processes, folder / "copy", (1, 2, 4))


def test_an_open_store_survives_that_its_index_is_replaced(processes: Nursery, store: Path) -> None:
    with casckpt.open(store) as mine:
        mine.commit(state_of(4), step=4)
        shutil.rmtree(store / "index")
        mine.commit(state_of(203), step=203)
        with casckpt.open(store) as other:
            other.commit(state_of(5), step=5)
        assert {info.step for info in mine.log()} == {*STEPS, 4, 203, 5}
    check_in_a_process(processes, store, (*STEPS, 4, 203, 5))


def test_a_file_in_place_of_the_index_leaves_nothing_behind(store: Path) -> None:
    with_file_for_folder(store / "index")
    casckpt.open(store).close()
    assert os.listdir(store / "tmp") == []


# --- killed at work --------------------------------------------------------------------------------------------------

WORK = """
import os, signal, sys
from casckpt.odb.repository import Repository
from casckpt.storage.local import LocalStorage
from casckpt.store import Store
from tests.crash.promises import state_of

path, work, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
events = 0

def count(frame, event, argument):
    global events
    if frame.f_code.co_filename.endswith("odb/index.py"):
        events += 1
        if events == last:
            os.kill(os.getpid(), signal.SIGKILL)

repository = Repository(LocalStorage(path))
sys.setprofile(count)
if work == "rebuild":
    repository.rebuild_index()
else:
    Store(repository).commit(state_of(203), step=203)
repository.close()
sys.setprofile(None)
print(events)
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", ["rebuild", "update"])
def test_a_kill_while_the_index_changes_leaves_a_store_that_works(processes: Nursery, whole: Path, work: str) -> None:
    """The process dies at a call or return in the code of the index, which are counted and drawn from a seed."""
    rng = random.Random(work)
    with ram_folder() as folder:
        events = int(killed_at(processes, shutil.copytree(whole, folder / "counted"), work, 0))
        assert events > 100
        dirty = 0
        # Polls of locks make the count differ a little from run to run, so none is drawn from the very end.
        for number in sorted(rng.sample(range(1, events * 9 // 10), 16)):
            path = Path(shutil.copytree(whole, folder / str(number)))
            killed_at(processes, path, work, number)
            dirty += not is_clean(path / "index")
            repository = Repository(LocalStorage(path))
            now = look(repository)
            assert now.steps - {203} == set(STEPS)
            check_store(repository, [now], first=0, depth="full")
            left = [name for name in os.listdir(path / "tmp") if name.startswith("index-")]
            assert not left or is_clean(path / "index"), "a rebuild left what an earlier one had begun"
            repository.close()
        assert dirty > 0, "no kill came while the index was being changed"


def killed_at(processes: Nursery, path: Path, work: str, number: int) -> str:
    """What a process printed that was killed at this event, counted from 1, or at none."""
    process = processes.start(WORK, path, work, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if number else 0), errors
    return output
