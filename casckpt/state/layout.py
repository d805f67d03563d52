"""How leaves that share memory become one blob, and where in it each of them lies.

A group is stored as the range of memory it touches, strides and all, so that what shared memory shares it again. The
exception is a view (or the same view several times) with gaps, or a numpy array in neither C nor F order: its bytes
are gathered in C order, for the gaps are not state and may hold anything. Expanded dimensions stay expanded in
tensors; numpy arrays come back in C or F order unless they share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from casckpt.state.checks import default_strides
from casckpt.state.flat import Source
from casckpt.state.leaves import CPU, View
from casckpt.state.memory import PaddedSource, RangeSource, StridedSource

Layout = tuple[Source, int, str]
"""Source, length in bytes and element type of a blob."""


def lay_out(group: Sequence[View]) -> Layout:
    """The blob of a group of views that share memory. Completes their nodes: offset, and strides where needed."""
    view = group[0]
    tensors = view.tensor or any(member.tensor for member in group)
    alike = len(group) == 1 or all(member.identity == view.identity for member in group)
    if alike and (view.lazy or _gathers(view, tensors)):
        return _gather(group, keep_expanded=tensors)
    if alike and view.address == view.low:  # nearly every blob: one leaf, stored as it lies
        for member in group:
            _place(member, 0)
        return _range(group, view.low, view.high), view.high - view.low, _element(group)
    low, high = min(member.low for member in group), max(member.high for member in group)
    source = _range(group, low, high)
    pad = _pad(group, low)
    for member in group:
        _place(member, member.address - low + pad)
    return PaddedSource(source, pad) if pad else source, high - low + pad, _element(group)


def _place(view: View, offset: int) -> None:
    view.node[5] = offset
    if not view.tensor and not (view.owner.flags.c_contiguous or view.owner.flags.f_contiguous):
        view.node.append(list(view.strides))


def _element(group: Sequence[View]) -> str:
    element = group[0].element
    return element if len(group) == 1 or all(view.element == element for view in group) else "bytes"


def _range(group: Sequence[View], low: int, high: int) -> Source:
    if group[0].space == CPU:
        return group[0] if len(group) == 1 else RangeSource([view.owner for view in group], low)
    from casckpt.state import tensors

    return tensors.device_range(group[0].owner, low, high - low)


def _gathers(view: View, tensor: bool) -> bool:
    if tensor:
        # Elements that share bytes within the view must go on doing so: then the gaps are stored too.
        return view.gappy and not view.overlaps_itself
    return not (view.owner.flags.c_contiguous or view.owner.flags.f_contiguous)


def _gather(group: Sequence[View], *, keep_expanded: bool) -> Layout:
    """The blob of views that are all the same, element by element in C order."""
    view = group[0]
    shape = view.core if keep_expanded else view.shape
    steps = default_strides(shape)
    expanded = keep_expanded and shape != view.shape
    if expanded:
        steps = tuple(step if size == core else 0 for step, size, core in zip(steps, view.shape, shape, strict=True))
    for member in group:
        member.node[3] = list(steps) if member.tensor and expanded else None if member.tensor else "C"
        if expanded and not member.tensor:
            member.node.append([step * view.itemsize for step in steps])
    source: Source
    if view.space == CPU and not view.lazy:
        source = StridedSource(view.owner, view.address, shape, view.strides, view.itemsize)
    else:
        from casckpt.state import tensors

        source = tensors.gathering(view.owner, shape)
    return source, math.prod(shape) * view.itemsize, _element(group)


def _pad(group: Sequence[View], low: int) -> int:
    """Zero bytes before the range so that every tensor in it is aligned to its element when the blob itself is.

    Needed only if the lowest leaf has smaller elements than another: without it that one could not share memory
    again, as torch counts offsets in whole elements.
    """
    sizes = [(view.address - low, view.itemsize) for view in group if view.tensor]
    for pad in range(max((size for _, size in sizes), default=0)):
        if all((offset + pad) % size == 0 for offset, size in sizes):
            return pad
    return 0
