"""Many small commits, and large ones: what they cost in flushes, files, memory and imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.odb.repository import Repository, initialize
from casckpt.storage.base import Storage, WriteFile
from casckpt.storage.local import LocalStorage

ROOT = Path(__file__).resolve().parents[2]
COMMITS = 10_000
MIB = 1 << 20
MOST_BEYOND = 64 * MIB


class CountingStorage(LocalStorage):
    """A folder that counts how often something is made durable."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.flushes = 0

    def create(self, name: str, *, direct: bool = False) -> WriteFile:  # type: ignore[override]
        return self._counted(super().create(name, direct=direct))

    def open_write(self, name: str) -> WriteFile:  # type: ignore[override]
        return self._counted(super().open_write(name))

    def sync_dir(self, name: str) -> None:
        self.flushes += 1
        super().sync_dir(name)

    def _counted(self, file: Any) -> WriteFile:
        sync = file.sync

        def counted() -> None:
            self.flushes += 1
            sync()

        file.sync = counted
        return file  # type: ignore[no-any-return]


def test_the_counting_storage_counts_every_flush(tmp_path: Path) -> None:
    storage: Storage = CountingStorage(tmp_path / "store")
    initialize(storage, time_ns=1, by="test")
    store = casckpt.Store(Repository(storage))
    store.commit({"x": 0})  # the first one makes durable what those before it may have left
    flushes = storage.flushes
    store.commit({"x": 1})
    assert storage.flushes == flushes + 1
    store.commit({"x": np.random.default_rng(0).bytes(100_000)})
    assert storage.flushes == flushes + 4
    store.close()


@pytest.mark.slow
def test_ten_thousand_tiny_commits_are_as_many_flushes_and_few_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store"
    storage = CountingStorage(path)
    initialize(storage, time_ns=1, by="test")
    storage.flushes = 0
    before = time.perf_counter()
    with casckpt.Store(Repository(storage)) as store:
        for step in range(COMMITS):
            state = {"model": {"w": np.full(16, step, np.float32)}, "step": step}
            info = store.commit(state, run=f"run-{step % 4}", step=step, metrics={"loss": 1 / (step + 1)})
            assert info.added < 4096
    took = time.perf_counter() - before
    files = sum(len(names) for _, _, names in os.walk(path))
    stored = sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
    assert storage.flushes <= 1.05 * COMMITS
    assert files < 100

    said = in_a_fresh_process(path, "[info.step for info in store.log(limit=20)]", forbidden=("numpy", "torch"))
    assert said == str([*range(COMMITS - 1, COMMITS - 21, -1)])
    said = in_a_fresh_process(path, "(store.status().commits, len(store.runs()))", forbidden=("numpy", "torch"))
    assert said == f"({COMMITS}, 4)"

    shutil.rmtree(path / "index")
    before = time.perf_counter()
    with casckpt.open(path) as store:
        rebuilding = time.perf_counter() - before
        assert store._repository.database.rebuilt
        assert store.status().commits == COMMITS
        assert store.fsck().findings == ()
        assert store.checkout("run-3~10")["step"] == COMMITS - 1 - 40
    with casckpt.open(path) as store:
        assert not store._repository.database.rebuilt
    with capsys.disabled():
        print(
            f"\n{COMMITS} tiny commits: {took:.1f} s, {storage.flushes} flushes, {files} files, "
            f"{stored / COMMITS:.0f} bytes a commit; index rebuilt in {rebuilding:.2f} s"
        )


def in_a_fresh_process(path: Path, expression: str, *, forbidden: tuple[str, ...]) -> str:
    """What an expression over `store` is in a new process, which must neither import these nor build an index."""
    code = (
        f"import sys, casckpt\nstore = casckpt.open({str(path)!r})\nprint({expression})\n"
        f"assert not {forbidden!r}[0] in sys.modules and not {forbidden!r}[1] in sys.modules\n"
        "assert store._repository.database.rebuilt is False\nstore.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- memory


def anonymous_bytes() -> int:
    """Private memory of this process that is in use: what files are mapped does not count."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


@contextmanager
def growth() -> Iterator[Callable[[], int]]:
    """A function that says how far above its level at the start the memory has been since, in bytes."""
    level = anonymous_bytes()
    highest = level
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, anonymous_bytes())
            done.wait(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(highest, anonymous_bytes()) - level
    finally:
        done.set()
        watcher.join()


def noise(nbytes: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 1 << 63, nbytes // 8, np.uint64)


STATES: dict[str, Callable[[], Any]] = {
    "one array of 600 MB": lambda: {"w": noise(600 * MIB, 1)},
    "300 arrays of 1 MB": lambda: {"model": {f"w{n}": noise(MIB, n) for n in range(300)}},
    "20 000 small arrays": lambda: {"model": {f"w{n}": noise(4096, n) for n in range(20_000)}},
}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("name", STATES)
def test_memory_beyond_the_state_is_bounded_in_commit_and_checkout(tmp_path: Path, name: str) -> None:
    state = STATES[name]()
    leaves = [array for part in state.values() for array in (part.values() if isinstance(part, dict) else [part])]
    nbytes = sum(array.nbytes for array in leaves)
    with casckpt.init(tmp_path / "store") as store:
        store.commit({"warm": noise(MIB, 0)}, run="warm")
        with growth() as grown:
            store.commit(state)
        assert grown() <= MOST_BEYOND
        with growth() as grown:
            store.commit(state)
        assert grown() <= MOST_BEYOND
        with growth() as grown:
            found = store.checkout()
        assert grown() <= nbytes + MOST_BEYOND
        back = [array for part in found.values() for array in (part.values() if isinstance(part, dict) else [part])]
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(leaves, back, strict=True))
