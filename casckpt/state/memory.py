"""Memory of arrays and tensors: the sources that read it piece by piece, without a copy where they can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from casckpt.state.flat import Source

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


class _Window:
    """Hands numpy an address, and keeps alive what lies there."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: object, address: int, shape: Sequence[int], strides: Sequence[int], typestr: str) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "data": (address, True),
            "shape": tuple(shape),
            "strides": tuple(strides),
            "typestr": typestr,
            "version": 3,
        }


def byte_window(owner: object, address: int, nbytes: int) -> memoryview:
    """A read-only view of CPU memory that keeps `owner` alive."""
    return window(owner, address, (nbytes,), (1,), "|u1").data


def window(owner: object, address: int, shape: Sequence[int], strides: Sequence[int], typestr: str) -> Array:
    """A read-only array on CPU memory that keeps `owner` alive; strides in bytes."""
    import numpy as np

    return np.asarray(_Window(owner, address, shape, strides, typestr))


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Plain Python memory: immutable bytes, or a bytearray of the state."""

    data: bytes | bytearray = field(repr=False)

    @property
    def private(self) -> bool:
        """A bytearray can be written to by its owner."""
        return isinstance(self.data, bytes)

    def read(self, start: int, stop: int) -> memoryview:
        # The view is made here and not kept: while one exists, a bytearray cannot be resized by its owner.
        return memoryview(self.data)[start:stop].toreadonly()


@dataclass(frozen=True, slots=True)
class RangeSource:
    """A range of CPU addresses, read without a copy. All its bytes lie in memory that `owner` keeps alive."""

    owner: object = field(repr=False)
    address: int

    @property
    def private(self) -> bool:
        """It is the state's own memory."""
        return False

    def read(self, start: int, stop: int) -> memoryview:
        return byte_window(self.owner, self.address + start, stop - start) if start < stop else memoryview(b"")


@dataclass(frozen=True, slots=True)
class StridedSource:
    """Elements scattered in CPU memory, read in C order; each read copies its own piece only."""

    owner: object = field(repr=False)
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @property
    def private(self) -> bool:
        """Every read copies."""
        return True

    def read(self, start: int, stop: int) -> memoryview:
        if start == stop:
            return memoryview(b"")
        import numpy as np

        typestr = f"<u{self.itemsize}" if self.itemsize in (1, 2, 4, 8) else f"|V{self.itemsize}"
        first, last = start // self.itemsize, -(-stop // self.itemsize)
        scattered = window(self.owner, self.address, self.shape, self.strides, typestr)
        piece = np.empty(last - first, typestr)
        gather(scattered, first, last, piece)
        return piece.view("u1").data[start - first * self.itemsize : stop - first * self.itemsize]


@dataclass(frozen=True, slots=True)
class PaddedSource:
    """`pad` zero bytes before another source; only a read that meets them copies."""

    source: Source
    pad: int

    @property
    def private(self) -> bool:
        """Reads behind the pad do not copy."""
        return bool(getattr(self.source, "private", False))

    def read(self, start: int, stop: int) -> memoryview:
        if start >= self.pad:
            return self.source.read(start - self.pad, stop - self.pad)
        rest = self.source.read(0, max(stop - self.pad, 0))
        return memoryview(bytes(min(stop, self.pad) - start) + bytes(rest))


def gather(scattered: Any, first: int, last: int, piece: Any) -> None:
    """Copy elements `first` to `last` of the C order of an array into the 1-d `piece`.

    Both are numpy arrays or both torch tensors. Whole rows are copied at once, the partial ones at the ends by
    recursion into the dimension below, so nothing larger than the piece is ever made.
    """
    if scattered.ndim <= 1:
        piece[:] = scattered[first:last] if scattered.ndim else scattered
        return
    row = math.prod(scattered.shape[1:])
    begin, end = -(-first // row), last // row
    if begin > end:  # within one row
        gather(scattered[end], first - end * row, last - end * row, piece)
        return
    head, tail = begin * row - first, end * row - first
    if head:
        gather(scattered[begin - 1], row - head, row, piece[:head])
    if end > begin:
        piece[head:tail].reshape(end - begin, *scattered.shape[1:])[...] = scattered[begin:end]
    if last > end * row:
        gather(scattered[end], 0, last - end * row, piece[tail:])
