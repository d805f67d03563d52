"""What places held over several commits, told by the paths of their leaves."""

from __future__ import annotations

from typing import Any

import numpy as np

import casckpt
from casckpt.format.elements import element_code
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.ops.positions import Held, histories

FLOAT, INT = element_code("float32"), element_code("int32")


def held(*states: Any, drop: dict[int, str] | None = None) -> dict[tuple[str, str], list[list[Held]]]:
    """The places of some states by leaf, after components of some were dropped."""
    store = casckpt.memory()
    infos = [store.commit(state, run="gpt", step=number) for number, state in enumerate(states)]
    store.commit({}, run="gpt")
    for number, parts in (drop or {}).items():
        store.drop(infos[number].id, parts=parts)
    database = store._repository.database
    commits = []
    for info in infos:
        identity = CommitId(ObjectId(bytes.fromhex(info.id)))
        commit = database.commit(identity)
        assert commit is not None
        commits.append((identity, commit))
    found: dict[tuple[str, str], list[list[Held]]] = {}
    for leaf, versions in histories(database, commits):
        found.setdefault(leaf, []).append(versions)
    return found


def floats(count: int, value: float) -> np.ndarray:
    return np.full(count, value, np.float32)


def test_a_leaf_of_several_chunks_is_as_many_places() -> None:
    count = (2 << 18) + 1000
    found = held(*({"m": {"w": floats(count, value)}} for value in (1, 2, 3)))
    places = found["m", "m/w"]
    assert [[one.length for one in place] for place in places] == [[1 << 20] * 3, [1 << 20] * 3, [4000] * 3]
    assert [[one.commit for one in place] for place in places] == [[0, 1, 2]] * 3
    whole = object_id(Kind.CHUNK, floats(1 << 18, 2).tobytes())
    assert [place[1].chunk for place in places[:2]] == [whole, whole]
    assert {one.element for place in places for one in place} == {FLOAT}


def test_small_leaves_are_one_place_named_by_the_first() -> None:
    found = held(*({"m": {"a": floats(40, value), "b": floats(50, value)}} for value in (1, 2)))
    assert {leaf: [[one.length for one in place] for place in places] for leaf, places in found.items()} == {
        ("m", "m/a"): [[360, 360]]
    }


def test_a_place_stays_when_others_come_grow_and_go() -> None:
    states: list[dict[str, Any]] = [
        {"m": {"w": floats(70_000, 1)}},
        {"m": {"a": floats(80_000, 1), "w": floats(70_000, 2)}},
        {"m": {"a": floats(90_000, 1), "w": floats(70_000, 3)}},
        {"m": {"w": floats(70_000, 4), "z": [1, 2, "three"]}},
    ]
    found = held(*states)
    assert [[one.commit for one in place] for place in found["m", "m/w"]] == [[0, 1, 2, 3]]
    assert [[(one.commit, one.length) for one in place] for place in found["m", "m/a"]] == [
        [(1, 320_000), (2, 360_000)]
    ]


def test_a_leaf_may_change_its_type() -> None:
    found = held({"m": {"w": floats(70_000, 1)}}, {"m": {"w": np.zeros(70_000, np.int32)}})
    assert [[one.element for one in place] for place in found["m", "m/w"]] == [[FLOAT, INT]]


def test_a_component_that_was_dropped_is_left_out() -> None:
    states = [{"m": {"w": floats(70_000, value)}, "o": {"v": floats(70_000, -value)}} for value in (1, 2, 3)]
    found = held(*states, drop={1: "o"})
    assert [[one.commit for one in place] for place in found["m", "m/w"]] == [[0, 1, 2]]
    assert [[one.commit for one in place] for place in found["o", "o/v"]] == [[0, 2]]


def test_states_without_chunks_have_no_places() -> None:
    assert held({"step": 1}, {}, {"tiny": floats(3, 1)}) == {}
