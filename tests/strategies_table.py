"""All rows of the table of values that are stored as something simpler, and what compares them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests import strategies_standard as standard

ROWS: dict[str, st.SearchStrategy[Any]] = dict(standard.ROWS)


def plain(value: Any) -> Any:
    """A value as plain nested ones that say all of it."""
    return standard.plain(value)
