"""Leaves with bytes of their own, between the walk that finds them and the blobs they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Form:
    """What is said of an array or tensor by all but its address: equal for those that are stored alike.

    Args:
        problem: why it is not memory of a plain form; then nothing else counts but the dtype.
        tensor: of torch, whose strides are state; else of numpy, which comes back in C or F order.
        dtype: as in its node.
        element: one of `flat.ELEMENTS`.
        itemsize: bytes of one element.
        shape, strides: sizes, and bytes per step.
        order: the field of its node: strides in elements or None of a tensor, "C" or "F" of an array.
        flags: the field of a tensor's node, without the bit of a Parameter.
        contiguous: whether all bytes lie in the order it says; of a tensor, in the default one.
        space: addresses are comparable within one space: "cpu", "cuda:0", ...
        lazy: the bytes in memory are not the values yet (torch's conj and neg bits): shares with its like only.
        low, high: the bytes touched lie in [low, high) from the first element's address; equal if there are none.
        gappy: not every byte of [low, high) need be touched.
    """

    problem: str = ""
    tensor: bool = False
    dtype: str = ""
    element: str = "bytes"
    itemsize: int = 1
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    order: str | tuple[int, ...] | None = None
    flags: int = 0
    contiguous: bool = True
    space: str = CPU
    lazy: bool = False
    low: int = 0
    high: int = 0
    gappy: bool = False
    sizes: list[int] = field(init=False, repr=False, compare=False)
    """The shape as nodes have it: one list in all of them, for a list each would cost the collector too much."""
    plain: bool = field(init=False, compare=False)
    """Whether it is stored as it lies in the CPU's memory, from its first element on, if it shares with nothing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", list(self.shape))
        usual = self.contiguous or (self.tensor and not self.gathers(self.tensor))
        object.__setattr__(self, "plain", usual and self.space == CPU and not self.lazy and self.low == 0)

    def node(self, flags: int) -> list[Any]:
        """The node of a leaf, its blob and offset left open."""
        if self.tensor:
            order = self.order if self.order is None else list(self.order)
            return ["tensor", self.dtype, self.sizes, order, None, 0, self.flags | flags]
        return ["array", self.dtype, self.sizes, self.order, None, 0]

    def gathers(self, tensor: bool) -> bool:
        """Whether its elements are brought together, not stored as they lie; `tensor` if it shares with one."""
        if tensor:
            # Elements that share bytes within the view must go on doing so: then the gaps are stored too.
            return self.gappy and not self.overlaps_itself
        return not self.contiguous

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


class InMemory:
    """What has a form and an address, and so touches a range of memory."""

    __slots__ = ()
    form: Form
    address: int

    @property
    def low(self) -> int:
        """Address of the first byte it touches."""
        return self.address + self.form.low

    @property
    def high(self) -> int:
        """Address behind the last byte it touches."""
        return self.address + self.form.high


@dataclass(slots=True, eq=False)
class View(InMemory):
    """An array or tensor with at least one byte, of those that are not stored simply as they lie.

    Args:
        index: its number among the memories of the state.
        part: number of its component, 0 for the root.
        path: canonical full path.
        node: its node, complete but for the blob number and what follows from sharing.
        form: what it looks like.
        address: of the first element; numpy and torch share the CPU's addresses.
    """

    index: int
    part: int
    path: str
    node: list[Any]
    form: Form
    address: int

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for views of the same bytes in the same order."""
        return self.form.space, self.address, self.form.shape, self.form.strides, self.form.itemsize


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
