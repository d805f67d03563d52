"""Every row of the table of values, alone and mixed, through a whole store: exact, and of one id in every process."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import casckpt
from tests.property.value_ids import MIXED, collect
from tests.strategies_table import ROWS, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns of what the strategies make
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def used() -> Iterator[casckpt.Store]:
    """A store that many states were committed to before."""
    with casckpt.memory() as store:
        yield store


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(state=MIXED)
def test_what_is_checked_out_is_what_was_committed(used: casckpt.Store, state: Any) -> None:
    info = used.commit({"state": state})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", casckpt.OpaqueWarning)
        back = used.checkout(info.id)["state"]
    assert_same(state, back)
    assert used.commit({"state": back}).tree == info.tree


def test_the_mixed_states_hold_every_row() -> None:
    found = collect(900)
    assert found >= set(ROWS), set(ROWS) - found


def test_the_same_values_have_the_same_ids_in_another_process() -> None:
    # Hypothesis takes constants from the modules that are imported, so both are processes of their own.
    words = [sys.executable, "-m", "tests.property.value_ids", "60"]
    printed = [
        subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment, check=True).stdout.split()
        for environment in ({**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "77"))
    ]
    assert printed[0] == printed[1]
    assert len(set(printed[0])) > 30
