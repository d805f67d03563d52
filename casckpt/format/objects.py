"""The objects between chunks and commits: structure, component, tree. Each knows its canonical bytes.

A tree is a Merkle node: it names one component object per part of the state. A component splits what rarely
changes (the *structure*: names, dtypes, shapes, groups) from what changes at every step (inline values, tiny blobs
and one flat column of ids), so that the structure is one shared object over a whole run and the column is a plain
byte string for fast gc and diff.

    commit -> tree -> component (root and one per part) -> structure
                                                        -> chunks, pages -> chunks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from casckpt.format import limits
from casckpt.format.canonical import Fields, decode, encode, encode_sorted
from casckpt.format.ids import ObjectId

Node = Any
"""Nested lists as described in docs/reference/format-v1.md, section 5."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What a component looks like, without its contents.

    Invariants (checked when decoded): as many element codes as sizes; every small blob is in exactly one group.
    """

    node: Node
    sizes: tuple[int, ...]
    elements: bytes
    groups: tuple[tuple[int, ...], ...]
    layouts: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """Blobs that are not cut at fixed offsets: shards (`shape`, `boxes`) and files (`cut`), by blob number."""

    def encode(self) -> bytes:
        # The node holds no maps, and the other fields are written in canonical key order: no walk is needed.
        value = {
            "node": self.node,
            "sizes": self.sizes,
            "types": self.elements,
            "groups": self.groups,
        }
        if self.layouts:
            return encode({**value, "layouts": dict(self.layouts)})
        return encode_sorted({key: value[key] for key in ("node", "sizes", "types", "groups")})

    @classmethod
    def decode(cls, data: bytes) -> Structure:
        what = "a structure object"
        fields = Fields(decode(data, what), what)
        fields.unknown(frozenset(("node", "sizes", "types", "groups", "layouts")))
        sizes = fields.need("sizes", list)
        elements = fields.need("types", bytes)
        groups = fields.need("groups", list)
        layouts = fields.get("layouts", dict, {})
        # Through sets of types, since there may be tens of thousands of both.
        if len(elements) != len(sizes) or not set(map(type, sizes)) <= {int} or not _in_range(sizes):
            raise fields.error("sizes and types of the blobs do not fit")
        if not set(map(type, groups)) <= {list} or not all(groups) or not set(map(type, chain(*groups))) <= {int}:
            raise fields.error("a group is not a list of blob numbers")
        if not all(type(key) is int and 0 <= key < len(sizes) and type(item) is dict for key, item in layouts.items()):
            raise fields.error("a layout is not a map for one of the blobs")
        return cls(fields.need("node", (list, type(None))), tuple(sizes), elements, tuple(map(tuple, groups)), layouts)


@dataclass(frozen=True, slots=True)
class Component:
    """The contents of one part of a state: inline values, tiny blobs, and the ids of everything larger."""

    structure: ObjectId
    values: list[Any]
    tiny: bytes
    digests: bytes
    counts: tuple[tuple[int, int], ...] = ()
    """(chunks, entries) of each blob with a layout of its own, in blob order."""
    spans: bytes = b""
    """Plain bytes (u64, little-endian) of each entry of those blobs."""

    def encode(self) -> bytes:
        value: dict[str, Any] = {
            "tiny": self.tiny,
            "values": self.values,
            "digests": self.digests,
            "structure": self.structure,
        }
        if self.counts:
            value |= {"counts": self.counts, "spans": self.spans}
        return encode(value)

    @classmethod
    def decode(cls, data: bytes) -> Component:
        what = "a component object"
        fields = Fields(decode(data, what), what)
        fields.unknown(frozenset(("tiny", "values", "digests", "structure", "counts", "spans")))
        structure = fields.id("structure")
        digests = fields.need("digests", bytes)
        counts = fields.get("counts", list, [])
        if structure is None or len(digests) % 32:
            raise fields.error("no structure, or an id column that is not a multiple of 32 bytes")
        if not all(
            type(pair) is list and len(pair) == 2 and all(type(n) is int and 0 < n < 1 << 40 for n in pair)
            for pair in counts
        ):
            raise fields.error("a count is not a pair of positive numbers")
        return cls(
            ObjectId(structure),
            fields.need("values", list),
            fields.need("tiny", bytes),
            digests,
            tuple((pair[0], pair[1]) for pair in counts),
            fields.get("spans", bytes, b""),
        )


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole state: the root component, one component per part, and which blobs are the same memory."""

    root: ObjectId
    parts: tuple[tuple[str, ObjectId], ...]
    links: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Groups of (component, blob) that share memory; component 0 is the root, k + 1 is parts[k]."""

    @property
    def components(self) -> tuple[tuple[str, ObjectId], ...]:
        """(name, id) of every component, the root first under the name ""."""
        return (("", self.root), *self.parts)

    def encode(self) -> bytes:
        value: dict[str, Any] = {"root": self.root, "parts": self.parts}
        if self.links:
            value["links"] = self.links
        return encode(value)

    @classmethod
    def decode(cls, data: bytes) -> Tree:
        what = "a tree object"
        fields = Fields(decode(data, what), what)
        fields.unknown(frozenset(("root", "parts", "links")))
        root = fields.id("root")
        parts = fields.need("parts", list)
        links = fields.get("links", list, [])
        if root is None or len(parts) > limits.MAX_PARTS:
            raise fields.error("no root component, or too many parts")
        for part in parts:
            if type(part) is not list or len(part) != 2 or type(part[0]) is not str or not _is_id(part[1]):
                raise fields.error("a part is not a pair of name and id")
        if len({name for name, _ in parts}) != len(parts):
            raise fields.error("two parts have one name")
        for group in links:
            if type(group) is not list or len(group) < 2 or not all(_is_link(pair, len(parts)) for pair in group):
                raise fields.error("a link is not a list of (component, blob)")
        return cls(
            ObjectId(root),
            tuple((name, ObjectId(identity)) for name, identity in parts),
            tuple(tuple((pair[0], pair[1]) for pair in group) for group in links),
        )


def _in_range(sizes: list[int]) -> bool:
    return not sizes or (min(sizes) > 0 and max(sizes) <= limits.MAX_BLOB_BYTES)


def _is_id(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def _is_link(pair: Any, parts: int) -> bool:
    return (
        type(pair) is list
        and len(pair) == 2
        and all(type(number) is int and number >= 0 for number in pair)
        and pair[0] <= parts
    )
