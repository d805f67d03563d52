"""Which leaves of a state hold NaN or infinities, once it is known in which blobs these lie.

Tensors and arrays of floats, real and complex, are told; of files the large tensors in them. Numbers, texts, lists of
numbers and all integers never are: `best_loss = inf` is how many a program begins. Memory that leaves of several types
share has no element type, and is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from casckpt.format import chunking
from casckpt.format.elements import element_bytes
from casckpt.format.finite import is_float, is_sound
from casckpt.state.flat import Blob, FlatComponent
from casckpt.state.nodes import ArrayNode, NumbersNode, TensorNode
from casckpt.state.walk import LeafInfo, walk


class Tiny(NamedTuple):
    """The tiny blobs of one float type in a component, and where each lies among the tiny bytes."""

    code: int
    places: tuple[tuple[int, int, int], ...]
    """(blob, start, stop) of each."""


def tiny_floats(division: chunking.Division, codes: bytes, sizes: tuple[int, ...]) -> tuple[Tiny, ...]:
    """Where among the tiny bytes of a component floats lie, by their types."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    start = 0
    for blob in division.tiny:
        stop = start + sizes[blob]
        if is_float(codes[blob]):
            found.setdefault(codes[blob], []).append((blob, start, stop))
        start = stop
    return tuple(Tiny(code, tuple(places)) for code, places in found.items())


def unsound_tiny(tiny: bytes, floats: tuple[Tiny, ...]) -> Iterator[int]:
    """The tiny blobs that hold NaN or infinities. Cost: 0.1 us a blob while none does."""
    for code, places in floats:
        if not is_sound(b"".join([tiny[start:stop] for _, start, stop in places]), code):
            yield from (blob for blob, start, stop in places if not is_sound(tiny[start:stop], code))


def unsound_members(joined: memoryview, group: tuple[int, ...], sizes: tuple[int, ...], code: int) -> Iterator[int]:
    """The blobs of a group that hold NaN or infinities."""
    start = 0
    for blob in group:
        stop = start + sizes[blob]
        if not is_sound(joined[start:stop], code):
            yield blob
        start = stop


def unsound_leaves(component: FlatComponent, codes: bytes, blobs: set[int]) -> list[str]:
    """Paths of the leaves that hold NaN or infinities.

    Args:
        blobs: those of the component that do.
    """
    told = [
        leaf
        for leaf in walk(component.name, component.node, component.values)
        if leaf.blob in blobs and (leaf.kind == "file" or isinstance(leaf.node, TensorNode | ArrayNode))
    ]
    sharing: dict[int, list[LeafInfo]] = {}
    for leaf in told:
        assert leaf.blob is not None
        sharing.setdefault(leaf.blob, []).append(leaf)
    hit = []
    for number, leaves in sharing.items():
        # Parts of one buffer: those are told apart by their own bytes. If by now none holds any, somebody has written.
        own = [one for one in leaves if len(leaves) == 1 or _holds(component.blobs[number], codes[number], one)]
        hit += [leaf.path for leaf in own or leaves]
    return hit


def _holds(blob: Blob, code: int, leaf: LeafInfo) -> bool:
    """Whether the memory of a leaf holds NaN or infinities; of one that is not contiguous, whether the blob does."""
    node = leaf.node
    assert node is not None and not isinstance(node, NumbersNode)
    if node.strides is not None:
        return True
    stop = leaf.offset + math.prod(node.shape) * element_bytes(code)
    return any(
        not is_sound(blob.read(at, min(at + chunking.CHUNK, stop)), code)
        for at in range(leaf.offset, stop, chunking.CHUNK)
    )
