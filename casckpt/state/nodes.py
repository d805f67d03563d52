"""The grammar of nodes: `parse` turns one node of a stored structure into a typed value, or refuses it.

Only the node itself is checked, not its children: `unflatten` and `walk` go on from here.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, cast

from casckpt.state.checks import expect, expect_count, expect_counts, inconsistent, unknown
from casckpt.state.flat import DIMS_MAX, LINK_MAX_BYTES, PARAMETER, REQUIRES_GRAD, Node
from casckpt.state.values import decode_key


@dataclass(frozen=True, slots=True)
class MapNode:
    kind: Literal["dict", "odict"]
    keys: list[Hashable]
    children: list[Node]
    metadata: tuple[Node, ...]
    """The node of `_metadata`, if there is one."""


@dataclass(frozen=True, slots=True)
class SequenceNode:
    kind: Literal["list", "tuple"]
    children: list[Node]


@dataclass(frozen=True, slots=True)
class ReducedNode:
    kind: str
    param: str | None
    child: Node


@dataclass(frozen=True, slots=True)
class NumbersNode:
    element: Literal["int64", "float64", "bool"]
    count: int
    blob: int


@dataclass(frozen=True, slots=True)
class TextNode:
    kind: Literal["str", "bytes", "bytearray"]
    blob: int


@dataclass(frozen=True, slots=True)
class ArrayNode:
    dtype: str
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    blob: int | None
    offset: int
    strides: tuple[int, ...] | None
    """In bytes, may be negative; None if `order` says them."""


@dataclass(frozen=True, slots=True)
class TensorNode:
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In elements; None for the default ones of the shape."""
    blob: int | None
    offset: int
    flags: int


@dataclass(frozen=True, slots=True)
class PartNode:
    number: int


@dataclass(frozen=True, slots=True)
class FileNode:
    blob: int | None
    executable: bool


@dataclass(frozen=True, slots=True)
class LinkNode:
    target: bytes


AnyNode = (
    MapNode
    | SequenceNode
    | ReducedNode
    | NumbersNode
    | TextNode
    | ArrayNode
    | TensorNode
    | PartNode
    | FileNode
    | LinkNode
)


def parse(node: list[Any], depth: int) -> AnyNode:
    """The typed form of one node that is not None; hostile input.

    Args:
        node: as `flat` describes it.
        depth: containers around it, for the limit of tuple keys.

    Raises:
        FormatError: an unknown tag or form.
        IntegrityError: a field is not what the tag promises.
    """
    if type(node) is not list or not node or type(node[0]) is not str:
        raise unknown(f"a node of type {type(node).__name__} without a tag")
    form = _FORMS.get(node[0])
    if form is None or not form[0] <= len(node) <= form[1]:
        raise unknown(f"node {node[0][:40]!r} with {len(node) - 1} fields")
    return cast("AnyNode", form[2](node, depth))


def _map(node: list[Any], depth: int) -> MapNode:
    entries, children = expect(node[1], list, "a list of keys"), expect(node[2], list, "a list of children")
    if len(entries) != len(children):
        raise inconsistent(f"{len(entries)} keys for {len(children)} children")
    keys = [entry if type(entry) is str else decode_key(entry, depth) for entry in entries]
    if len(set(keys)) != len(keys):
        raise inconsistent("a dict has the same key twice")
    return MapNode(node[0], keys, children, tuple(node[3:]))


def _sequence(node: list[Any], _depth: int) -> SequenceNode:
    return SequenceNode(node[0], expect(node[1], list, "a list of children"))


def _reduced(node: list[Any], _depth: int) -> ReducedNode:
    if node[2] is not None and type(node[2]) is not str:
        raise inconsistent("the parameter of a reduced value is not text")
    return ReducedNode(expect(node[1], str, "the kind of a reduced value"), node[2], node[3])


def _numbers(node: list[Any], _depth: int) -> NumbersNode:
    if node[1] not in ("int64", "float64", "bool"):
        raise unknown("a list of numbers of an unknown element type")
    return NumbersNode(node[1], expect_count(node[2], "a list's length"), expect_count(node[3], "a blob number"))


def _text(node: list[Any], _depth: int) -> TextNode:
    return TextNode(node[0], expect_count(node[1], "a blob number"))


def _array(node: list[Any], _depth: int) -> ArrayNode:
    dtype, shape, offset = expect(node[1], str, "a dtype"), expect_counts(node[2], "a shape"), node[5]
    if node[3] not in ("C", "F"):
        raise unknown("an array of an unknown order")
    strides = None
    if len(node) == 7:
        if type(node[6]) is not list or len(node[6]) > DIMS_MAX:
            raise inconsistent("an array's strides are not a list of at most 64")
        for stride in node[6]:
            if type(stride) is not int or not -(1 << 63) < stride < 1 << 63:
                raise inconsistent("an array's stride is not an int of 64 bits")
        strides = tuple(node[6])
    return ArrayNode(dtype, shape, node[3], _blob(node[4]), expect_count(offset, "an offset"), strides)


def _tensor(node: list[Any], _depth: int) -> TensorNode:
    dtype, shape = expect(node[1], str, "a dtype"), expect_counts(node[2], "a shape")
    strides = None if node[3] is None else expect_counts(node[3], "a tensor's strides")
    offset, flags = expect_count(node[5], "an offset"), expect_count(node[6], "a tensor's flags")
    if flags & ~(REQUIRES_GRAD | PARAMETER):
        raise unknown(f"a tensor with flags {flags:#x}")
    return TensorNode(dtype, shape, strides, _blob(node[4]), offset, flags)


def _part(node: list[Any], _depth: int) -> PartNode:
    return PartNode(expect_count(node[1], "a component number"))


def _file(node: list[Any], _depth: int) -> FileNode:
    if type(node[2]) is not bool:
        raise unknown("a file of an unknown mode")
    return FileNode(_blob(node[1]), node[2])


def _link(node: list[Any], _depth: int) -> LinkNode:
    target: bytes = expect(node[1], bytes, "the target of a link")
    if not 0 < len(target) <= LINK_MAX_BYTES or b"\0" in target:
        raise inconsistent("the target of a link is no path")
    return LinkNode(target)


def _blob(number: Any) -> int | None:
    return None if number is None else expect_count(number, "a blob number")


_FORMS: dict[str, tuple[int, int, Any]] = {
    "dict": (3, 3, _map),
    "odict": (3, 4, _map),
    "list": (2, 2, _sequence),
    "tuple": (2, 2, _sequence),
    "reduced": (4, 4, _reduced),
    "numbers": (4, 4, _numbers),
    "str": (2, 2, _text),
    "bytes": (2, 2, _text),
    "bytearray": (2, 2, _text),
    "array": (6, 7, _array),
    "tensor": (7, 7, _tensor),
    "part": (2, 2, _part),
    "file": (3, 3, _file),
    "link": (2, 2, _link),
}
"""Per tag: least and most length of the node, and what parses it."""
