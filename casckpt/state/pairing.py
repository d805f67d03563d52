"""A stored structure beside a live state: what goes where in place, and what does not fit.

Tensors and arrays are overwritten where they are; all other values are replaced in the dict or list that holds them.
Dicts and lists of the live state stay the same objects, so a model that shares its tensors with the state has them
too. A tuple cannot be changed: where other values come, a new one with them and the same tensors takes its place. An
object with a state dict loads it by itself; a module whose state dict is its own tensors has these overwritten in
place before, and then loads them, which copies nothing, so that its hooks see what came.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

from casckpt.errors import StateError, StateRefused, UnsupportedKey
from casckpt.state import optimizers, paths
from casckpt.state.checks import inconsistent
from casckpt.state.flat import DEPTH_MAX, Node
from casckpt.state.flatten import flatten
from casckpt.state.kinds.table import is_stateful
from casckpt.state.nodes import (
    AnyNode,
    ArrayNode,
    MapNode,
    NumbersNode,
    PartNode,
    ReducedNode,
    SequenceNode,
    TensorNode,
    parse,
)
from casckpt.state.values import Scalar, decode_value, type_name

_HAVE_INSIDES = ("tensor", "array", "dict", "odict", "list", "tuple", "part")


@dataclass(frozen=True, slots=True)
class Pair:
    """A stored tensor or array of component `part`, and the live one it goes into."""

    part: int
    path: str
    node: TensorNode | ArrayNode
    live: Any

    def place(self) -> memoryview | None:
        """The live memory, if it is laid out like that of the stored one; else None."""
        if isinstance(self.node, TensorNode):
            from casckpt.state import tensors

            return tensors.place(self.live) if self.node.strides is None else None
        from casckpt.state import arrays

        ordered = self.node.strides is None and arrays.is_ordered(self.live, self.node.order)
        return arrays.place(self.live) if ordered else None


def pair(
    parts: Sequence[tuple[str, Node, Sequence[object]]], live: Any, *, all_of_it: bool
) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of a stored and a live state, and (path, problem) wherever they do not fit.

    Args:
        parts: name, node and values of the root and all components.
        all_of_it: whether entries of the live state that are not stored are problems.
    """
    walk = _Walk(parts, all_of_it)
    walk.part(0, live, "")
    return walk.pairs, walk.problems


_Place = tuple[Any, Any]
"""Where another value can be put: the id of a live dict or list, or a place of a tuple, and a key or index there."""


class _Walk:
    def __init__(self, parts: Sequence[tuple[str, Node, Sequence[object]]], all_of_it: bool) -> None:
        self._parts = parts
        self._all = all_of_it
        self._part = 0
        self._at = 0
        self._claimed: dict[_Place, tuple[int, int, Node, str]] = {}
        self.pairs: list[Pair] = []
        self.problems: list[tuple[str, str]] = []

    def part(self, number: int, live: Any, path: str, place: _Place | None = None) -> None:
        outer = self._part, self._at
        self._part, self._at = number, 0
        self._node(self._parts[number][1], live, path, 1 if number else 0, place)
        self._part, self._at = outer

    def _problem(self, path: str, problem: str) -> None:
        self.problems.append((paths.shown(path), problem))

    def _node(self, node: Node, live: Any, path: str, depth: int, place: _Place | None) -> None:
        """Args: place: of the live value; None if no other value can be put there."""
        fixed = place is None
        if node is None:
            self._inline(live, path, fixed)
            return
        found = parse(node, depth + 1)
        if isinstance(found, PartNode):
            if not 0 <= found.number < len(self._parts) - 1 or self._part:
                raise inconsistent("a component inside another")
            self.part(found.number + 1, live, path, place)
        elif isinstance(found, TensorNode | ArrayNode):
            self._memory(found, live, path)
        elif isinstance(found, ReducedNode):
            self._reduced(node, found, live, path, depth, fixed)
        elif isinstance(found, MapNode | SequenceNode):
            if depth >= DEPTH_MAX:
                raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
            if isinstance(found, MapNode):
                self._mapping(found, live, path, depth)
            else:
                self._sequence(found, live, path, depth, place)
        elif isinstance(found, NumbersNode) and fixed:
            if not isinstance(live, list) or len(live) != found.count:
                self._problem(path, f"a list of {found.count} is stored, here is {_described(live)}")
        elif fixed:
            self._problem(path, "no other value can be put here")

    def _inline(self, live: Any, path: str, fixed: bool) -> None:
        values = self._parts[self._part][2]
        if self._at == len(values):
            raise inconsistent(f"more places than {self._at} values")
        value = decode_value(values[self._at])
        self._at += 1
        if fixed and not _is_same(value, live):
            shown = value.dtype if isinstance(value, Scalar) else f"{value!r:.40}"
            self._problem(path, f"{shown} is stored, here is {live!r:.40}, where no other value can be put")

    def _memory(self, node: TensorNode | ArrayNode, live: Any, path: str) -> None:
        if isinstance(node, TensorNode):
            from casckpt.state import tensors

            problem = tensors.difference(live, node)
        else:
            from casckpt.state import arrays

            problem = arrays.difference(live, node)
        if problem:
            self._problem(path, problem)
        else:
            self.pairs.append(Pair(self._part, path, node, live))

    def _reduced(self, node: Node, found: ReducedNode, live: Any, path: str, depth: int, fixed: bool) -> None:
        """A value stored as something simpler is put as a whole, but for the dicts among them."""
        inner = None if found.child is None else parse(found.child, depth + 2)
        if isinstance(inner, MapNode) and type(live).__name__ == found.kind and type(live) in _DICTS:
            self._mapping(inner, live, path, depth + 1)
            return
        at = self._at
        self._skip([node], depth - 1)
        if fixed and not _is_equal(node, self._parts[self._part][2][at : self._at], live):
            self._problem(path, f"a {found.param or found.kind} is stored, where no other value can be put")

    def _mapping(self, found: MapNode, live: Any, path: str, depth: int) -> None:
        if is_stateful(type(live)):
            own = _own_state(live) if all(map(_is_tensor, found.children)) else None
            if own is None:
                problem = optimizers.difference(live, found, depth)
                if problem:
                    self._problem(path, problem)
                self._skip([*found.children, *found.metadata], depth)
                return
            live = own
        if not isinstance(live, MutableMapping):
            self._problem(path, f"a dict is stored, here is a {type_name(type(live))}")
            self._skip([*found.children, *found.metadata], depth)
            return
        for key, child in zip(found.keys, found.children, strict=True):
            below = paths.join(path, paths.element(key))
            own = _own_key(live, key)
            if own in live:
                self._claim((id(live), own), child, below)
                self._node(child, live[own], below, depth + 1, (id(live), own))
            else:
                self._problem(below, "it is stored, and there is no such entry here")
                self._skip([child], depth)
        self._skip(found.metadata, depth)
        if self._all:
            stored = {_own_key(live, key) for key in found.keys}
            for key in live:
                if key not in stored:
                    self._problem(paths.join(path, _element(key)), "it is here, and not in the commit")

    def _sequence(self, found: SequenceNode, live: Any, path: str, depth: int, place: _Place | None) -> None:
        fits = isinstance(live, list if found.kind == "list" else tuple)
        if not fits or len(live) != len(found.children):
            self._problem(path, f"a {found.kind} of {len(found.children)} is stored, here is {_described(live)}")
            self._skip(found.children, depth)
            return
        for index, (child, item) in enumerate(zip(found.children, live, strict=True)):
            below = paths.join(path, str(index))
            inner = (id(live), index) if found.kind == "list" else (place, index) if place is not None else None
            if inner is not None:
                self._claim(inner, child, below)
            self._node(child, item, below, depth + 1, inner)

    def _claim(self, place: _Place, node: Node, path: str) -> None:
        """Take a place of the live state for a stored value; a container that is met twice takes one only."""
        if type(node) is list and node[:1] and node[0] in _HAVE_INSIDES:
            return
        stored = (self._part, self._at, node)
        part, at, other, where = self._claimed.setdefault(place, (*stored, path))
        if where == path:
            return
        values, others = self._parts[self._part][2], self._parts[part][2]
        same = (
            repr(values[self._at : self._at + 1]) == repr(others[at : at + 1]) if node is None else part == self._part
        )
        if node != other or not same:
            self._problem(path, f"it is the same place as {where} here, but not in the commit")

    def _skip(self, nodes: Sequence[Node], depth: int) -> None:
        """Go past the values of nodes that have no live side."""
        for node in nodes:
            if node is None:
                self._at += 1
                continue
            found: AnyNode = parse(node, depth + 2)
            if isinstance(found, MapNode):
                self._skip([*found.children, *found.metadata], depth + 1)
            elif isinstance(found, SequenceNode):
                self._skip(found.children, depth + 1)
            elif isinstance(found, ReducedNode):
                self._skip([found.child], depth + 1)


_DICTS = (defaultdict, Counter)
_CONTAINERS = (dict, OrderedDict, list)


def _is_tensor(node: Node) -> bool:
    return type(node) is list and node[:1] == ["tensor"]


def _own_state(live: Any) -> Any:
    """The state dict of a module if it is the module's own tensors; None if it is not, or not all of it.

    Modules with hooks may give copies, and lazy ones have tensors without memory: these must load by themselves.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(live, torch.nn.Module):
        return None
    found = live.state_dict()
    own = {_where(value) for value in (*live.parameters(), *live.buffers())} - {None} | {0}
    return found if own.issuperset(map(_where, found.values())) else None


def _where(value: Any) -> int | None:
    """Address of a tensor; 0 for one that is empty or no strided memory, None for what is no tensor, or none yet."""
    torch = sys.modules["torch"]
    if not isinstance(value, torch.Tensor) or torch.nn.parameter.is_lazy(value):
        return None
    return int(value.data_ptr()) if _is_strided(value) and value.numel() else 0


def _load(live: Any, state: Any) -> None:
    """Let an object load its state dict."""
    own = _own_state(live) if all(map(_is_strided, state.values())) else None
    options = {}
    if own is not None:
        put(own, state)
        state, torch = own, sys.modules["torch"]
        # What it must have is known. It may have more than it gives: models leave frozen parts out of the dict.
        if type(live).load_state_dict is torch.nn.Module.load_state_dict:
            options = {"strict": False}
    try:
        live.load_state_dict(state, **options)
    except Exception as error:  # the object's own code
        raise StateRefused(type=type_name(type(live)), problem=f"{type(error).__name__}: {error}") from error


def _is_strided(value: Any) -> bool:
    """Whether a restored value is a tensor that was a tensor node."""
    from casckpt.state.kinds import tensor_objects

    return isinstance(value, sys.modules["torch"].Tensor) and tensor_objects.is_plain(value)


def _is_equal(node: Node, values: Sequence[object], live: Any) -> bool:
    """Whether a live value would be stored as it is stored; False for one with blobs, which nobody reads for it."""
    try:
        flat = flatten([live])
    except StateError:
        return False
    same = flat.root.node == ["list", [node]] and repr(flat.root.values) == repr(list(values))
    return same and not flat.root.blobs and not flat.components


def _element(key: object) -> str:
    """The path element of a key of a live dict, which may be one that no commit has."""
    try:
        return paths.element(key)
    except UnsupportedKey:
        return str(key)


def _described(live: Any) -> str:
    return f"a {type_name(type(live))}" + (f" of {len(live)}" if isinstance(live, Sequence) else "")


def _is_same(value: Any, live: Any) -> bool:
    """Whether a live value is a stored one, to the bit."""
    if isinstance(value, Scalar):
        from casckpt.state import arrays

        return arrays.is_scalar(live, value)
    if type(value) is not type(live):
        return False
    if isinstance(value, float | complex):
        return struct.pack("<dd", value.real, value.imag) == struct.pack("<dd", live.real, live.imag)
    return bool(value == live)


def _own_key(live: Mapping[Any, Any], key: Any) -> Any:
    """The key of a live mapping for a stored one: a NaN, which equals nothing, stands for one of the same bits."""
    if not isinstance(key, float | tuple) or key in live:
        return key
    name = paths.element(key)
    return next((other for other in live if type(other) is type(key) and _element(other) == name), key)


def put(live: Any, value: Any) -> None:
    """Put a state into a live one that fits, as `pair` found: in place, containers stay what they are.

    Args:
        value: of the same structure; its tensors and arrays may lie in the live ones' memory already.
    """
    if isinstance(value, Mapping):
        if "_metadata" in getattr(value, "__dict__", ()) and hasattr(live, "__dict__"):
            vars(live)["_metadata"] = vars(value)["_metadata"]
        for key, child in value.items():
            _put_into(live, _own_key(live, key), child)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _put_into(live, index, child)
    else:
        _put_at(live, value)


def _put_into(live: Any, key: Any, value: Any) -> None:
    before = live[key]
    after = _put_at(before, value)
    if after is not before:
        live[key] = after


def _put_at(live: Any, value: Any) -> Any:
    """Put a value where a live one is; what is there then: the live one if it has an inside to be put into."""
    if is_stateful(type(value)):
        value = value.state_dict()  # as it is stored
    if is_stateful(type(live)) and isinstance(value, Mapping):
        _load(live, value)
        return live
    kind = type(value).__module__.partition(".")[0]
    if kind == "torch" and _is_strided(value):
        from casckpt.state import tensors

        if live.data_ptr() == value.data_ptr():
            tensors.touch(live)
        else:
            tensors.assign(live, value)
        return live
    if kind == "numpy" and type(value).__name__ == "ndarray":  # scalars are values like any other
        if live.ctypes.data != value.ctypes.data:
            live[...] = value
        return live
    if type(value) is tuple and isinstance(live, tuple) and len(live) == len(value):
        members = tuple(map(_put_at, live, value))
        return live if all(map(is_, members, live)) else members
    if type(value) in _CONTAINERS or (type(value) in _DICTS and type(live) is type(value)):
        if isinstance(value, list) and not (isinstance(live, list) and len(live) == len(value)):
            return value  # a packed list of numbers is one value, and may take the place of any other
        put(live, value)
        return live
    return value
