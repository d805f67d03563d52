from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.canonical import encode
from casckpt.format.entry import is_mark
from casckpt.format.limits import MAX_MARK_BYTES
from casckpt.format.marks import OF_LEAVES, PATH_BYTES, PATHS_MAX, leaves_mark

ANY_PATH = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(st.lists(ANY_PATH | ANY_PATH.map(lambda part: part * 200), min_size=1, max_size=20))
def test_any_leaves_make_a_mark_that_is_short_and_accepted(paths: list[str]) -> None:
    value = leaves_mark(paths)
    assert value["leaves"] == len(paths)
    assert len(encode(value)) < MAX_MARK_BYTES // 4
    assert all(is_mark(key, value) for key in OF_LEAVES)
    for given_path, kept in zip(paths[:PATHS_MAX], value["paths"], strict=True):
        assert kept == given_path or (kept.endswith("...") and given_path.startswith(kept[:-3]))
        assert len(kept.encode()) <= PATH_BYTES


@pytest.mark.parametrize(
    "value",
    [
        True,
        "a/b",
        ["a"],
        {"leaves": 1},
        {"paths": ["a"]},
        {"leaves": 0, "paths": []},
        {"leaves": -1, "paths": []},
        {"leaves": True, "paths": ["a"]},
        {"leaves": 1.0, "paths": ["a"]},
        {"leaves": 1, "paths": ["a", "b"]},
        {"leaves": 9, "paths": ["a"] * 9},
        {"leaves": 1, "paths": [b"a"]},
        {"leaves": 1, "paths": "a"},
        {"leaves": 1, "paths": ["a" * MAX_MARK_BYTES]},
    ],
)
def test_another_value_is_no_mark_of_leaves(value: Any) -> None:
    assert not any(is_mark(key, value) for key in OF_LEAVES)


def test_a_mark_of_a_newer_release_may_say_more_and_need_not_name_leaves() -> None:
    assert is_mark("nonfinite", {"leaves": 3, "paths": [], "values": {"a": [1, 2]}})
