"""The leaves of a stored structure, for showing, comparing and naming them. Needs neither numpy nor torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from casckpt.state import paths
from casckpt.state.checks import inconsistent
from casckpt.state.flat import BLOB_FIELD, DEPTH_MAX, Node
from casckpt.state.nodes import (
    AnyNode,
    ArrayNode,
    FileNode,
    LinkNode,
    MapNode,
    NumbersNode,
    PartNode,
    ReducedNode,
    SequenceNode,
    TensorNode,
    TextNode,
    parse,
)
from casckpt.state.values import Scalar, decode_value


@dataclass(frozen=True, slots=True)
class LeafInfo:
    """One leaf.

    Args:
        path: canonical full path.
        kind: none, bool, int, float, complex, str, bytes, bytearray, scalar, array, tensor, numbers; part for a
            component of the root; file (its value: executable); link (its value: the target); dict, odict, list and
            tuple if empty, since these are seen nowhere else. What is stored as something simpler (`reduced`) has a
            leaf of its own, of its kind; it takes the place of the simpler value's if that is one leaf, else it stands
            before the leaves of that.
        dtype: of a scalar, array, tensor; the element type of numbers; the parameter of what is stored as something
            simpler, if it has one; else None.
        shape: of an array, tensor, numbers; else None.
        blob: number of the blob its bytes are in, None without bytes there.
        offset: of its first element in the blob, in bytes.
        value: an inline value, a scalar's bytes, a part's number; None for all others.
        node: of an array, tensor, numbers: all that is stored of it.
    """

    path: str
    kind: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    blob: int | None = None
    offset: int = 0
    value: object = None
    node: ArrayNode | NumbersNode | TensorNode | None = field(default=None, compare=False, repr=False)


def walk(name: str, node: Node, values: Sequence[object]) -> Iterator[LeafInfo]:
    """The leaves of one component in walk order; hostile input.

    Args:
        name, node, values: as in `flat.FlatComponent`.

    Raises:
        FormatError, IntegrityError: as `unflatten`; while iterating. What lies in blobs is not looked at.
    """
    taken = 0
    start_depth = 1 if name else 0
    stack: list[tuple[str, Node, int, ReducedNode | None]] = [(name, node, start_depth, None)]
    while stack:
        path, node, depth, outer = stack.pop()
        if node is None:
            if taken == len(values):
                raise inconsistent(f"more places than {taken} values")
            yield _named(_inline(path, values[taken]), outer)
            taken += 1
            continue
        found = parse(node, depth + 1)
        if not isinstance(found, MapNode | SequenceNode | ReducedNode):
            yield _named(_leaf(path, found), outer)
            continue
        if depth >= DEPTH_MAX:
            raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
        if isinstance(found, ReducedNode):
            inner = found if outer is None else ReducedNode(f"{outer.kind} {found.kind}", outer.param, found.child)
            stack.append((path, found.child, depth + 1, inner))
            continue
        children = list(_children(path, found))
        if outer is not None or not children:
            yield _named(LeafInfo(path, found.kind), outer)
        stack += [(below, child, depth + 1, None) for below, child in reversed(children)]
    if taken != len(values):
        raise inconsistent(f"{len(values)} values for {taken} places")


class Contents(NamedTuple):
    """What a component holds that asks for care.

    Args:
        packed: its blobs that are texts or packed numbers.
        files: whether it has files.
        reduced: whether it has values that are stored as something simpler.
    """

    packed: frozenset[int]
    files: bool
    reduced: bool


def contents(node: Node) -> Contents:
    """What a component holds that asks for care.

    Checks nothing: what is malformed is refused by those who look at it.

    Cost: 0.2 us a node, a tenth of `walk`.
    """
    packed: set[int] = set()
    files = reduced = False
    stack: list[object] = [node]
    while stack:
        found = stack.pop()
        if type(found) is not list or len(found) < 2:
            continue
        tag = found[0]
        if tag in ("tensor", "array"):
            continue
        if tag in ("dict", "odict"):
            stack += found[2] if len(found) > 2 and type(found[2]) is list else ()
            stack += found[3:]
        elif tag in ("list", "tuple"):
            stack += found[1] if type(found[1]) is list else ()
        elif tag in ("str", "bytes", "bytearray", "numbers"):
            blob = found[BLOB_FIELD[tag]] if len(found) > BLOB_FIELD[tag] else None
            if type(blob) is int:
                packed.add(blob)
        elif tag == "reduced":
            reduced = True
            stack += found[3:]
        files = files or tag in ("file", "link")
    return Contents(frozenset(packed), files, reduced)


def _children(path: str, found: MapNode | SequenceNode) -> Iterator[tuple[str, Node]]:
    prefix = f"{path}/" if path else ""
    if isinstance(found, SequenceNode):
        for index, child in enumerate(found.children):
            yield f"{prefix}{index}", child
        return
    for key, child in zip(found.keys, found.children, strict=True):
        yield prefix + paths.element(key), child
    for child in found.metadata:
        yield prefix + paths.METADATA, child


def _named(leaf: LeafInfo, outer: ReducedNode | None) -> LeafInfo:
    """A leaf, under the kind of what it is stored for."""
    return leaf if outer is None else replace(leaf, kind=outer.kind, dtype=outer.param or leaf.dtype)


def _inline(path: str, entry: object) -> LeafInfo:
    value = decode_value(entry)
    if isinstance(value, Scalar):
        return LeafInfo(path, "scalar", dtype=value.dtype, value=value.data)
    return LeafInfo(path, "none" if value is None else type(value).__name__, value=value)


def _leaf(path: str, found: AnyNode) -> LeafInfo:
    if isinstance(found, TensorNode | ArrayNode):
        kind = "tensor" if isinstance(found, TensorNode) else "array"
        return LeafInfo(path, kind, found.dtype, found.shape, found.blob, found.offset, node=found)
    if isinstance(found, NumbersNode):
        return LeafInfo(path, "numbers", found.element, (found.count,), found.blob, node=found)
    if isinstance(found, TextNode):
        return LeafInfo(path, found.kind, blob=found.blob)
    if isinstance(found, PartNode):
        return LeafInfo(path, "part", value=found.number)
    if isinstance(found, FileNode):
        return LeafInfo(path, "file", blob=found.blob, value=found.executable)
    if isinstance(found, LinkNode):
        return LeafInfo(path, "link", value=found.target)
    raise AssertionError(found)
