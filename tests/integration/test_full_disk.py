"""A disk of 64 MiB without one free block, and gc as the only way out: a real file system, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import StoreFull
from casckpt.odb.removing import RESERVE, RESERVE_BYTES
from tests.crash.folders import ROOT, start_python
from tests.crash.promises import same
from tests.support.build import noise

DISK = "64m"
BLOCK = 4096
HOLD = """
import sys
import casckpt

with casckpt.open(sys.argv[1]) as store:
    for info in store.log():
        store.checkout(info.id)
    print("open", flush=True)
    sys.stdin.readline()
    store.show()
    print("looked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        casckpt.init(disk / "store").close()
        yield disk / "store"
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def state_of(step: int) -> dict[str, Any]:
    return {
        "model": {"w": np.frombuffer(noise(f"model {step}", 2_600_000), "u1")},
        "optimizer": {"m": np.frombuffer(noise(f"optimizer {step}", 1_700_000), "u1")},
    }


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def fill(path: Path) -> list[int]:
    """Commit until the disk is full; the steps that were acknowledged."""
    steps: list[int] = []
    with casckpt.open(path) as store, suppress(StoreFull):
        while True:
            store.commit(state_of(len(steps)), step=len(steps))
            steps.append(len(steps))
    return steps


def take_the_rest(path: Path) -> None:
    """Leave no block to anybody."""
    with open(path.parent / "foreign", "wb", buffering=0) as file:
        while free_bytes(path):
            file.write(bytes(min(free_bytes(path), 1 << 20)))


def casckpt_process(path: Path, *words: str) -> Any:
    """What a `casckpt` process says."""
    command = [sys.executable, "-W", "error", "-m", "casckpt.cli", "-C", str(path), "--json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]


def almost_sealed(path: Path) -> None:
    """Fill the journal file with frames, so that the next ones would begin another."""
    with casckpt.open(path) as store:
        store.commit({"small": 1}, run="notes")
        database = store._repository.database
        while not database.journal.is_full(database.tail.position._replace(seq=database.tail.position.seq + 25)):
            store.note("notes", f"remark {database.tail.position.seq}")


@pytest.mark.parametrize("is_worse", [False, True], ids=["plain", "seal due and index lost"])
def test_a_gc_frees_a_disk_without_a_free_block(path: Path, is_worse: bool) -> None:
    if is_worse:
        almost_sealed(path)
    steps = fill(path)
    assert len(steps) > 8
    if is_worse:
        for file in (path / "index").iterdir():
            file.unlink()
    take_the_rest(path)
    casckpt_process(path, "drop", *(f"main@step={step}" for step in steps[:-2]))
    with casckpt.open(path, read_only=True) as store:
        dead = store.plan_gc(now=True).pack_bytes
    # The first one's pack has something that all others need too.
    assert dead >= len(steps[1:-2]) * 4_300_000
    assert free_bytes(path) == 0
    report = casckpt_process(path, "gc", "--now", "--yes")
    assert report["bytes_freed"] >= dead
    check_freed(path, dead, steps[-2:])


def test_a_process_that_has_the_store_open_lets_go_of_what_was_freed(path: Path) -> None:
    steps = fill(path)
    take_the_rest(path)
    other = start_python(HOLD, path)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    casckpt_process(path, "drop", *(f"main@step={step}" for step in steps[:-2]))
    report = casckpt_process(path, "gc", "--now", "--yes")
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "looked\n"
    check_freed(path, report["bytes_freed"], steps[-2:])
    _, errors = other.communicate("\n", timeout=60)
    assert other.returncode == 0, errors


def check_freed(path: Path, nbytes: int, live: list[int]) -> None:
    """So many bytes are free, the live ones are whole, and commits work again."""
    # The frames of the drop and of the collection may have taken a block each.
    assert free_bytes(path) >= nbytes - 2 * BLOCK
    assert (path / RESERVE).stat().st_size == RESERVE_BYTES
    with casckpt.open(path) as store:
        for step in live:
            assert same(store.checkout(f"main@step={step}"), state_of(step))
        store.commit(state_of(1000), step=1000)
        assert same(store.checkout(), state_of(1000))
        assert store.fsck("full").ok


def test_commits_are_dropped_where_the_journal_has_no_room_for_it(path: Path) -> None:
    """A file is blocks: what is left of its last one does not always take the frame of a drop."""
    steps = fill(path)
    journal = path / "journal/0.log"
    with casckpt.open(path) as store:
        number = 0
        while -journal.stat().st_size % BLOCK > 300:
            store.note("main", f"remark {number:9}")
            number += 1
    take_the_rest(path)
    casckpt_process(path, "drop", *(f"main@step={step}" for step in steps[:-2]))
    report = casckpt_process(path, "gc", "--now", "--yes")
    check_freed(path, report["bytes_freed"], steps[-2:])
