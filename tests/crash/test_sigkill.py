"""Real processes on a real folder are killed or stopped: what they acknowledged is there, nobody waits for them.

The moments of the kills are drawn from a seed, after a drawn number of acknowledgements; where in a commit they fall
differs from run to run, what must hold does not.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.odb.repository import Repository
from casckpt.storage.local import LocalStorage
from tests.crash.folders import CRASH_PRELUDE, ram_folder, start_python
from tests.crash.promises import check_commits, look, same, state_of
from tests.support.nursery import Nursery, nursery

KILLS = 20
COMMIT = """
import sys
import casckpt
from casckpt.odb import journal
from tests.crash.promises import state_of
from tests.crash.test_sigkill import step_of

journal.SEAL_FRAMES = 7
with casckpt.open(sys.argv[1]) as store:
    number = int(sys.argv[2])
    while True:
        step = step_of(number)
        print(step, store.commit(state_of(step), step=step, run="killed").id, flush=True)
        number += 1
"""
STOP = """
import os, signal, sys
import casckpt
from casckpt.odb.session import Session
from tests.crash.promises import state_of

inner = Session.claim_chunk
calls = 0

def claim_chunk(self, identity, length):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        print("hashing", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    return inner(self, identity, length)

Session.claim_chunk = claim_chunk
with casckpt.open(sys.argv[1]) as store:
    print(store.commit(state_of(201), step=201, run="stopped").id, flush=True)
"""


def step_of(number: int) -> int:
    """Steps in the order of their commits, none twice: of three, two fit into a frame and one takes packs."""
    return 1000 * (number + 1) + (1, 101, 201)[number % 3]


@pytest.fixture
def path() -> Iterator[Path]:
    with ram_folder() as folder:
        casckpt.init(folder / "store").close()
        yield folder / "store"


def run_and_kill(processes: Nursery, path: Path, number: int, rng: random.Random) -> list[tuple[int, str]]:
    """The (step, id) of the commits that a process acknowledged before it was killed."""
    process = processes.start(COMMIT, path, number)
    printed = [process.stdout.readline() for _ in range(rng.randint(1, 6))]
    time.sleep(rng.uniform(0, 0.02))
    process.kill()
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    lines = "".join([*printed, rest]).split("\n")
    return [(int(line.split()[0]), line.split()[1]) for line in lines[:-1]]


@pytest.mark.slow
def test_what_a_killed_process_acknowledged_is_there(path: Path) -> None:
    with nursery(CRASH_PRELUDE) as processes:
        kill_and_go_on(path, processes)


def kill_and_go_on(path: Path, processes: Nursery) -> None:
    rng = random.Random(20)
    acked: dict[str, int] = {}
    number = 0
    for kill in range(KILLS):
        printed = run_and_kill(processes, path, number, rng)
        assert printed
        acked |= {identity: step for step, identity in printed}
        with casckpt.open(path) as store:
            found = {info.id: info.step for info in store.log()}
            assert acked.items() <= found.items()
            for identity, step in found.items():
                assert step is not None
                assert same(store.checkout(identity), state_of(step))
            store.commit(state_of(kill), step=kill, run="other")
            assert same(store.checkout("other"), state_of(kill))
            assert store.fsck("full").ok
        assert not [name for name in os.listdir(path / "tmp") if name.startswith("pack-")]
        # A commit that was not acknowledged may be there; the next process goes on behind it.
        number += len(printed) + 1
    assert len(acked) >= 3 * KILLS


@pytest.mark.parametrize("call", [1, 2])
def test_a_stopped_committer_blocks_nobody(path: Path, call: int) -> None:
    process = start_python(STOP, path, call)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "hashing\n"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        unfinished = os.listdir(path / "tmp")
        started = time.monotonic()
        with casckpt.open(path) as store:
            for step in (1, 202):
                store.commit(state_of(step), step=step)
        assert time.monotonic() - started < 3
        assert set(unfinished) <= set(os.listdir(path / "tmp")), "the file of a live writer was removed"
        assert len(unfinished) == call - 1
    finally:
        os.kill(process.pid, signal.SIGCONT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    repository = Repository(LocalStorage(path))
    now = look(repository)
    assert now.steps == {1, 202, 201}
    check_commits(repository, now)
    assert repository.database.commits(bytes.fromhex(output.strip()))
    repository.close()
