from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.errors import UsageError


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def changes(store: casckpt.Store, before: Any, after: Any) -> dict[str, tuple[str, str, str]]:
    a, b = store.commit(before), store.commit(after)
    return {leaf.path: (leaf.change, leaf.before, leaf.after) for leaf in store.diff(a.id, b.id).leaves}


def test_equal_states_do_not_differ(store: casckpt.Store) -> None:
    state = {"m": {"w": torch.randn(1000, 100), "s": np.arange(9)}, "n": [1, 2.5, None, "x", float("nan")]}
    first, second = store.commit(state), store.commit(state)
    found = store.diff(first.id, second.id)
    assert found.leaves == ()
    assert found.equal == 7
    assert found.equal_bytes == found.total_bytes > 0


def test_leaves_are_added_removed_changed_or_of_another_kind(store: casckpt.Store) -> None:
    before = {"same": 1, "gone": 2, "value": 3, "type": 4, "shape": np.zeros(3), "dtype": np.zeros(3), "big": "a"}
    after = {"same": 1, "value": 5, "type": "4", "shape": np.zeros(4), "dtype": np.zeros(3, "f4"), "big": "b", "new": 0}
    assert changes(store, before, after) == {
        "gone": ("removed", "2", ""),
        "new": ("added", "", "0"),
        "value": ("changed", "3", "5"),
        "type": ("kind", "4", "'4'"),
        "shape": ("kind", "<f8[3]", "<f8[4]"),
        "dtype": ("kind", "<f8[3]", "<f4[3]"),
        "big": ("changed", "'a'", "'b'"),
    }


@pytest.mark.parametrize(
    ("one", "other"), [(True, 1), (1, 1.0), (0.0, -0.0), (b"x", bytearray(b"x")), ([], ()), ({}, []), (None, 0)]
)
def test_values_that_python_takes_for_equal_differ_by_type_and_bits(store: casckpt.Store, one: Any, other: Any) -> None:
    assert set(changes(store, {"x": one}, {"x": other})) == {"x"}


@pytest.mark.parametrize("kind", ["float", "complex"])
def test_nan_of_other_bits_differ(store: casckpt.Store, kind: str) -> None:
    quiet, odd = (struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8 << 48, 0xFFF8 << 48 | 5))
    states = [{"x": value if kind == "float" else complex(value, 0)} for value in (quiet, odd)]
    assert set(changes(store, *states)) == {"x"}


def test_a_small_leaf_that_did_not_change_is_equal_though_its_neighbour_did(store: casckpt.Store) -> None:
    before = {"m": {f"w{n}": np.full(500, n) for n in range(20)}}
    after = {"m": {**before["m"], "w7": np.zeros(500, int)}}
    assert set(changes(store, before, after)) == {"m/w7"}


@pytest.mark.parametrize(
    "square", [torch.arange(9.0).reshape(3, 3), np.arange(9.0).reshape(3, 3)], ids=["tensor", "array"]
)
def test_a_view_of_the_same_bytes_in_another_order_differs(store: casckpt.Store, square: Any) -> None:
    assert changes(store, {"x": square}, {"x": square.T})["x"][0] == "changed"


def test_of_a_large_leaf_the_chunks_that_differ_are_counted(store: casckpt.Store) -> None:
    rng = np.random.default_rng(0)
    before = {"w": rng.integers(0, 255, 5 << 20, np.uint8)}
    after = {"w": before["w"].copy()}
    after["w"][3 << 20] ^= 1
    first, second = store.commit(before), store.commit(after)
    (leaf,) = store.diff(first.id, second.id).leaves
    assert (leaf.change, leaf.nbytes, leaf.differing) == ("changed", 5 << 20, 1 << 20)
    found = store.diff(first.id, second.id)
    assert (found.equal_bytes, found.total_bytes) == (4 << 20, 5 << 20)


def test_metrics_stand_beside_each_other(store: casckpt.Store) -> None:
    a, b = store.commit({}, metrics={"x": 1, "y": 2}), store.commit({}, metrics={"y": 3, "z": 4})
    assert store.diff(a.id, b.id).metrics == {"x": (1, None), "y": (2, 3), "z": (None, 4)}


def test_a_diff_may_go_either_way_and_to_itself(store: casckpt.Store) -> None:
    a, b = store.commit({"x": 1}), store.commit({"x": 1, "y": 2})
    assert [leaf.change for leaf in store.diff(a.id, b.id).leaves] == ["added"]
    assert [leaf.change for leaf in store.diff(b.id, a.id).leaves] == ["removed"]
    assert store.diff(a.id, a.id).leaves == ()


def test_a_diff_has_the_differences_of_what_was_committed_beside_the_state(store: casckpt.Store) -> None:
    first = store.commit({"x": 1}, config={"lr": 0.1, "seed": 7}, environment={"torch": "2.1"}, data="v1")
    second = store.commit({"x": 1}, config={"lr": 0.3, "seed": 7}, environment={"torch": "2.1"})
    found = store.diff(first.id, second.id)
    assert [(field.path, field.values) for field in found.metadata.config.different] == [("lr", (0.1, 0.3))]
    fields = found.to_dict()
    assert fields["config"] == {"different": [{"path": "lr", "values": [0.1, 0.3], "missing": []}], "equal": 1}
    assert fields["environment"] == {"different": [], "equal": 1}
    assert fields["code"] == {"different": [], "equal": 0}
    assert fields["data"] == {"different": [{"path": "", "values": ["v1", None], "missing": [1]}], "equal": 0}


def test_a_diff_of_one_part_leaves_the_other_alone(store: casckpt.Store) -> None:
    first = store.commit({"x": 1}, metrics={"loss": 1}, config={"lr": 1})
    second = store.commit({"x": 2}, metrics={"loss": 2}, config={"lr": 2})
    meta = store.diff(first.id, second.id, parts=("metadata",))
    assert (meta.parts, meta.leaves, meta.metrics) == (("metadata",), (), {"loss": (1, 2)})
    tree = store.diff(first.id, second.id, parts=("tree",))
    assert (tree.parts, len(tree.leaves), tree.metrics, tree.metadata.is_empty) == (("tree",), 1, {}, True)


@pytest.mark.parametrize("words", [{"parts": ()}, {"parts": ("leaves",)}, {"parts": ("metadata",), "values": True}])
def test_parts_that_make_no_diff_are_refused(store: casckpt.Store, words: dict[str, Any]) -> None:
    made = store.commit({"x": 1})
    with pytest.raises(UsageError):
        store.diff(made.id, made.id, **words)
