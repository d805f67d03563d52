"""A state that is committed and checked out is the same state, and its id depends on nothing but itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import casckpt
from tests.strategies import assert_same_state, keys, leaves, states

ROOT = Path(__file__).resolve().parents[2]
any_state = settings(max_examples=150, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def used() -> Iterator[casckpt.Store]:
    """A store that many states were committed to before."""
    with casckpt.memory() as store:
        yield store


@any_state
@given(state=states())
def test_what_is_checked_out_is_what_was_committed(used: casckpt.Store, state: Any) -> None:
    info = used.commit(state)
    assert_same_state(state, used.checkout(info.id))


@any_state
@given(state=states())
def test_the_id_does_not_depend_on_what_was_committed_before_nor_on_the_run(used: casckpt.Store, state: Any) -> None:
    with casckpt.memory() as fresh:
        assert used.commit(state, run="a").tree == fresh.commit(state, run="b", message="other").tree


@any_state
@given(state=states())
def test_committing_what_was_checked_out_adds_nothing(used: casckpt.Store, state: Any) -> None:
    first = used.commit(state)
    again = used.commit(used.checkout(first.id))
    assert again.tree == first.tree
    assert used.diff(first.id, again.id).leaves == ()


@any_state
@given(names=st.lists(keys(), min_size=2, max_size=5, unique_by=repr), value=leaves(), inner=st.booleans())
def test_another_order_of_a_dict_is_another_state(
    used: casckpt.Store, names: list[Any], value: Any, inner: bool
) -> None:
    one, other = dict.fromkeys(names, value), dict.fromkeys(reversed(names), value)
    if len(one) < 2:
        return
    first, second = (used.commit({"inner": state} if inner else state) for state in (one, other))
    assert first.tree != second.tree


def test_the_same_states_have_the_same_ids_in_another_process() -> None:
    # Hypothesis takes constants from the modules that are imported, so both are processes of their own.
    words = [sys.executable, "-m", "tests.property.tree_ids", "60"]
    printed = [
        subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment, check=True).stdout.split()
        for environment in ({**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "77"))
    ]
    assert printed[0] == printed[1]
    assert len(set(printed[0])) > 30
