"""Take a state apart: `flatten`. One walk makes nodes and values; then memory is grouped, laid out and numbered.

Nothing is copied: blobs point at the state's memory and keep it alive. Types are matched exactly, since a subclass
that came back as its base would be a different state.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from casckpt import errors
from casckpt.state import paths
from casckpt.state.blobs import number_blobs
from casckpt.state.flat import (
    DEPTH_MAX,
    INLINE_MAX_BYTES,
    LOOSE_MAX,
    PARTS_MAX,
    FlatComponent,
    FlatState,
    Node,
)
from casckpt.state.leaves import Bytes, View
from casckpt.state.numbers import pack_numbers
from casckpt.state.values import encode_key, encode_value, type_name

_CONTAINERS = (dict, OrderedDict, list, tuple)


def flatten(state: object) -> FlatState:
    """A state as structure, values and blobs, as `flat` describes.

    Args:
        state: nested dicts, lists, tuples, numbers, strings, bytes, numpy arrays and torch tensors.

    Raises:
        UnsupportedType, UnsupportedKey: something in it is not kept; names its path.
        StateCycle: a container contains itself.
        StateTooDeep: more than `DEPTH_MAX` containers inside each other.

    Cost: about 10 us per tensor; memory as the structure, none as the data (packed lists of numbers excepted).
    """
    walk = _Walk()
    root = walk.root(state)
    blobs, links = number_blobs(walk.leaves, 1 + len(walk.components))
    components = tuple(
        FlatComponent(part.name, part.node, part.values, tuple(blobs[number + 1]))
        for number, part in enumerate(walk.components)
    )
    return FlatState(FlatComponent("", root, walk.values, tuple(blobs[0])), components, links)


@dataclass(slots=True)
class _Component:
    name: str
    node: Node
    values: list[object]


class _Walk:
    """One walk over a state. `part` and `values` belong to the component being walked."""

    def __init__(self) -> None:
        self.leaves: list[Bytes | View] = []
        self.components: list[_Component] = []
        self.part = 0
        self.values: list[object] = []
        self.open: dict[int, str] = {}
        self.handlers = dict(_HANDLERS)

    def root(self, state: object) -> Node:
        if isinstance(state, dict) and type(state) in (dict, OrderedDict):
            parts = sum(type(child) in _CONTAINERS for child in state.values())
            return self.mapping(state, "", split=1 <= parts <= PARTS_MAX)
        return self.node(state, "")

    def node(self, value: object, path: str) -> Node:
        handler = self.handlers.get(type(value))
        if handler is None:
            handler = self.handlers[type(value)] = self.handler(type(value))
        return handler(self, value, path)

    def handler(self, kind: type) -> Handler:
        """What handles a type that is not builtin; a library not imported yet cannot have made the value."""
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch is not None and issubclass(kind, torch.Tensor):
            from casckpt.state import tensors

            return lambda walk, value, path: walk.memory(*tensors.describe(value, path, walk.part))
        if numpy is not None and issubclass(kind, (numpy.ndarray, numpy.generic)):
            from casckpt.state import arrays

            if issubclass(kind, numpy.ndarray):
                return lambda walk, value, path: walk.memory(*arrays.describe(value, path, walk.part))
            return lambda walk, value, path: walk.native(arrays.describe_scalar(value, path), path)
        return _refuse

    def native(self, value: object, _path: str) -> Node:
        self.values.append(value)
        return None

    def small(self, value: int | complex, _path: str) -> Node:
        self.values.append(encode_value(value))
        return None

    def text(self, value: str | bytes | bytearray, path: str) -> Node:
        if len(value) * (4 if isinstance(value, str) else 1) <= INLINE_MAX_BYTES:
            return self.native(value if isinstance(value, bytes) else encode_value(value), path)
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        if len(data) <= INLINE_MAX_BYTES:
            return self.native(value if isinstance(value, bytes) else encode_value(value), path)
        return self.packed([type(value).__name__, None], data, "bytes", path)

    def packed(self, node: list[Any], data: bytes | bytearray, element: str, path: str) -> Node:
        self.leaves.append(Bytes(self.part, path, node, element, data))
        return node

    def memory(self, node: list[Any], view: View | None) -> Node:
        if view is not None:
            self.leaves.append(view)
        return node

    def mapping(self, value: dict[Any, Any], path: str, *, split: bool = False) -> Node:
        self.enter(value, path)
        entries, names = self.keys(value, path)
        prefix = f"{path}/" if path else ""
        children = []
        for name, child in zip(names, list(value.values()), strict=True):
            if split and type(child) in _CONTAINERS:
                children.append(self.component(child, name))
            else:
                children.append(self.node(child, prefix + name))
        node: list[Any] = ["odict" if type(value) is OrderedDict else "dict", entries, children]
        if type(value) is OrderedDict and "_metadata" in vars(value):
            node.append(self.node(vars(value)["_metadata"], prefix + paths.METADATA))
        del self.open[id(value)]
        return node

    def keys(self, value: Mapping[Any, Any], path: str) -> tuple[list[object], list[str]]:
        entries = [encode_key(key, paths.shown(path), len(self.open)) for key in value]
        names = [paths.element(key) for key in value]
        if len(set(names)) != len(names):  # only NaN is a key twice
            raise errors.UnsupportedKey(path=paths.shown(path), type="float that are the same NaN twice")
        return entries, names

    def component(self, value: object, name: str) -> Node:
        outer = self.part, self.values
        component = _Component(name, None, [])
        self.components.append(component)
        self.part, self.values = len(self.components), component.values
        component.node = self.node(value, name)
        number, (self.part, self.values) = self.part - 1, outer
        return ["part", number]

    def sequence(self, value: Sequence[Any], path: str) -> Node:
        self.enter(value, path)
        node = self.numbers(value, path) if type(value) is list and len(value) > LOOSE_MAX else None
        if node is None:
            prefix = f"{path}/" if path else ""
            node = [type(value).__name__, [self.node(child, f"{prefix}{i}") for i, child in enumerate(value)]]
        del self.open[id(value)]
        return node

    def numbers(self, value: list[Any], path: str) -> Node:
        found = pack_numbers(value)
        if found is None:
            return None
        element, column = found
        return self.packed(["numbers", element, len(value), None], column, element, path)

    def enter(self, value: object, path: str) -> None:
        outer = self.open.get(id(value))
        if outer is not None:
            raise errors.StateCycle(path=path, outer=paths.shown(outer))
        if len(self.open) >= DEPTH_MAX:
            raise errors.StateTooDeep(path=path, limit=DEPTH_MAX)
        self.open[id(value)] = path


def _refuse(_walk: _Walk, value: object, path: str) -> NoReturn:
    base = next((kind for kind in _CONTAINERS if isinstance(value, kind)), None)
    problem = "its values have no form that is the same in every process"
    if base is not None:
        problem = f"subclasses of {base.__name__} are not kept"
    raise errors.UnsupportedType(path=paths.shown(path), type=type_name(type(value)), problem=problem)


Handler = Callable[[_Walk, Any, str], Node]

# Functions, not bound methods: a walk that refers to itself would keep the state's memory until the next collection.
_HANDLERS: dict[type, Handler] = {
    type(None): _Walk.native,
    bool: _Walk.native,
    float: _Walk.native,
    int: _Walk.small,
    complex: _Walk.small,
    str: _Walk.text,
    bytes: _Walk.text,
    bytearray: _Walk.text,
    dict: _Walk.mapping,
    OrderedDict: _Walk.mapping,
    list: _Walk.sequence,
    tuple: _Walk.sequence,
}
