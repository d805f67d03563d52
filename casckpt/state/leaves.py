"""Leaves with bytes of their own, between the walk that finds them and the blobs they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from casckpt.state.flat import Blob

CPU = "cpu"


@dataclass(slots=True, eq=False)
class Leaf:
    """One leaf.

    Args:
        part: number of its component, 0 for the root.
        path: canonical full path.
        node: its node, complete but for the blob number and what follows from sharing.
        element: one of `flat.ELEMENTS`.
        blob: the blob its bytes are in, while blobs are numbered.
    """

    part: int
    path: str
    node: list[Any]
    element: str
    blob: Blob | None = field(init=False, default=None)


@dataclass(slots=True, eq=False)
class Bytes(Leaf):
    """Bytes in plain Python memory: immutable, or a bytearray, which shares with nothing. Its own blob's source."""

    data: bytes | bytearray = field(repr=False)

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop`."""
        # The view is made here and not kept: while one exists, a bytearray cannot be resized by its owner.
        return memoryview(self.data)[start:stop].toreadonly()


@dataclass(slots=True, eq=False)
class View(Leaf):
    """An array or tensor with at least one byte. numpy and torch share the CPU's addresses.

    Args:
        owner: keeps the memory alive; the array itself if it is one of numpy.
        space: addresses are comparable within one space: "cpu", "cuda:0", ...
        address: of the first element.
        shape, strides: sizes, and bytes per step.
        itemsize: bytes of one element.
        tensor: of torch, whose strides are state; else of numpy, which comes back in C or F order.
        lazy: the bytes in memory are not the values yet (torch's conj and neg bits): shares with its like only.
        low, high: the bytes touched lie in [low, high).
        gappy: not every byte of [low, high) need be touched.
    """

    owner: Any = field(repr=False)
    space: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    tensor: bool
    lazy: bool
    low: int
    high: int
    gappy: bool

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop` of the range, if that lies on the CPU: a leaf alone is the source of its blob."""
        if start == stop:
            return memoryview(b"")
        from casckpt.state.memory import byte_window

        return byte_window(self.owner, self.low + start, stop - start)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for views of the same bytes in the same order."""
        return self.space, self.address, self.shape, self.strides, self.itemsize

    @property
    def core(self) -> tuple[int, ...]:
        """The shape with expanded dimensions shrunk to 1."""
        return tuple(size if stride else 1 for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def overlaps_itself(self) -> bool:
        """Whether two elements of the core may share a byte. True for some that do not, never the reverse."""
        reach = self.itemsize
        for stride, size in sorted((abs(t), n) for n, t in zip(self.shape, self.strides, strict=True) if t and n > 1):
            if stride < reach:
                return True
            reach += stride * (size - 1)
        return False


def reach(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int, bool]:
    """Where the bytes of an array lie, from its first element's address, and whether there may be gaps."""
    low = high = 0
    distinct = 1
    for size, stride in zip(shape, strides, strict=True):
        if stride > 0:
            high += (size - 1) * stride
            distinct *= size
        elif stride:
            low += (size - 1) * stride
            distinct *= size
    high += itemsize
    # Expanded dimensions (stride 0) add no bytes, so they cannot fill gaps either.
    return low, high, high - low > distinct * itemsize
