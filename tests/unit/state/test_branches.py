"""A stored structure as a tree keeps containers, keys and kinds, and refuses what contradicts itself."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import pytest

from casckpt.errors import FormatError, IntegrityError
from casckpt.state.branches import Branch, Leaf, PartTuple, grow, leaves
from casckpt.state.flatten import flatten


def grown(state: Any) -> Branch | Leaf:
    flat = flatten(state)
    return grow([(part.name, part.node, part.values) for part in (flat.root, *flat.components)])


def shown(tree: Branch | Leaf) -> Any:
    """Kinds, keys and values of a tree."""
    if isinstance(tree, Leaf):
        return tree.value if tree.node is None else tree.raw[0] if tree.raw else None
    return tree.kind, {key: shown(child) for key, child in tree.items()}


def test_containers_keep_kinds_keys_and_order() -> None:
    state = {"m": OrderedDict(b=1, a=(2, [None])), 7: "x", "text": "y" * 2000, "c": Counter(a=1)}
    assert shown(grown(state)) == (
        "dict",
        {
            "m": ("odict", {"b": 1, "a": ("tuple", {0: 2, 1: ("list", {0: None})})}),
            7: "x",
            "text": "str",
            "c": ("Counter", {"value": ("dict", {"a": 1})}),
        },
    )


def test_leaves_have_their_paths_and_parts() -> None:
    tree = grown({"m": {"a": 1}, "n": [2], "x": 3})
    assert [(leaf.path, leaf.part, leaf.value) for leaf in leaves(tree)] == [("m/a", 1, 1), ("n/0", 2, 2), ("x", 0, 3)]


def test_metadata_is_no_leaf() -> None:
    state = OrderedDict(a=1)
    vars(state)["_metadata"] = {"version": 2}
    tree = grown({"m": state})
    assert isinstance(tree, Branch) and isinstance(tree.children[0], Branch)
    assert shown(tree.children[0].metadata) == ("dict", {"version": 2})  # type: ignore[arg-type]
    assert [leaf.path for leaf in leaves(tree)] == ["m/a"]


def _deep() -> Any:
    node: Any = None
    for _ in range(300):
        node = ["list", [node]]
    return node


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [("", None, [])],
        [("", None, [1, 2])],
        [("", ["dict", ["a"], []], [])],
        [("", ["what"], [])],
        [("", ["dict", ["a"], [["part", 0]]], [])],
        [("", ["list", [["list", [["part", 0]]]]], []), ("a", None, [1])],
        [("", ["part", 0], []), ("a", None, [1])],
        [("", ["list", [["part", 0]]], []), ("a", ["list", [["part", 0]]], [])],
        [("", _deep(), [1])],
    ],
)
def test_what_contradicts_itself_is_refused(parts: list[PartTuple]) -> None:
    with pytest.raises((IntegrityError, FormatError)):
        grow(parts)
