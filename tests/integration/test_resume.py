"""A training that is killed goes on from its last commit and ends with the bits of one that was not.

The training is the demo's (momentum, dropout, its own sampler, tied weights), shortened. Twenty trainings are each
killed at a random instant: half of them anywhere, half inside a commit.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "tools" / "demo" / "train.py"
STEPS, EVERY = 16, 4
KILLS = 20


def start(store: Path) -> subprocess.Popen[str]:
    words = [sys.executable, str(TRAIN), str(store), "--steps", str(STEPS), "--every", str(EVERY), "--layers", "2"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[str, bool]:
    """(fingerprint, whether it resumed from a commit) of a training that runs to its end."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.splitlines()[-1], "resumed from" in output


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fingerprint of the training that nobody killed."""
    return finish(start(tmp_path_factory.mktemp("undisturbed") / "store"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_training_ends_with_the_same_bits(seed: int, tmp_path: Path, undisturbed: str) -> None:
    chance = random.Random(seed)
    process = start(tmp_path / "store")
    inside_commit = seed % 2 == 0
    # The last commit is left out, so that there is something left to do.
    moments = range(1, STEPS // EVERY) if inside_commit else range(1, STEPS - 1)
    wanted, seen = chance.choice(moments), 0
    assert process.stdout is not None
    for line in process.stdout:
        seen += line.startswith("committing " if inside_commit else "step ")
        if seen == wanted:
            break
    time.sleep(chance.uniform(0, 0.03))
    process.kill()
    process.communicate()
    fingerprint, _ = finish(start(tmp_path / "store"))
    assert fingerprint == undisturbed
