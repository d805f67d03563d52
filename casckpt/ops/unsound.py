"""Which leaves of a state hold NaN or infinities, once it is known in which blobs these lie.

Tensors and arrays of floats, real and complex, are told; of files the large tensors in them. Numbers, texts, lists of
numbers and all integers never are: `best_loss = inf` is how many a program begins. Memory that leaves of several types
share has no element type, and is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from casckpt.format import chunking
from casckpt.format.elements import element_bytes
from casckpt.format.finite import is_float, is_sound
from casckpt.state.flat import Blob, FlatComponent
from casckpt.state.nodes import ArrayNode, NumbersNode, TensorNode
from casckpt.state.walk import LeafInfo, walk


class TinyFloats(NamedTuple):
    """Where among the tiny bytes of a component floats of one type lie: runs of (start, stop) that do not touch."""

    code: int
    runs: tuple[tuple[int, int], ...]


def tiny_floats(tiny: Sequence[int], codes: bytes, sizes: Sequence[int]) -> tuple[TinyFloats, ...]:
    """Where among the tiny bytes of a component floats lie, by their types.

    Args:
        tiny: numbers of the tiny blobs.
        codes, sizes: of all blobs.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for blob, start, stop in _places(tiny, sizes):
        if is_float(codes[blob]):
            runs = found.setdefault(codes[blob], [])
            if runs and runs[-1][1] == start:
                start = runs.pop()[0]
            runs.append((start, stop))
    return tuple(TinyFloats(code, tuple(runs)) for code, runs in found.items())


def unsound_tiny(
    joined: bytes, floats: tuple[TinyFloats, ...], tiny: Sequence[int], codes: bytes, sizes: Sequence[int]
) -> list[int]:
    """The tiny blobs that hold NaN or infinities. Cost: 0.1 us a run while none does.

    Args:
        joined: the tiny bytes of a component.
        floats: where in them floats lie; the others are as for `tiny_floats`.
    """
    if all(is_sound(b"".join([joined[start:stop] for start, stop in runs]), code) for code, runs in floats):
        return []
    return [blob for blob, start, stop in _places(tiny, sizes) if not is_sound(joined[start:stop], codes[blob])]


def _places(blobs: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(blob, start, stop) of blobs that lie back to back."""
    start = 0
    for blob in blobs:
        stop = start + sizes[blob]
        yield blob, start, stop
        start = stop


def unsound_members(joined: memoryview, group: Sequence[int], sizes: Sequence[int], code: int) -> list[int]:
    """The blobs of a group that hold NaN or infinities."""
    return [blob for blob, start, stop in _places(group, sizes) if not is_sound(joined[start:stop], code)]


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
