"""How leaves that share memory become one blob, and where in it each of them lies.

A group is stored as the range of memory it touches, strides and all, so that what shared memory shares it again. The
exception is a view (or the same view several times) with gaps, or a numpy array in neither C nor F order: its bytes
are gathered in C order, for the gaps are not state and may hold anything. Expanded dimensions stay expanded in
tensors; numpy arrays come back in C or F order unless they share.

A layout holds for every state of the same form, wherever its memory lies: `source` brings the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from casckpt.state.checks import default_strides
from casckpt.state.flat import Source
from casckpt.state.held import Held
from casckpt.state.leaves import CPU, View
from casckpt.state.memory import BytesSource, PaddedSource, RangeSource, StridedSource


@dataclass(frozen=True, slots=True)
class TextLayout:
    """Plain Python memory: number `index` of the texts."""

    index: int

    def source(self, held: Held) -> Source:
        return BytesSource(held.texts[self.index])


@dataclass(frozen=True, slots=True)
class RangeLayout:
    """A range of memory that starts `low` bytes from the first element of the first of `members`, after a pad."""

    members: tuple[int, ...]
    low: int
    nbytes: int
    element: str
    pad: int
    on_cpu: bool

    def source(self, held: Held) -> Source:
        first = self.members[0]
        low = held.addresses[first] + self.low
        source: Source
        if self.on_cpu:
            source = RangeSource([held.owners[member] for member in self.members], low)
        else:
            from casckpt.state import tensors

            source = tensors.device_range(held.owners[first], low, self.nbytes - self.pad)
        return PaddedSource(source, self.pad) if self.pad else source


@dataclass(frozen=True, slots=True)
class GatherLayout:
    """The elements of `member` in C order; `on_cpu` if they lie there as they are."""

    member: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    element: str
    on_cpu: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.itemsize

    def source(self, held: Held) -> Source:
        if self.on_cpu:
            owner, address = held.owners[self.member], held.addresses[self.member]
            return StridedSource(owner, address, self.shape, self.strides, self.itemsize)
        from casckpt.state import tensors

        return tensors.gathering(held.tensors[self.member].detach(), self.shape)


def lay_out(group: Sequence[View]) -> RangeLayout | GatherLayout:
    """The blob of a group of views that share memory. Completes their nodes: offset, and strides where needed."""
    view = group[0]
    tensors = any(member.form.tensor for member in group)
    alike = all(member.identity == view.identity for member in group)
    if alike and (view.form.lazy or view.form.gathers(tensors)):
        return _gather(group, keep_expanded=tensors)
    low, high = min(member.low for member in group), max(member.high for member in group)
    pad = 0 if alike and view.address == low else _pad(group, low)
    for member in group:
        _place(member, member.address - low + pad)
    members = tuple(member.index for member in group)
    on_cpu = view.form.space == CPU
    return RangeLayout(members, low - view.address, high - low + pad, _element(group), pad, on_cpu)


def _place(view: View, offset: int) -> None:
    view.node[5] = offset
    if not view.form.tensor and not view.form.contiguous:
        view.node.append(list(view.form.strides))


def _element(group: Sequence[View]) -> str:
    element = group[0].form.element
    return element if all(view.form.element == element for view in group) else "bytes"


def _gather(group: Sequence[View], *, keep_expanded: bool) -> GatherLayout:
    """The blob of views that are all the same, element by element in C order."""
    form = group[0].form
    shape = form.core if keep_expanded else form.shape
    steps = default_strides(shape)
    expanded = keep_expanded and shape != form.shape
    if expanded:
        steps = tuple(step if size == core else 0 for step, size, core in zip(steps, form.shape, shape, strict=True))
    for member in group:
        tensor = member.form.tensor
        member.node[3] = list(steps) if tensor and expanded else None if tensor else "C"
        if expanded and not tensor:
            member.node.append([step * form.itemsize for step in steps])
    on_cpu = form.space == CPU and not form.lazy
    return GatherLayout(group[0].index, shape, form.strides, form.itemsize, _element(group), on_cpu)


def _pad(group: Sequence[View], low: int) -> int:
    """Zero bytes before the range so that every tensor in it is aligned to its element when the blob itself is.

    Needed only if the lowest leaf has smaller elements than another: without it that one could not share memory
    again, as torch counts offsets in whole elements.
    """
    sizes = [(view.address - low, view.form.itemsize) for view in group if view.form.tensor]
    for pad in range(max((size for _, size in sizes), default=0)):
        if all((offset + pad) % size == 0 for offset, size in sizes):
            return pad
    return 0
