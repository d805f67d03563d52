"""A process that commits to a store, told what to do by its arguments; prints `number id` for what was acknowledged.

    python -m tests.integration.worker commit STORE RUN WORKER FIRST LAST
    python -m tests.integration.worker stop STORE          stops itself inside its first chunk, then commits

The state of a commit is a function of worker and number, so that a reader knows what it must be.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np
import numpy.random  # now, not by the first thread that uses it: a fork in the middle of an import hangs the child

import casckpt
from casckpt.odb import journal
from casckpt.odb.session import Session

SEAL_FRAMES_VARIABLE = "TEST_SEAL_FRAMES"
LARGE_EVERY = 8


def state_of(worker: int, number: int) -> dict[str, Any]:
    """What a worker commits: mostly a few bytes, which ride in the journal, and at times enough for a pack."""
    rng = np.random.default_rng([worker, number])
    count = 40_000 if number % LARGE_EVERY == 7 else 12
    return {
        "model": {"w": rng.integers(0, 1 << 32, count, np.uint32), "frozen": np.arange(100, dtype=np.int16)},
        "optimizer": {"step": number, "moments": [rng.standard_normal(4), None]},
        "worker": worker,
    }


def assert_is_state_of(found: Any, worker: int, number: int) -> None:
    expected = state_of(worker, number)
    assert list(found) == list(expected)
    assert found["worker"] == worker
    assert found["optimizer"]["step"] == number
    for got, wanted in (
        (found["model"]["w"], expected["model"]["w"]),
        (found["model"]["frozen"], expected["model"]["frozen"]),
        (found["optimizer"]["moments"][0], expected["optimizer"]["moments"][0]),
    ):
        assert got.dtype == wanted.dtype
        assert got.tobytes() == wanted.tobytes()


def commit(path: str, run: str, worker: str, first: str, last: str) -> None:
    with casckpt.open(path) as store:
        for number in range(int(first), int(last)):
            info = store.commit(state_of(int(worker), number), run=run, step=number, metrics={"loss": 1 / (number + 1)})
            print(number, info.id, flush=True)


def stop(path: str) -> None:
    """Stop inside the first chunk, under the locks a committer has while it hashes."""
    claim_chunk = Session.claim_chunk

    def stopping(*args: Any) -> Any:
        Session.claim_chunk = claim_chunk  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGSTOP)
        return claim_chunk(*args)

    Session.claim_chunk = stopping  # type: ignore[method-assign]
    commit(path, "stopped", "99", "7", "8")


if __name__ == "__main__":
    journal.SEAL_FRAMES = int(os.environ.get(SEAL_FRAMES_VARIABLE, journal.SEAL_FRAMES))
    {"commit": commit, "stop": stop}[sys.argv[1]](*sys.argv[2:])
