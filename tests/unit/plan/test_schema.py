"""What a schema may be, and the way from an old version to the current one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import casckpt
from casckpt.errors import MigrationExists, MigrationNotFound, NewerSchema, SchemaMismatch, TooLarge, UsageError
from casckpt.plan.schema import Migrations, Schema, Step, registered


def test_required_paths_are_distinct_and_ascend() -> None:
    assert Schema("a", 1, ["b", "a/**", "b"]).required == ("a/**", "b")
    assert Schema("a", 1, "b") == Schema("a", 1, ("b",))
    assert Schema("a", 1, (text for text in "ba")).required == ("a", "b")  # type: ignore[arg-type]
    assert Schema("a", 1).required == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Schema("a", 1).version = 2  # type: ignore[misc]


def test_a_schema_may_be_given_as_a_tuple() -> None:
    schema = Schema("a", 1, ["x"])
    assert Schema.of(schema) is schema
    assert Schema.of(("a", 1)) == Schema("a", 1)
    assert Schema.of(("", -(1 << 63))).version == -(1 << 63)


@pytest.mark.parametrize(
    "wrong", ["a", ["a", 1], ("a",), ("a", 1, ()), None, ("a", "1"), (1, 1), ("\ud800", 1)], ids=ascii
)
def test_what_is_no_schema_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="a name and a version"):
        Schema.of(wrong)


@pytest.mark.parametrize("version", [True, 1.0, 1 << 63, -(1 << 63) - 1, None])
def test_a_version_is_an_int_of_64_bits(version: Any) -> None:
    with pytest.raises(UsageError, match="a name and a version"):
        Schema("a", version)


@pytest.mark.parametrize("required", ["", "/", ["a", ""], [1], 5, None, ["\ud800"], b"a"], ids=ascii)
def test_a_required_path_is_a_pattern(required: Any) -> None:
    with pytest.raises(UsageError, match="required paths are patterns"):
        Schema("a", 1, required)


def test_required_paths_are_bounded_as_in_a_commit() -> None:
    assert len(Schema("a", 1, [str(number) for number in range(64)]).required) == 64
    assert Schema("a", 1, "é" * 512).required == ("é" * 512,)
    with pytest.raises(TooLarge, match="65"):
        Schema("a", 1, [str(number) for number in range(65)])
    with pytest.raises(TooLarge, match="1026"):
        Schema("a", 1, "é" * 513)


# ---- steps


def trail(start: int, end: int) -> Callable[[Any], Any]:
    """A step that writes down that it was taken."""
    return lambda state: [*state, (start, end)]


def migrations(*pairs: tuple[int, int], name: str = "a") -> Migrations:
    made = Migrations()
    for start, end in pairs:
        made.add(Step(name, start, end, trail(start, end)))
    return made


def taken(way: tuple[Step, ...]) -> list[tuple[int, int]]:
    state: Any = []
    for step in way:
        state = step.function(state)
    return state


def test_the_current_version_is_the_highest_a_step_leads_to() -> None:
    assert migrations((3, 4), (1, 2)).current("a") == 4
    assert migrations((1, 2)).current("b") is None


def test_steps_are_followed_in_order() -> None:
    steps = migrations((4, 7), (1, 2), (2, 4))
    assert taken(steps.way("c", ("a", 1))) == [(1, 2), (2, 4), (4, 7)]
    assert taken(steps.way("c", ("a", 2))) == [(2, 4), (4, 7)]
    assert taken(steps.way("c", ("a", 1), Schema("a", 4))) == [(1, 2), (2, 4)]
    assert steps.way("c", ("a", 7)) == ()
    assert steps.way("c", ("a", 9), Schema("a", 9)) == ()


def test_a_state_of_which_nothing_is_known_stays_as_it_is() -> None:
    assert migrations((1, 2)).way("c", ("b", 1)) == ()
    assert migrations((1, 2)).way("c", None) == ()


@pytest.mark.parametrize(("stored", "asked"), [(None, "a"), (("b", 1), "a")])
def test_another_schema_than_the_stored_one_is_refused(stored: Any, asked: str) -> None:
    with pytest.raises(SchemaMismatch, match="migrate=False"):
        migrations((1, 2)).way("c", stored, Schema(asked, 2))


def test_a_version_from_the_future_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        NewerSchema, match=r"holds version 3 of the schema 'a'; this program knows up to 2; .*migrate=False"
    ):
        migrations((1, 2)).way("c", ("a", 3))
    with pytest.raises(NewerSchema):
        migrations((1, 2)).way("c", ("a", 2), Schema("a", 1))


@pytest.mark.parametrize(
    ("pairs", "stored", "asked", "at"),
    [
        (((1, 2), (3, 4)), 1, None, 2),
        (((2, 3),), 1, None, 1),
        (((1, 3),), 1, 2, 1),
        ((), 1, 2, 1),
    ],
)
def test_a_gap_names_where_the_steps_end(pairs: Any, stored: int, asked: int | None, at: int) -> None:
    steps = migrations(*pairs)
    with pytest.raises(MigrationNotFound, match=f"no step leads from version {at} ") as caught:
        steps.way("c", ("a", stored), None if asked is None else Schema("a", asked))
    assert caught.value.facts["registered"] == (", ".join(f"{start} to {end}" for start, end in pairs) or "none")


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1), (1, True), ("1", 2)])
def test_a_step_leads_to_a_later_version(start: Any, end: Any) -> None:
    with pytest.raises(UsageError):
        Migrations().add(Step("a", start, end, trail(1, 2)))


def test_a_step_is_a_function() -> None:
    with pytest.raises(UsageError, match="a function of a state"):
        Migrations().add(Step("a", 1, 2, None))  # type: ignore[arg-type]


def test_one_step_leaves_each_version() -> None:
    steps = migrations((1, 2))
    for end in (2, 3):
        with pytest.raises(MigrationExists, match="from version 1 of the schema 'a'"):
            steps.add(Step("a", 1, end, trail(1, end)))
    steps.add(Step("b", 1, 2, trail(1, 2)))
    assert taken(steps.way("c", ("a", 1))) == [(1, 2)]


def defined(result: int) -> Callable[[Any], int]:
    def up(state: Any) -> int:
        return result

    return up


def test_a_function_that_is_defined_anew_takes_its_own_place() -> None:
    steps = Migrations()
    for result in (1, 2):
        steps.add(Step("a", 1, 2, defined(result)))
    assert steps.way("c", ("a", 1))[0].function(None) == 2
    with pytest.raises(MigrationExists, match="defined"):
        steps.add(Step("a", 1, 3, defined(3)))
    nameless = partial(defined(4), None)
    steps.add(Step("a", 2, 3, nameless))
    steps.add(Step("a", 2, 3, nameless))
    with pytest.raises(MigrationExists, match=r"functools\.partial"):
        steps.add(Step("a", 2, 3, partial(defined(4), None)))


def test_the_decorator_gives_the_function_back() -> None:
    @casckpt.migration("test_schema decorated", 1, 2)
    def up(state: Any) -> Any:
        return state

    assert up(5) == 5
    assert registered.way("c", ("test_schema decorated", 1))[0].function is up


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), max_size=8, unique_by=lambda pair: pair[0]),
    st.integers(0, 17),
    st.none() | st.integers(0, 17),
)
def test_every_way_is_the_one_chain_of_steps_there_is(
    pairs: list[tuple[int, int]], stored: int, asked: int | None
) -> None:
    ends = {start: start + length for start, length in pairs}
    current = asked if asked is not None else max(ends.values(), default=None)
    chain = [stored]
    while chain[-1] in ends:
        chain.append(ends[chain[-1]])
    steps = migrations(*ends.items())
    want = None if asked is None else Schema("a", asked)
    if current is None:
        assert steps.way("c", ("a", stored), want) == ()
    elif current < stored:
        with pytest.raises(NewerSchema):
            steps.way("c", ("a", stored), want)
    elif current not in chain:
        with pytest.raises(MigrationNotFound) as caught:
            steps.way("c", ("a", stored), want)
        assert caught.value.facts["at"] == max(version for version in chain if version < current)
    else:
        way = chain[: chain.index(current) + 1]
        assert taken(steps.way("c", ("a", stored), want)) == list(pairwise(way))
