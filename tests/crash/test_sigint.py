"""A process gets a real SIGINT in the middle of large commits: it goes on as if nothing had been.

When the signals fall is drawn from a seed, over the time that a commit takes and a little more; where in a commit
that is differs from run to run, what must hold does not.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.crash.folders import ram_folder, start_python

TRIES = 20
MIB = 100
COMMIT = """
import gc, os, shutil, signal, sys, threading, time
import numpy as np
import casckpt
from casckpt.storage.local import LocalStorage
from casckpt.odb.repository import Repository

# What a shell starts in the background ignores the signal, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder, count, mib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
state = {f"leaf {number}": np.random.default_rng(number).integers(0, 1 << 62, mib << 15) for number in range(4)}
state["small"] = {str(number): np.full(1000, number) for number in range(50)}


def commit(store, **words):
    return store.commit(state, run="large", **words)


with casckpt.init(f"{folder}/measured", threads=3) as store:
    start = time.perf_counter()
    commit(store)
    print(time.perf_counter() - start, flush=True)
shutil.rmtree(f"{folder}/measured")
complete = 0
for number in range(count):
    path = f"{folder}/{number}"
    with casckpt.init(path, threads=3) as store:
        first = store.commit({"step": 0, "leaf": state["leaf 0"][:100_000]}, run="large", step=0)
        try:
            print("committing", flush=True)
            commit(store, step=1)
            time.sleep(60)
            raise AssertionError("no signal came")
        except KeyboardInterrupt:
            pass
        # A thread that an interrupted join gave up may need a moment from its last line to its end, or, where others
        # use the machine, many seconds.
        deadline = time.monotonic() + 60
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.0005)
        assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
        last = store.show("large")
        assert last.step in (0, 1) and (last.id == first.id) == (last.step == 0)
        complete += last.step
        gc.collect()  # the frames of the interrupt hold what it caught in the making
        left = [name for name in os.listdir(f"{path}/tmp") if not name.startswith("index-")]
        Repository(LocalStorage(path)).session()
        assert not [name for name in os.listdir(f"{path}/tmp") if not name.startswith("index-")], "not removed"
        assert commit(store, step=2).step == 2
        assert store.show("large~1").id == last.id
        back = store.checkout("large")
        assert list(back) == list(state)
        assert all(np.array_equal(back[name], state[name]) for name in state if name != "small")
        report = store.fsck("full")
        assert report.ok, report.findings
    print(last.step, len(left), flush=True)
    shutil.rmtree(path)
"""


@pytest.mark.slow
def test_an_interrupted_commit_of_many_megabytes_leaves_nothing_behind() -> None:
    rng = random.Random(7)
    with ram_folder() as folder:
        outcomes = interrupt(folder, rng)
    print(f"{sum(outcome.startswith('1') for outcome in outcomes)} of {TRIES} commits were complete; {outcomes}")
    assert len(outcomes) == TRIES
    assert any(outcome.startswith("0") for outcome in outcomes), "no signal came in time"


def interrupt(folder: Path, rng: random.Random) -> list[str]:
    process = start_python(COMMIT, folder, TRIES, MIB)
    assert process.stdout is not None
    outcomes = []
    try:
        takes_s = float(process.stdout.readline() or "nan")
        for _ in range(TRIES):
            if process.stdout.readline() != "committing\n":
                break
            time.sleep(rng.uniform(0, 1.2 * takes_s))
            process.send_signal(signal.SIGINT)
            outcomes.append(process.stdout.readline().strip())
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return outcomes
