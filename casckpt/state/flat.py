"""What a state is taken apart into: a structure of nodes, small values, and blobs of memory.

A state's root is component 0; container children of a root dict are components of their own (rule below), so that
`model` and `optimizer` are stored, compared and restored apart. Every component is self-contained: it has its own
values and blobs, and `FlatState.links` says which blobs of different components are the same memory.

Component rule (part of the format): if the root is exactly a dict or OrderedDict with 1 to 64 children that are
exactly dict, OrderedDict, list or tuple, each such child is a component, in dict order. All else is the root's.

A node is None or a list, so any plain encoding keeps it:

    None                                                     the next entry of the component's `values`
    ["dict", keys, children]                                 keys as `values.encode_key` says, children are nodes
    ["odict", keys, children]  or [..., metadata]            OrderedDict, with the node of its `_metadata`
    ["list", children]  ["tuple", children]
    ["reduced", kind, param, child]                          a value of another type, made of the child's (`reduced`);
                                                             its path is the child's; param is text or None
    ["numbers", element, count, blob]                        list of over 64 int (int64), float (float64) or bool
    ["str", blob]  ["bytes", blob]  ["bytearray", blob]      longer than 1024 bytes; str as UTF-8, surrogates passed
    ["array", dtype, shape, order, blob, offset]             numpy; order "C" or "F"; [..., strides in bytes] if
                                                             the array lies otherwise in a blob it shares
    ["tensor", dtype, shape, strides, blob, offset, flags]   torch; strides in elements, None if the default ones;
                                                             offset in bytes; flags: 1 requires_grad, 2 Parameter
    ["file", blob, executable]                               a regular file; only in states made from paths
    ["link", target]                                         a symbolic link, its target as bytes; beside files only
    ["part", k]                                              only in the root's dict: components[k]

Values are walked depth first, children in order, `_metadata` after them. A blob is None where there are no bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Node = list[Any] | None

PARTS_MAX = 64
"""Most components besides the root's; a dict with more container children is one component."""

INLINE_MAX_BYTES = 1024
"""Longest str, bytes or bytearray kept among the values; longer ones are blobs."""

LOOSE_MAX = 64
"""Most numbers of a list kept as single values; longer lists of one type are packed into a blob."""

LINK_MAX_BYTES = 4095
"""Longest target of a symbolic link."""

DEPTH_MAX = 200
"""Most containers inside each other, the root and tuples in keys counted."""

DIMS_MAX = 64
"""Most dimensions of an array or tensor; numpy's own limit."""

REQUIRES_GRAD, PARAMETER = 1, 2
"""Flags of a tensor's node."""

BLOB_FIELD = {"numbers": 3, "str": 1, "bytes": 1, "bytearray": 1, "array": 4, "tensor": 4, "file": 1}
"""Where in a node of each tag its blob number is."""

ELEMENTS = frozenset(
    (
        *("bytes", "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
)
"""Element types a blob can have; everything else is opaque "bytes"."""


class Source(Protocol):
    """Where a blob's bytes lie. Keeps the memory alive; reading is thread-safe.

    A source of which every read gives memory that nobody else can write to has an attribute `private` that is True.
    """

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop`, format B, contiguous: the memory itself where it can be, else a private copy."""


class Cut(NamedTuple):
    """A chunk of a blob that says itself where it is cut: from the cut before, or the start, to `stop`.

    Args:
        element: one of `ELEMENTS`, of the bytes of this chunk.
        ends: whether a run of chunks ends here that belong together, as those of one tensor in a file.
        is_zero: whether these are one or more chunks of 1 MiB that are known to be zeros: nobody need read them.
    """

    stop: int
    element: str
    ends: bool
    is_zero: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of one leaf, or of several that share memory. Linked blobs have the same `source` object.

    Args:
        path: canonical full path of the first leaf (bytewise) that uses it within the component.
        element: one of `ELEMENTS`.
        nbytes: length in bytes, > 0.
        source: holds the memory; the state's own, so what is written to it meanwhile is read.
        cuts: where it is cut into chunks of at most 1 MiB, the last cut at its end; None for every 1 MiB. Only large
            blobs, those of 256 KiB and more, may have it.
    """

    path: str
    element: str
    nbytes: int
    source: Source
    cuts: Callable[[], Iterator[Cut]] | None = None

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop` (0 <= start <= stop <= nbytes); never materialises more than that piece."""
        return self.source.read(start, stop)

    @property
    def private(self) -> bool:
        """Whether what `read` gives stays as it is; else it may be the state's live memory, as of a silent source."""
        return bool(getattr(self.source, "private", False))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Schema:
    """What a component looks like, without values and bytes. Nobody changes it: states that look alike share it.

    Compared and hashed by identity. `flatten` gives the same object again for a component that looks as it did a
    moment ago, so what follows from the schema alone may be kept in a `WeakKeyDictionary` by it. It holds no memory
    of any state.

    Args:
        node: the structure; blob numbers are indices into the columns below.
        paths: of the blobs, in order.
        elements: element types of the blobs.
        sizes: lengths of the blobs in bytes.
        cut: numbers of the blobs that say themselves where they are cut. Where that is follows from their content.
    """

    node: Node
    paths: tuple[str, ...]
    elements: tuple[str, ...]
    sizes: tuple[int, ...]
    cut: tuple[int, ...] = ()


_UNKNOWN = Schema(None, (), (), ())


@dataclass(frozen=True, slots=True)
class FlatComponent:
    """One component: its canonical path element ("" for the root), structure, values and blobs in path order.

    The schema is made from the blobs if it is not given. The node is the schema's and never changed.
    """

    name: str
    node: Node
    values: list[object]
    blobs: Sequence[Blob]
    schema: Schema = _UNKNOWN

    def __post_init__(self) -> None:
        if self.schema is _UNKNOWN:
            columns = [(blob.path, blob.element, blob.nbytes) for blob in self.blobs]
            paths, elements, sizes = zip(*columns, strict=True) if columns else ((), (), ())
            cut = tuple([number for number, blob in enumerate(self.blobs) if blob.cuts is not None])
            object.__setattr__(self, "schema", Schema(self.node, paths, elements, sizes, cut))


@dataclass(frozen=True, slots=True)
class FlatState:
    """A state taken apart. Keeps the state's memory alive; copies none of it.

    Args:
        root: what belongs to no other component; its name is "".
        components: in dict order of the root.
        links: groups of (component number, blob number) that are the same memory; 0 is the root, k + 1 is
            components[k]. Groups and their members are sorted, each has two members or more.
    """

    root: FlatComponent
    components: tuple[FlatComponent, ...]
    links: tuple[tuple[tuple[int, int], ...], ...]
