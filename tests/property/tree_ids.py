"""The tree ids of many states, the same ones in every process: `python -m tests.property.tree_ids COUNT`."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import HealthCheck, given, settings

import casckpt
from tests.strategies import states


def tree_ids(count: int) -> list[str]:
    """Ids of the states that hypothesis makes for `note`, which depend on its source alone."""
    found: list[str] = []

    @settings(
        derandomize=True, database=None, deadline=None, max_examples=count, suppress_health_check=list(HealthCheck)
    )
    @given(states())
    def note(state: Any) -> None:
        with casckpt.memory() as store:
            found.append(store.commit({"state": state}).tree)

    note()
    return found


if __name__ == "__main__":
    print("\n".join(tree_ids(int(sys.argv[1]))))
