"""States that mix all rows of the table of values, and their tree ids: `python -m tests.property.value_ids COUNT`."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import casckpt
from tests.strategies import states
from tests.strategies_table import ROWS

_found: set[str] = set()


@st.composite
def _mixed(draw: st.DrawFn) -> Any:
    """Values of a few rows, some inside others' containers, beside plain ones that may share memory."""
    rows = draw(st.lists(st.sampled_from(sorted(ROWS)), min_size=1, max_size=4))
    _found.update(rows)
    values = [draw(ROWS[row]) for row in rows]
    nested = {"first": values[:1], "rest": tuple(values[1:]), "plain": draw(states(1))}
    return values if draw(st.booleans()) else nested


MIXED = _mixed()


def _examples(count: int, note: Any) -> None:
    settings(
        derandomize=True, database=None, deadline=None, max_examples=count, suppress_health_check=list(HealthCheck)
    )(given(MIXED)(note))()


def collect(count: int) -> set[str]:
    """The rows that so many mixed states hold."""
    _found.clear()
    _examples(count, lambda _state: None)
    return set(_found)


def tree_ids(count: int) -> list[str]:
    """Ids of mixed states, which depend on this source alone."""
    ids: list[str] = []

    def note(state: Any) -> None:
        with casckpt.memory() as store:
            ids.append(store.commit({"state": state}).tree)

    _examples(count, note)
    return ids


if __name__ == "__main__":
    print("\n".join(tree_ids(int(sys.argv[1]))))
