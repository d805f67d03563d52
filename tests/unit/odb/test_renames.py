"""Renames of runs: the name that the run of a commit has now."""

from __future__ import annotations

import pytest

from casckpt.format.commit import Commit
from casckpt.format.ids import ObjectId, TreeId
from casckpt.odb import tables as t
from casckpt.odb.renames import KEY, listed, present, renames_of


def made(run: str, time_ns: int) -> Commit:
    return Commit(TreeId(ObjectId(bytes(32))), (), run, time_ns)


def named(run: str, time_ns: int, **renames: list[tuple[int, str]]) -> str:
    return present(made(run, time_ns), renames).run


def test_what_was_made_up_to_a_rename_has_the_new_name_and_what_came_later_has_not() -> None:
    assert [named("a", at, a=[(5, "b")]) for at in (0, 5, 6)] == ["b", "b", "a"]
    assert named("c", 0, a=[(5, "b")]) == "c"


def test_each_rename_takes_what_was_made_since_the_one_before() -> None:
    renames = [(5, "b"), (9, "c")]
    assert [named("a", at, a=renames) for at in (5, 6, 9, 10)] == ["b", "c", "c", "a"]


def test_names_are_followed_in_the_order_of_their_renames() -> None:
    assert named("a", 1, a=[(5, "b")], b=[(7, "c")]) == "c"
    assert named("a", 1, a=[(5, "b")], b=[(3, "c")]) == "b"
    assert named("b", 1, a=[(5, "b")], b=[(3, "c")]) == "c"


def test_names_that_go_round_end() -> None:
    assert named("a", 1, a=[(5, "b")], b=[(6, "a")]) == "a"
    assert named("a", 1, a=[(5, "b"), (7, "c")], b=[(6, "a")]) == "c"
    assert named("a", 1, a=[(5, "a")]) == "a"


def test_a_commit_without_a_rename_is_the_same_object() -> None:
    commit = made("a", 1)
    assert present(commit, {"b": [(5, "c")]}) is commit


def test_what_is_no_rename_means_nothing() -> None:
    good = [[5, "b"]]
    assert listed([*good, [1], "x", None, [1, 2], ["1", "n"], [1, ""], [1, "n" * 256], [True, "n"]]) == [(5, "b")]
    assert listed(None) == listed("x") == listed({}) == []


@pytest.mark.parametrize("value", [b"\xc1", b"\x01", b"\x81\xa1a\x01"])
def test_damaged_renames_are_none(value: bytes) -> None:
    tables = t.MemoryTables()
    assert renames_of(tables) == {}
    tables.put(t.META, KEY, value)
    assert present(made("a", 1), renames_of(tables)).run == "a"
