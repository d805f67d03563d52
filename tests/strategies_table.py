"""All rows of the table of values that are stored as something simpler, and what compares them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests import strategies_standard as standard
from tests import strategies_values as libraries
from tests.leafwise import assert_same_leaves

ROWS: dict[str, st.SearchStrategy[Any]] = standard.ROWS | libraries.STRATEGIES


def assert_same(a: Any, b: Any) -> None:
    """Fail unless `b` is `a` in type and in all that the table promises; both are nested as `value_ids` nests them."""
    assert type(a) is type(b)
    if type(a) is dict:
        assert len(a) == len(b)
        for (name, mine), (other, theirs) in zip(a.items(), b.items(), strict=True):
            assert name == other or (name != name and other != other)  # NaN may be a key too
            assert_same(mine, theirs)
    elif type(a) in (list, tuple) and any(libraries.reduced(one) is not None for one in a):
        assert len(a) == len(b)
        for mine, theirs in zip(a, b, strict=True):
            assert_same(mine, theirs)
    elif libraries.reduced(a) is not None:
        libraries.assert_same(a, b)
    else:
        assert_same_leaves(standard.plain(a), standard.plain(b))
