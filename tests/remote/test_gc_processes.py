"""Real processes that push to one remote while others collect it, all of them killed again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casckpt.storage.objects import Objects
from tests.crash.folders import ram_folder
from tests.remote.buckets import Bucket
from tests.remote.gc_worker import PRELUDE, opened
from tests.support.buckets import live_packs, newest, store_of
from tests.support.nursery import Child, Nursery, nursery

_RUN = "import sys; from tests.remote.gc_worker import *; a = sys.argv; "
_PUSH = _RUN + "push_on(a[1], a[2], a[3], int(a[4]), int(a[5]))"
_COLLECT = _RUN + "collect_on(a[1], a[2], a[3], a[4])"
COLLECTORS = 2
PUSHES = 3
LONGEST_S = 60.0


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In RAM: what a power loss takes is not asked here."""
    with ram_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery(PRELUDE) as found:
        yield found


class Crowd:
    """Pushers and collectors of one remote; whoever is killed starts again where it was."""

    def __init__(self, processes: Nursery, folder: Path, url: str, endpoint: str, pushers: int) -> None:
        self._processes = processes
        self._stop = folder / "stop"
        self._programs: list[tuple[str, tuple[object, ...]]] = [
            *((_PUSH, (folder / f"store{number}", url, endpoint, number, PUSHES)) for number in range(pushers)),
            *((_COLLECT, (folder / f"gc{number}", url, endpoint, self._stop)) for number in range(COLLECTORS)),
        ]
        self._pushers = pushers
        self._children = {number: self._start(number) for number in range(len(self._programs))}
        self.acknowledged: set[str] = set()
        self.removed = self.killed = 0

    def run(self, kills: int, pause_s: float) -> None:
        """Kill so many of them, one after another, and wait until all pushes are done."""
        chance = random.Random(0)
        for _ in range(kills):
            time.sleep(pause_s)
            number = chance.choice(list(self._children))
            self._children[number].kill()
            if self._end(number) == -9:
                self.killed += 1
                self._children[number] = self._start(number)
        for number in range(self._pushers):
            assert self._end(number) == 0
        self._stop.touch()
        for number in list(self._children):
            assert self._end(number) == 0

    def _start(self, number: int) -> Child:
        program, arguments = self._programs[number]
        return self._processes.start(program, *arguments)

    def _end(self, number: int) -> int | None:
        """Wait for one; its exit code. What it printed was acknowledged, or removed."""
        child = self._children.pop(number, None)
        if child is None:
            return 0
        output, errors = child.communicate(LONGEST_S)
        assert not errors, errors
        lines = [line.split() for line in output.splitlines(keepends=True) if line.endswith("\n")]
        if number < self._pushers:
            self.acknowledged.update(one for line in lines for one in line)
        else:
            self.removed += sum(int(line[1]) for line in lines)
        return child.returncode


def assert_nothing_lost(crowd: Crowd, objects: Objects, pushers: int) -> None:
    assert live_packs(objects)
    with store_of(objects) as copy:
        known = {identity.hex() for identity in copy._repository.database.commit_ids()}
        assert crowd.acknowledged <= known
        for number in range(pushers):
            assert copy.checkout(f"own{number}")["x"] == [number, PUSHES - 1]
    assert {f"runs/own{number}/last" for number in range(pushers)} <= newest(objects).refs.keys()


def test_ten_pushers_of_a_folder_lose_nothing_to_collectors_and_kills(processes: Nursery, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    crowd = Crowd(processes, tmp_path, f"file://{remote}", "", 10)
    crowd.run(25, 0.1)
    assert crowd.killed > 10
    assert crowd.removed > 0
    assert_nothing_lost(crowd, opened(f"file://{remote}", ""), 10)


def test_ten_pushers_of_moto_lose_nothing_to_collectors_and_kills(
    processes: Nursery, tmp_path: Path, moto_bucket: Bucket
) -> None:
    endpoint = moto_bucket.server.endpoint
    crowd = Crowd(processes, tmp_path, moto_bucket.url, endpoint, 10)
    crowd.run(12, 0.2)
    assert crowd.killed > 5
    assert_nothing_lost(crowd, opened(moto_bucket.url, endpoint), 10)


def test_two_pushers_of_seaweedfs_lose_nothing_to_collectors_and_kills(
    processes: Nursery, tmp_path: Path, bucket: Bucket
) -> None:
    endpoint = bucket.server.endpoint
    crowd = Crowd(processes, tmp_path, bucket.url, endpoint, 2)
    crowd.run(6, 0.4)
    assert_nothing_lost(crowd, opened(bucket.url, endpoint), 2)
