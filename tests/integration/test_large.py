"""Large and odd states: exact, and in memory that does not grow with them.

Every case is a process of its own (`large.py`), which checks what comes back and says what it measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from casckpt.format.entry import Entry
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.odb.repository import Repository, initialize
from casckpt.ops.save import save_state
from casckpt.state.flat import Blob, FlatComponent, FlatState
from casckpt.storage.local import LocalStorage

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
MOST_BEYOND = 64_000_000
NEEDED = 6_000_000_000
"""Bytes of disk that the largest case fills."""

measures = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed at once: pytest would keep some gigabytes of the last runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def run(folder: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run a case and return what it measured."""

    def run_case(case: str, *arguments: str) -> list[dict[str, Any]]:
        if shutil.disk_usage(folder).free < NEEDED:
            pytest.skip("not enough room on the disk")
        command = [sys.executable, "-m", "tests.integration.large", case, str(folder / "store"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        print(done.stdout)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run_case


class OverBudget(Exception):
    """Something took more memory than it may."""


def assert_frugal(measured: list[dict[str, Any]], *, calls: int) -> None:
    """Nothing took more than its budget beyond the state that it returned."""
    assert len(measured) == calls
    beyond = [said["grown"] - said.get("state", 0) for said in measured]
    excess = [said for said, most in zip(measured, beyond, strict=True) if most > MOST_BEYOND]
    if excess:
        raise OverBudget(excess)


class TestMemoryBeyondTheStateIsBounded:
    """And what comes back is exact: that, the processes check."""

    pytestmark = measures

    def test_for_2_gb_in_many_tensors(self, run: Callable[..., Any]) -> None:
        assert_frugal(run("many", "10"), calls=1 + 3 * 4 + 1)

    def test_for_one_tensor_of_2_gb_in_two_packs(self, run: Callable[..., Any]) -> None:
        assert_frugal(run("one"), calls=4)

    def test_for_20_000_small_tensors(self, run: Callable[..., Any]) -> None:
        assert_frugal(run("small"), calls=6)

    def test_for_tensors_that_do_not_simply_lie_in_memory(self, run: Callable[..., Any]) -> None:
        assert_frugal(run("odd"), calls=6)

    def test_for_the_difference_of_two_states_of_400_mb(self, run: Callable[..., Any]) -> None:
        assert_frugal(run("differing"), calls=2)

    def test_for_a_file_of_2_gb_and_500_files(self, run: Callable[..., Any], folder: Path) -> None:
        for name in ("source", "target"):
            (folder / name).mkdir()
        assert_frugal(run("folders", str(folder / "source"), str(folder / "target")), calls=6)


# ---- sources that fail or are slow


class FakeSource:
    """Bytes of which a read may do something else first."""

    def __init__(self, plain: bytes, before: Callable[[int], object] = bool) -> None:
        self._plain = plain
        self._before = before

    def read(self, start: int, stop: int) -> memoryview:
        self._before(start)
        return memoryview(self._plain)[start:stop]


def flat_state(*sources: tuple[FakeSource, int]) -> FlatState:
    """A dict of bytes leaves."""
    names = [f"b{number}" for number in range(len(sources))]
    blobs = tuple(Blob(name, "bytes", size, source) for name, (source, size) in zip(names, sources, strict=True))
    node: Any = ["dict", list(names), [["bytes", number] for number in range(len(names))]]
    return FlatState(FlatComponent("", node, [], blobs), (), ())


@pytest.fixture
def repository(folder: Path) -> Iterator[Repository]:
    storage = LocalStorage(folder / "store")
    initialize(storage, time_ns=1, by="test")
    repository = Repository(storage)
    yield repository
    repository.close()


def noise(nbytes: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(nbytes)


SIZES = (20 * MIB + 17, 5 * MIB, 9 * MIB + 1, MIB, 25 * MIB + 300_000)


@pytest.fixture(scope="module")
def plains() -> list[bytes]:
    return [noise(size, number) for number, size in enumerate(SIZES)]


def pieces(plains: list[bytes]) -> list[bytes]:
    return [plain[at : at + MIB] for plain in plains for at in range(0, len(plain), MIB)]


def chunk_ids(plains: list[bytes]) -> list[ObjectId]:
    return [object_id(Kind.CHUNK, piece) for piece in pieces(plains)]


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("casckpt-")]


@pytest.mark.parametrize("threads", [2, 4])
def test_a_source_that_is_slow_in_one_task_changes_no_order(
    repository: Repository, plains: list[bytes], threads: int
) -> None:
    overtaken = threading.Event()
    waited: list[bool] = []

    def slow(start: int) -> None:
        if start == 0:  # the first task waits until a later one is being read
            waited.append(overtaken.wait(30))

    def later(start: int) -> None:
        overtaken.set()

    befores: list[Callable[[int], object]] = [slow, later, bool, bool, bool]
    sources = [FakeSource(plain, before) for plain, before in zip(plains, befores, strict=True)]
    with repository.session() as session:
        flat = flat_state(*zip(sources, SIZES, strict=True))
        tree, nbytes, _ = save_state(session, flat, threads)
        session.publish(lambda: (Entry("test", 1), []))
    assert waited == [True]
    assert nbytes == sum(SIZES)
    rows = [repository.database.row(identity) for identity in chunk_ids(plains)]
    places = [(row.pack, row.offset) for row in rows if row is not None]
    assert len(places) == len(rows)
    assert places == sorted(places), "chunks lie in the order of the leaves"
    assert workers() == []
    with repository.session() as session:
        plain_sources = [FakeSource(plain) for plain in plains]
        again = save_state(session, flat_state(*zip(plain_sources, SIZES, strict=True)), 1)
    assert again[:2] == (tree, nbytes)


class ReadFailed(Exception):
    """What a source may raise."""


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("failing", [0, 2, 4])
def test_a_read_that_fails_in_the_middle_is_raised_as_it_is_and_leaves_nothing(
    repository: Repository, plains: list[bytes], threads: int, failing: int
) -> None:
    def fail(start: int) -> None:
        if start >= SIZES[failing] // 2:
            raise ReadFailed(start)

    sources = [FakeSource(plain, fail if number == failing else bool) for number, plain in enumerate(plains)]
    with pytest.raises(ReadFailed) as caught, repository.session() as session:
        save_state(session, flat_state(*zip(sources, SIZES, strict=True)), threads)
    # The earliest of the failures is raised, whichever worker was first.
    assert caught.value.args == (-(-(SIZES[failing] // 2) // MIB) * MIB,)
    assert workers() == []
    storage = repository.storage
    assert list(storage.list("packs")) == [] and list(storage.list("tmp")) == []
    assert all(repository.database.row(identity) is None for identity in chunk_ids(plains))
    with repository.session() as session:
        whole = [FakeSource(plain) for plain in plains]
        save_state(session, flat_state(*zip(whole, SIZES, strict=True)), threads)
        session.publish(lambda: (Entry("test", 1), []))
    for piece in pieces(plains):
        assert repository.database.read(object_id(Kind.CHUNK, piece), Kind.CHUNK) == piece
