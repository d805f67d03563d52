"""A process that works on a store which is collected all the time, told what to do by its arguments.

    python -m tests.integration.gc_worker commit STORE WORKER FIRST LAST    prints `NUMBER ID SECONDS` for each commit
    python -m tests.integration.gc_worker collect STORE SEED                prints `PACKS BYTES ORPHANS RESCUED`
    python -m tests.integration.gc_worker repack STORE SEED                 prints `WRITTEN REMOVED`
    python -m tests.integration.gc_worker read STORE SEED                   prints `ID` for each commit it compared
    python -m tests.integration.gc_worker change STORE SEED                 prints `tag`, `drop` or `undo`

All but the first go on until they are killed. The state of a commit is a function of worker and number. Much of it
comes back after it was dropped, or is shared with other workers: such commits rely on what is about to be collected.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import numpy as np

import casckpt
from casckpt.errors import BusyError, CasckptError, ConflictError, NothingToUndo, NotUndoable
from casckpt.odb import journal, session
from tests.crash.promises import same
from tests.support.build import noise

POOL = 5
"""So many contents take turns in the commits of all workers."""
SEAL_FRAMES = 60
PART_BYTES = 24 << 10
KEEP = {"keep_last": 12}


def state_of(worker: int, number: int) -> dict[str, Any]:
    """What a worker commits: some of it new, some of it from a pool, each in a pack of its own; some fit in a frame."""
    if number % 4 == 3:
        return {"step": number, "worker": worker, "w": np.frombuffer(noise(f"small {worker} {number % 9}", 999), "u1")}
    turn = (worker + number // 3) % POOL
    return {
        "model": {"w": np.frombuffer(noise(f"pool {turn}", 90_000), "<f4"), "step": number},
        "optimizer": {"m": np.frombuffer(noise(f"own {worker} {number}", 30_000), "<f2")},
        "ema": {"w": np.frombuffer(noise(f"pool {(turn * turn + 1) % POOL} of ema", 70_000), "<i4")},
        "worker": worker,
    }


def run_of(worker: int) -> str:
    return f"run-{worker}"


def expected(info: casckpt.CommitInfo) -> dict[str, Any]:
    """The state that a commit of a worker must have."""
    assert info.step is not None
    return state_of(int(info.run.removeprefix("run-")), info.step)


def commit(path: str, worker: str, first: str, last: str) -> None:
    with casckpt.open(path) as store:
        for number in range(int(first), int(last)):
            state = state_of(int(worker), number)
            started = time.monotonic()
            made = store.commit(state, run=run_of(int(worker)), step=number)
            print(number, made.id, time.monotonic() - started, flush=True)


def collect(path: str, seed: str) -> None:
    rng = random.Random(seed)
    with casckpt.open(path) as store:
        while True:
            try:
                report = store.gc(KEEP, now=True)
            except BusyError:  # the lock of one that was killed outlives it by a moment
                continue
            print(report.packs, report.nbytes, report.orphans, report.rescued, flush=True)
            time.sleep(rng.uniform(0, 0.05))


def repack(path: str, seed: str) -> None:
    rng = random.Random(seed)
    with casckpt.open(path) as store:
        while True:
            try:
                report = store.repack(max=rng.random() < 0.3, limit_s=2)
            except BusyError:
                continue
            print(report.written, report.removed, flush=True)
            time.sleep(rng.uniform(0.1, 0.5))


def read(path: str, seed: str) -> None:
    """Compare whatever lives; what is dropped under the reader's hands may be there or not."""
    rng = random.Random(seed)
    with casckpt.open(path) as store:
        while True:
            live = [info for info in store.log(limit=40) if info.dropped is None]
            for info in rng.sample(live, min(2, len(live))):
                try:
                    found = store.checkout(info.id)
                except CasckptError:
                    if store.show(info.id).dropped is None:
                        raise
                    continue
                assert same(found, expected(info)), info.id
                print(info.id, flush=True)
            time.sleep(rng.uniform(0, 0.04))


def change(path: str, seed: str) -> None:
    """Name commits, drop some, and take back whatever changed last, also what the collector dropped."""
    rng = random.Random(seed)
    with casckpt.open(path) as store:
        while True:
            infos = list(store.log(limit=12))
            what = rng.choice(("tag", "tag", "drop", "drop", "drop", "undo"))
            try:
                if what == "undo":
                    store.undo()
                elif infos and what == "drop":
                    store.drop(rng.choice(infos).id)
                elif infos and rng.random() < 0.1:
                    info = rng.choice(infos)
                    store.tag(f"kept-{info.short}", info.id)
                print(what, flush=True)
            except (ConflictError, NothingToUndo, NotUndoable):  # a name holds it, or another changed it meanwhile
                pass
            time.sleep(rng.uniform(0.02, 0.1))


if __name__ == "__main__":
    journal.SEAL_FRAMES = SEAL_FRAMES
    session.OWN_PACK_BYTES = PART_BYTES
    session.FRAME_OBJECT_BYTES = 8 << 10
    {"commit": commit, "collect": collect, "repack": repack, "read": read, "change": change}[sys.argv[1]](*sys.argv[2:])
