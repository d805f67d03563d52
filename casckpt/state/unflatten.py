"""Put a state together: `unflatten`. Structure and values are hostile input, checked before anything is made of them.

The result lives in the blobs' memory: tensors and arrays are views of it, so what shared memory shares it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from casckpt.state import paths
from casckpt.state.checks import expect_count, inconsistent, unknown
from casckpt.state.collector import paused
from casckpt.state.flat import DEPTH_MAX, Node
from casckpt.state.kinds.table import make
from casckpt.state.nodes import (
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
from casckpt.state.numbers import unpack_numbers
from casckpt.state.values import Scalar, decode_text, decode_value


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a stored state; number 0 is the root.

    Args:
        name, node, values: as in `flat.FlatComponent`.
        memory: gives blob b as writable, contiguous bytes, already filled; the state takes them over. Called at most
            once per blob, and not for one that is linked to an earlier part's. Slices of one buffer are welcome: they
            become storages of their own, though the buffer is only free when all are. They should be aligned to the
            width of their element, and to 8 bytes if that is not known.
        nbytes: length of every blob.
    """

    name: str
    node: Node
    values: Sequence[object]
    memory: Callable[[int], memoryview]
    nbytes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far the classes and pickles that a state names are trusted; see `table.make`."""

    strict: bool = False
    allow_pickle: bool = False


def unflatten(parts: Sequence[Part], links: Sequence[Sequence[Sequence[int]]], trust: Trust = Trust()) -> Any:
    """The state that `flatten` took apart.

    Args:
        parts: the root and all components, in order.
        links: as in `flat.FlatState`.

    Raises:
        FormatError: something this release does not know, or a library is needed and absent.
        UnknownType: a class is not here and trust is strict.
        IntegrityError: the structure contradicts itself.
    """
    if not parts:
        raise inconsistent("a state has no root")
    with paused():
        shared = _Memory(parts, links, trust)
        built: list[Any] = []
        for number, part in enumerate(parts[1:], 1):
            built.append(_Build(part, number, shared, None).build(depth=1))
        return _Build(parts[0], 0, shared, built).build(depth=0)


class _Memory:
    """The blobs of all parts, each asked for once, linked ones once in all."""

    def __init__(self, parts: Sequence[Part], links: Sequence[Sequence[Sequence[int]]], trust: Trust) -> None:
        self.parts = parts
        self.trust = trust
        self.first: dict[tuple[int, int], tuple[int, int]] = {}
        self.memories: dict[tuple[int, int], memoryview] = {}
        self.storages: dict[tuple[int, int], Any] = {}
        self.taken: list[dict[int, tuple[memoryview, Any] | None]] = [{} for _ in parts]
        """Memory and tensor of the blobs of each part that are a whole tensor; None for blobs that are linked."""
        for group in links:
            self.link(group)

    def link(self, group: Sequence[Sequence[int]]) -> None:
        members = []
        for member in group if isinstance(group, list | tuple) else ():
            if not isinstance(member, list | tuple) or len(member) != 2:
                raise inconsistent("a link is not a component and a blob")
            part, blob = expect_count(member[0], "a linked component"), expect_count(member[1], "a linked blob")
            if part >= len(self.parts) or blob >= len(self.parts[part].nbytes) or (part, blob) in self.first:
                raise inconsistent(f"blob {blob} of component {part} cannot be linked")
            members.append((part, blob))
            self.first[part, blob] = members[0]
            self.taken[part][blob] = None
        if len({self.parts[part].nbytes[blob] for part, blob in members}) != 1:
            raise inconsistent("linked blobs differ in length")

    def memory(self, part: int, blob: int) -> memoryview:
        key = self.first.get((part, blob), (part, blob))
        found = self.memories.get(key)
        if found is None:
            taken = self.taken[part].setdefault(blob, None)
            owner = self.parts[key[0]]
            memory = memoryview(owner.memory(key[1])) if taken is None else taken[0]
            found = self.memories[key] = memory.cast("B")
            if len(found) != owner.nbytes[key[1]]:
                raise inconsistent(f"blob {key[1]} has {len(found)} bytes instead of {owner.nbytes[key[1]]}")
        return found

    def storage(self, part: int, blob: int) -> Any:
        from casckpt.state import tensors

        key = self.first.get((part, blob), (part, blob))
        found = self.storages.get(key)
        if found is None:
            taken = self.taken[part].get(blob)
            found = tensors.storage(self.memory(part, blob)) if taken is None else taken[1].untyped_storage()
            self.storages[key] = found
        return found


class _Build:
    """Builds one part. `children` are the components, for the root only; each is used up once."""

    def __init__(self, part: Part, number: int, shared: _Memory, children: list[Any] | None) -> None:
        self.part = part
        self.number = number
        self.shared = shared
        self.children = children
        self.placed = 0
        self.taken = 0
        self.taken_blobs = shared.taken[number]
        self.whole: Callable[..., Any] | None = None

    def build(self, depth: int) -> Any:
        value = self.value(self.part.node, depth)
        if self.taken != len(self.part.values):
            raise inconsistent(f"{len(self.part.values)} values for {self.taken} places")
        if self.children is not None and self.placed != len(self.children):
            raise inconsistent(f"{len(self.children)} components for {self.placed} places")
        return value

    def value(self, node: Node, depth: int) -> Any:
        if node is None:
            return self.inline()
        tensor = self.whole_tensor(node)
        if tensor is not None:
            return tensor
        found = parse(node, depth + 1)
        match found:
            case TensorNode():
                return self.tensor(found)
            case MapNode() | SequenceNode():
                if depth >= DEPTH_MAX:
                    raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
                return self.mapping(found, depth + 1) if isinstance(found, MapNode) else self.sequence(found, depth + 1)
            case ReducedNode():
                return self.reduced(found, depth)
            case ArrayNode():
                return self.array(found)
            case NumbersNode():
                nbytes = self.nbytes(found.blob)
                return unpack_numbers(found.element, found.count, nbytes, lambda: self.memory(found.blob))
            case TextNode():
                return self.text(found)
            case PartNode():
                raise inconsistent("a component inside another, or below the root's dict")
            case FileNode() | LinkNode():
                raise unknown("it holds files: check it out into a folder")
            case _:
                assert_never(found)

    def inline(self) -> Any:
        if self.taken == len(self.part.values):
            raise inconsistent(f"more places than {self.taken} values")
        value = decode_value(self.part.values[self.taken])
        self.taken += 1
        if isinstance(value, Scalar):
            from casckpt.state import arrays

            return arrays.restore_scalar(value)
        return value

    def mapping(self, found: MapNode, depth: int) -> Any:
        result: dict[Any, Any] = OrderedDict() if found.kind == "odict" else {}
        for key, child in zip(found.keys, found.children, strict=True):
            if depth == 1 and self.children is not None and type(child) is list and child[:1] == ["part"]:
                result[key] = self.component(key, child)
            else:
                result[key] = self.value(child, depth)
        for node in found.metadata:
            vars(result)["_metadata"] = self.value(node, depth)
        return result

    def component(self, key: object, node: list[Any]) -> Any:
        found = parse(node, 1)
        children = self.children or []
        if not isinstance(found, PartNode) or found.number != self.placed or found.number >= len(children):
            raise inconsistent(f"component number {self.placed} of {len(children)} is not where it belongs")
        self.placed += 1
        name = self.shared.parts[found.number + 1].name
        if paths.element(key) != name:
            raise inconsistent(f"component {name!r} is stored as {paths.element(key)!r}")
        return children[found.number]

    def sequence(self, found: SequenceNode, depth: int) -> Any:
        values = [self.value(child, depth) for child in found.children]
        return tuple(values) if found.kind == "tuple" else values

    def reduced(self, found: ReducedNode, depth: int) -> Any:
        if depth >= DEPTH_MAX:
            raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
        inner = self.value(found.child, depth + 1)
        trust = self.shared.trust
        return make(found.kind, found.param, inner, strict=trust.strict, allow_pickle=trust.allow_pickle)

    def text(self, found: TextNode) -> str | bytes | bytearray:
        self.nbytes(found.blob)
        memory = self.memory(found.blob)
        if found.kind == "str":
            return decode_text(bytes(memory))
        return bytes(memory) if found.kind == "bytes" else bytearray(memory)

    def array(self, found: ArrayNode) -> Any:
        from casckpt.state import arrays

        arrays.check(found, self.nbytes(found.blob))
        return arrays.restore(found, None if found.blob is None else self.memory(found.blob))

    def whole_tensor(self, node: list[Any]) -> Any:
        """The tensor of a node that is a whole blob, as nearly all are; None for any other node.

        This is a short cut: what it does not take is parsed and checked step by step.
        """
        if type(node) is not list or len(node) != 7 or node[0] != "tensor":
            return None
        _, dtype, shape, strides, blob, offset, flags = node
        if strides is not None or type(shape) is not list or type(blob) is not int or blob in self.taken_blobs:
            return None
        if self.whole is None:
            try:
                from casckpt.state import tensors
            except ImportError:
                return None
            self.whole = tensors.whole
        try:
            form = self.whole(dtype, offset, flags, *shape)
        except TypeError:  # a size that cannot be hashed
            return None
        nbytes = self.part.nbytes
        if form is None or not 0 <= blob < len(nbytes) or nbytes[blob] != form.nbytes:
            return None
        memory = self.part.memory(blob)
        if memory.nbytes != form.nbytes:
            raise inconsistent(f"blob {blob} has {memory.nbytes} bytes instead of {form.nbytes}")
        tensor = form.tensor(memory)
        self.taken_blobs[blob] = memory, tensor
        return tensor

    def tensor(self, found: TensorNode) -> Any:
        try:
            from casckpt.state import tensors
        except ImportError as error:
            raise unknown("it holds torch tensors and torch is not installed: pip install casckpt[torch]") from error
        tensors.check(found, self.nbytes(found.blob))
        return tensors.restore(found, None if found.blob is None else self.shared.storage(self.number, found.blob))

    def nbytes(self, blob: int | None) -> int:
        if blob is None:
            return 0
        if blob >= len(self.part.nbytes):
            raise inconsistent(f"blob {blob} of {len(self.part.nbytes)}")
        return self.part.nbytes[blob]

    def memory(self, blob: int) -> memoryview:
        return self.shared.memory(self.number, blob)
