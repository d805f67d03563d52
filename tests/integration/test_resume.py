"""A training that is killed goes on from its last commit and ends with the bits of one that was not.

The training is the demo's (momentum, dropout, its own sampler, tied weights), shortened. Twenty trainings are each
killed at a random instant: half of them anywhere, half inside a commit.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nursery import Child, Nursery, nursery

PRELUDE = """
import torch._dynamo  # an optimizer would import it, for a second
import lmdb, casckpt.store, casckpt.ops.commit, casckpt.odb.pipeline, casckpt.state.unflatten
from tools.demo import train
"""
TRAIN = "from tools.demo import train; train.main()"
STEPS, EVERY = 16, 4
KILLS = 20


@pytest.fixture(scope="module")
def trainings() -> Iterator[Nursery]:
    with nursery(PRELUDE) as started:
        yield started


def start(trainings: Nursery, store: Path) -> Child:
    return trainings.start(TRAIN, store, "--steps", STEPS, "--every", EVERY, "--layers", 2)


def finish(process: Child) -> str:
    """Fingerprint of a training that runs to its end."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output.splitlines()[-1]


@pytest.fixture(scope="module")
def undisturbed(trainings: Nursery, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fingerprint of the training that nobody killed."""
    return finish(start(trainings, tmp_path_factory.mktemp("undisturbed") / "store"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_training_ends_with_the_same_bits(
    seed: int, tmp_path: Path, trainings: Nursery, undisturbed: str
) -> None:
    chance = random.Random(seed)
    process = start(trainings, tmp_path / "store")
    inside_commit = seed % 2 == 0
    # The last commit is left out, so that there is something left to do.
    moments = range(1, STEPS // EVERY) if inside_commit else range(1, STEPS - 1)
    wanted, seen = chance.choice(moments), 0
    for line in process.stdout:
        seen += line.startswith("committing " if inside_commit else "step ")
        if seen == wanted:
            break
    time.sleep(chance.uniform(0, 0.03))
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert finish(start(trainings, tmp_path / "store")) == undisturbed
