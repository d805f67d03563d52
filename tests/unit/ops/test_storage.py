"""Where the bytes of a commit are, and what its first parent has of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import casckpt
from casckpt.errors import CommitDropped
from tests.unit.ops.test_graph import drop

MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as found:
        yield found


def noise(nbytes: int, seed: int) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(nbytes), np.uint8)


def test_a_component_counts_what_the_first_parent_has_too(store: casckpt.Store) -> None:
    weight = noise(3 * MIB, 0)
    store.commit({"model": {"w": weight, "b": noise(4096, 1)}, "opt": {"m": noise(MIB, 2)}, "step": 1})
    changed = weight.copy()
    changed[MIB] ^= 1
    info = store.commit({"model": {"w": changed, "b": noise(4096, 1)}, "opt": {"n": noise(MIB, 2)}, "step": 2})
    found = store.storage()
    assert (found.commit, found.parent) == (info.id, info.parents[0])
    assert [(one.name, one.leaves, one.nbytes, one.shared) for one in found.components] == [
        ("model", 2, 3 * MIB + 4096, 2 * MIB + 4096),
        ("opt", 1, MIB, MIB),
        ("", 1, 0, 0),
    ]
    assert (found.leaves, found.leaves_added, found.leaves_removed, found.leaves_changed) == (4, 1, 1, 2)
    assert (found.nbytes, found.shared) == (4 * MIB + 4096, 3 * MIB + 4096)
    assert found.packs == 2
    assert found.added == info.added
    assert found.to_dict()["components"][0]["bytes_shared"] == 2 * MIB + 4096


def test_small_values_in_the_tree_count_by_their_path(store: casckpt.Store) -> None:
    store.commit({"a": np.zeros(4, "<f4"), "b": np.ones(4, "<f4")})
    store.commit({"a": np.zeros(4, "<f4"), "b": np.zeros(4, "<f4")})
    [root] = store.storage().components
    assert (root.nbytes, root.shared, root.packs) == (32, 16, 0)
    assert store.storage().leaves_changed == 1


def test_without_a_parent_whose_state_is_here_nothing_is_compared(store: casckpt.Store) -> None:
    first = store.commit({"x": noise(MIB, 0)})
    store.commit({"x": noise(MIB, 0)})
    assert store.storage(f"id:{first.id}").parent is None
    assert store.storage().shared == MIB
    drop(store, first.id)
    found = store.storage()
    assert (found.parent, found.shared, found.leaves_added) == (None, 0, 1)
    with pytest.raises(CommitDropped):
        store.storage(f"id:{first.id}")


def test_parents_and_children_are_described(store: casckpt.Store) -> None:
    first = store.commit({"x": 0}, run="a", step=1)
    left = store.commit({"x": 1}, run="a", step=2)
    right = store.commit({"x": 2}, run="b", step=2, parents=(f"id:{first.id}",))
    merged = store.commit({"x": 3}, run="m", parents=(f"id:{left.id}", f"id:{right.id}"))
    found = store.relatives()
    assert [one.id for one in found.parents] == [left.id, right.id]
    assert found.parents[0].children == (merged.id,)
    assert [one.id for one in store.relatives(f"id:{first.id}").children] == [left.id, right.id]
    assert (store.relatives(f"id:{first.id}").parents, found.more) == ((), 0)


def test_of_many_children_a_hundred_are_described(store: casckpt.Store) -> None:
    first = store.commit({"x": 0})
    for number in range(103):
        store.commit({"x": number}, run=f"r{number}", parents=(f"id:{first.id}",))
    found = store.relatives(f"id:{first.id}")
    assert (len(found.children), found.more) == (100, 3)
    assert found.to_dict()["more"] == 3
