"""States compared container by container and leaf by leaf, whatever memory the leaves share."""

from __future__ import annotations

from typing import Any

from casckpt.state import paths
from casckpt.state.flatten import flatten
from tests.strategies import assert_same_state


def is_packed(value: Any) -> bool:
    """Whether a list is one leaf."""
    flat = flatten([value])
    return bool(flat.root.node and flat.root.node[1][0] and flat.root.node[1][0][0] == "numbers")


def assert_same_leaves(expected: Any, found: Any) -> None:
    """Fail unless `found` is `expected` in every container, type and bit."""
    assert type(expected) is type(found)
    if isinstance(expected, dict):
        assert list(map(paths.element, expected)) == list(map(paths.element, found))
        for mine, theirs in zip(expected.values(), found.values(), strict=True):
            assert_same_leaves(mine, theirs)
        assert list(getattr(expected, "__dict__", {})) == list(getattr(found, "__dict__", {}))
        for name, mine in getattr(expected, "__dict__", {}).items():
            assert_same_leaves(mine, vars(found)[name])
    elif isinstance(expected, list | tuple) and not is_packed(expected):
        assert len(expected) == len(found)
        for mine, theirs in zip(expected, found, strict=True):
            assert_same_leaves(mine, theirs)
    else:
        assert_same_state(expected, found)
