"""The elements of stored tensors and arrays, read in runs: which chunks a run touches, and its bytes in one piece.

Elements that lie in C order are read chunk by chunk. So are those of two leaves that lie without gaps in one and the
same other order, such as a transposed matrix on both sides: pairs of elements stay pairs. All others are gathered
into C order, if the bytes they lie among fit into memory.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from casckpt.format.widening import Elements, elements
from casckpt.ops.stored_leaves import Chunks, Run, StoredLeaf
from casckpt.ops.value_reports import Overlap
from casckpt.state.checks import check_extent, check_size, default_strides, inconsistent
from casckpt.state.memory import StridedSource
from casckpt.state.nodes import ArrayNode, NumbersNode, TensorNode
from casckpt.storage.pages import pages

RUN_BYTES = 1 << 20
GATHERED_BYTES = 16 << 20
"""Longest range of a blob out of which scattered elements are gathered."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The elements of a leaf, checked to lie inside its blob.

    Args:
        strides: in bytes.
        low: first byte of the blob that belongs to an element.
        reach: bytes from there to the end of the last one.
        first: where the element of index 0 lies.
    """

    leaf: StoredLeaf
    form: Elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    low: int
    reach: int
    first: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * self.form.itemsize

    @property
    def is_in_order(self) -> bool:
        """Whether the elements lie in C order without gaps; strides along one element do not matter."""
        plain = default_strides(self.shape)
        return all(
            size <= 1 or stride == step * self.form.itemsize
            for size, stride, step in zip(self.shape, self.strides, plain, strict=True)
        )

    def lies_like(self, other: Numbers) -> bool:
        """Whether both lie without gaps in the same order, whichever it is."""
        if (self.shape, self.strides, self.form) != (other.shape, other.strides, other.form):
            return False
        expected = self.form.itemsize
        for stride, size in sorted((abs(stride), size) for stride, size in zip(self.strides, self.shape, strict=True)):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True


def numbers(leaf: StoredLeaf) -> Numbers | None:
    """A leaf's elements; None if it is no tensor, array or list of numbers, or its type cannot be measured."""
    info, node = leaf.info, leaf.info.node
    form = elements(info.dtype or "") if info.kind in ("tensor", "array", "numbers") else None
    if form is None or node is None or info.shape is None:
        return None
    shape, item = info.shape, form.itemsize
    nbytes = check_size(shape, item)
    strides = _strides(node, shape, item)
    if not nbytes:
        return Numbers(leaf, form, shape, strides, 0, 0, 0)
    check_extent(shape, strides, info.offset, item, leaf.nbytes)
    return _placed(leaf, form, shape, strides, info.offset)


def _placed(leaf: StoredLeaf, form: Elements, shape: tuple[int, ...], strides: tuple[int, ...], first: int) -> Numbers:
    """Elements of which there is at least one, where their strides put them."""
    reach = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low = first + sum(part for part in reach if part < 0)
    high = first + sum(part for part in reach if part > 0) + form.itemsize
    return Numbers(leaf, form, shape, strides, low, high - low, first)


def overlapping(before: Numbers, after: Numbers) -> tuple[Numbers, Numbers, Overlap] | None:
    """The elements that two leaves both have an index for, where their shapes differ along one axis alone."""
    if len(before.shape) != len(after.shape):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(before.shape, after.shape, strict=True)) if a != b]
    shape = tuple(map(min, before.shape, after.shape))
    if len(axes) != 1 or not math.prod(shape):
        return None
    [axis] = axes
    old, new = (_placed(one.leaf, one.form, shape, one.strides, one.first) for one in (before, after))
    return old, new, Overlap(axis, shape[axis], before.shape[axis], after.shape[axis])


def _strides(node: ArrayNode | NumbersNode | TensorNode, shape: tuple[int, ...], item: int) -> tuple[int, ...]:
    if isinstance(node, TensorNode) and node.strides is not None:
        return tuple(stride * item for stride in node.strides)
    if isinstance(node, ArrayNode) and node.strides is not None:
        return node.strides
    if isinstance(node, ArrayNode) and node.order == "F":
        return tuple(stride * item for stride in default_strides(shape[::-1]))[::-1]
    return tuple(stride * item for stride in default_strides(shape))


class InOrder:
    """Elements in the order in which they lie, from the chunks that hold them."""

    def __init__(self, found: Numbers, chunks: Chunks) -> None:
        self._found = found
        self._chunks = chunks
        self._starts = [0, *accumulate(length for _, _, length in found.leaf.runs)]

    def ends(self) -> Iterator[int]:
        """Counts of elements after which another chunk begins, and that of all."""
        item, count = self._found.form.itemsize, self._found.count
        for start in self._starts[1:-1]:
            if 0 < (end := (start - self._found.low) // item) < count:
                yield end
        yield count

    def touched(self, first: int, stop: int) -> list[Run]:
        """The parts of chunks that hold the elements `first` to `stop`; none of a blob inside the tree."""
        low, high = (self._found.low + at * self._found.form.itemsize for at in (first, stop))
        touched = []
        number = bisect_right(self._starts, low) - 1
        while low < high and number < len(self._found.leaf.runs):
            chunk, start, length = self._found.leaf.runs[number]
            skipped = low - self._starts[number]
            taken = min(length - skipped, high - low)
            touched.append((chunk, start + skipped, taken))
            low += taken
            number += 1
        return touched

    def read(self, first: int, stop: int) -> bytes | memoryview:
        """The bytes of the elements `first` to `stop`."""
        leaf, item = self._found.leaf, self._found.form.itemsize
        tiny = leaf.tiny
        if tiny is not None:
            data: bytes | memoryview = tiny[self._found.low + first * item : self._found.low + stop * item]
        else:
            pieces = [self._chunks.read(leaf, run) for run in self.touched(first, stop)]
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(data) != (stop - first) * item:
            raise inconsistent(f"{len(data)} bytes for {stop - first} elements of {leaf.info.path}")
        return data


class Gathered:
    """Elements in C order, whatever order they lie in; all they lie among is held."""

    def __init__(self, found: Numbers, chunks: Chunks) -> None:
        import numpy as np

        among = Numbers(found.leaf, _BYTES, (found.reach,), (1,), found.low, found.reach, found.low)
        # Mapped, since the allocator might keep so much memory after it is given back.
        memory, scattered = memoryview(pages(found.reach)), InOrder(among, chunks)
        for start in range(0, found.reach, RUN_BYTES):
            stop = min(start + RUN_BYTES, found.reach)
            memory[start:stop] = scattered.read(start, stop)
        owner = np.frombuffer(memory, np.uint8)
        self._item = found.form.itemsize
        address = owner.ctypes.data + found.first - found.low
        self._source = StridedSource(owner, address, found.shape, found.strides, self._item)

    def read(self, first: int, stop: int) -> bytes | memoryview:
        """The bytes of the elements `first` to `stop`."""
        return self._source.read(first * self._item, stop * self._item)


_BYTES = Elements("uint8", 1, 1, "|u1")


class Piece(NamedTuple):
    """Elements `first` to `stop` of a pair. `same` says that both sides have them in one chunk."""

    first: int
    stop: int
    same: bool
    cost: int
    """Plain bytes to read of the parts it lies in."""


class Pair:
    """The elements of two leaves, one by one beside each other."""

    def __init__(self, before: Numbers, after: Numbers, chunks: Chunks) -> None:
        self.before, self.after = before, after
        self._chunks = chunks
        self.is_gathered = not (before.lies_like(after) or (before.is_in_order and after.is_in_order))
        self._gathered: tuple[InOrder | Gathered, InOrder | Gathered] | None = None
        self._in_order = InOrder(before, chunks), InOrder(after, chunks)

    @property
    def is_readable(self) -> bool:
        """False if elements are scattered over more bytes than are held."""
        scattered = [one for one in (self.before, self.after) if not one.is_in_order]
        return not self.is_gathered or all(one.reach <= GATHERED_BYTES for one in scattered)

    def pieces(self) -> Iterator[Piece]:
        """All elements in pieces of at most 1 MiB a side, cut where the chunks of the wider side end."""
        old, new = self.before.form.itemsize, self.after.form.itemsize
        if self.is_gathered:
            step = RUN_BYTES // max(old, new)
            for first in range(0, self.after.count, step):
                stop = min(first + step, self.after.count)
                yield Piece(first, stop, same=False, cost=(stop - first) * (old + new))
            return
        a, b = self._in_order
        first = 0
        for stop in (a if old > new else b).ends():
            if stop == first:
                continue
            there, here = a.touched(first, stop), b.touched(first, stop)
            same = self.before.form == self.after.form and bool(here) and there == here
            yield Piece(first, stop, same, (stop - first) * (new if same else old + new))
            first = stop

    def read(self, piece: Piece) -> tuple[bytes | memoryview, bytes | memoryview]:
        """The bytes of both sides; those of the later one twice if they are the same."""
        a, b = self._sides()
        after = b.read(piece.first, piece.stop)
        return (after if piece.same else a.read(piece.first, piece.stop)), after

    def release(self) -> None:
        """Give back what was gathered."""
        self._gathered = None

    def _sides(self) -> tuple[InOrder | Gathered, InOrder | Gathered]:
        if not self.is_gathered:
            return self._in_order
        if self._gathered is None:
            a, b = (
                side if one.is_in_order else Gathered(one, self._chunks)
                for side, one in zip(self._in_order, (self.before, self.after), strict=True)
            )
            self._gathered = a, b
        return self._gathered
