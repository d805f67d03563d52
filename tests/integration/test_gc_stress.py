"""Commits, readers, changes of names and collections in processes of their own, killed at random: nothing is lost.

The tests' own notes are the oracle: what a committer said was committed, written down after the call returned.

A long run, of 5 000 commits and 200 kills, with repacks too:

    CASCKPT_STRESS="5000 200 repack" python -m pytest -s tests/integration/test_gc_stress.py
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import CommitDropped
from tests.crash.folders import ROOT, ram_folder
from tests.crash.promises import same
from tests.integration.gc_worker import KEEP, expected, run_of, state_of

_WORDS = os.environ.get("CASCKPT_STRESS", "180 9").split()
COMMITS, KILLS = map(int, _WORDS[:2])
ROLES = ("collect", "read", "change", *_WORDS[2:])
COMMITTERS = 3
STUCK_S = 90.0
"""Nobody may be silent for so long."""


@pytest.fixture
def path() -> Iterator[Path]:
    with ram_folder() as folder:
        casckpt.init(folder / "store").close()
        yield folder / "store"


class Crowd:
    """Processes that are killed and replaced until all commits are made.

    Attributes:
        acked: by (worker, number), the id that a committer printed.
        slowest: seconds that the longest commit took.
        collected, repacked: sums of what collectors and repackers printed.
    """

    def __init__(self, path: Path, commits: int, rng: random.Random) -> None:
        self.acked: dict[tuple[int, int], str] = {}
        self.slowest = 0.0
        self.collected = Counter[str]()
        self.repacked = Counter[str]()
        self.heard = Counter[str]()
        self.killed = Counter[str]()
        self._path, self._each, self._rng = path, -(-commits // COMMITTERS), rng
        self._selector = selectors.DefaultSelector()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._errors = path.parent / "errors"

    def work(self, kills: set[int]) -> None:
        """Let all commits be made; when as many are as a number in `kills` says, somebody is killed."""
        try:
            for name in (*(f"commit {worker}" for worker in range(COMMITTERS)), *ROLES):
                self._start(name)
            while any(name.startswith("commit") for name in self._running):
                ready = self._selector.select(STUCK_S)
                assert ready, f"nobody says anything: {list(self._running)}"
                for key, _ in ready:
                    self._hear(key.data, kills)
        finally:
            for process in self._running.values():
                process.kill()
                process.communicate()
            self._selector.close()

    def _start(self, name: str) -> None:
        role, *rest = name.split()
        seed = self._rng.randrange(1 << 30)
        words = [rest[0], self._done(int(rest[0])), self._each] if rest else [seed]
        command = [sys.executable, "-m", "tests.integration.gc_worker", role, str(self._path), *map(str, words)]
        with open(self._errors, "ab") as errors:
            self._running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT)
        self._selector.register(self._running[name].stdout, selectors.EVENT_READ, name)  # type: ignore[arg-type]

    def _done(self, worker: int) -> int:
        return sum(1 for other, _ in self.acked if other == worker)

    def _hear(self, name: str, kills: set[int]) -> None:
        process = self._running[name]
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            self._end(name)
            return
        role, *rest = name.split()
        self.heard[role] += 1
        if role == "commit":
            number, identity, seconds = line.decode().split()
            self.acked[int(rest[0]), int(number)] = identity
            self.slowest = max(self.slowest, float(seconds))
            if len(self.acked) in kills:
                # Wherever in its work the acknowledgement of another happens to find it.
                victim = self._rng.choice(list(self._running))
                self._running[victim].kill()
                self.killed[victim.split()[0]] += 1
        elif role == "collect":
            names = ("packs", "bytes", "orphans", "rescued")
            self.collected.update(dict(zip(names, map(int, line.split()), strict=True)))
        elif role == "repack":
            self.repacked.update(dict(zip(("written", "removed"), map(int, line.split()), strict=True)))

    def _end(self, name: str) -> None:
        process = self._running.pop(name)
        self._selector.unregister(process.stdout)  # type: ignore[arg-type]
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), f"{name}: {self._errors.read_text()[-3000:]}"
        worker = name.partition(" ")[2]
        if not worker or self._done(int(worker)) < self._each:
            self._start(name)


def test_nothing_acknowledged_is_lost_while_others_collect_and_die(path: Path) -> None:
    rng = random.Random(6)
    crowd = Crowd(path, COMMITS, rng)
    started = time.monotonic()
    crowd.work(set(rng.sample(range(3, COMMITS - 5), KILLS)))
    print(
        f"{len(crowd.acked)} commits in {time.monotonic() - started:.0f} s, the slowest {crowd.slowest:.2f} s; "
        f"killed {dict(crowd.killed)}; heard {dict(crowd.heard)}; collected {dict(crowd.collected)}, "
        f"repacked {dict(crowd.repacked)}"
    )
    assert len(crowd.acked) >= COMMITS
    assert crowd.killed.total() == KILLS
    with casckpt.open(path) as store:
        check(store, crowd.acked)
        # On a machine that is busy with other things the collectors may have come too late for any, or not have said.
        store.gc(KEEP, now=True)
        assert any(info.dropped for info in store.log())
        check(store, crowd.acked)
        assert store.plan_gc(now=True).pack_bytes == 0
        assert not [name for name in os.listdir(path / "tmp") if name.startswith("pack-")]


def check(store: casckpt.Store, acked: dict[tuple[int, int], str]) -> None:
    """Every acknowledged commit is in the log, and whole unless it was dropped; every run still has its last one."""
    infos = {info.id: info for info in store.log()}
    for (worker, number), identity in acked.items():
        info = infos[identity]
        assert (info.run, info.step) == (run_of(worker), number)
    for info in infos.values():
        if info.dropped is None:
            assert same(store.checkout(info.id), expected(info)), info.id
        else:
            with pytest.raises(CommitDropped):
                store.checkout(info.id)
    for worker in range(COMMITTERS):
        last = max(number for other, number in acked if other == worker)
        assert same(store.checkout(run_of(worker)), state_of(worker, last))
    report = store.fsck("full")
    assert report.ok, [finding.what for finding in report.findings]
