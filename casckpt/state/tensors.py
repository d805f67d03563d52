"""torch tensors as nodes, and back. The only module of this room that imports torch: when a tensor appears."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from casckpt import errors
from casckpt.state.checks import check_extent, check_size, default_strides, inconsistent, unknown
from casckpt.state.flat import DIMS_MAX, ELEMENTS, PARAMETER, REQUIRES_GRAD, Source
from casckpt.state.leaves import CPU, View, reach
from casckpt.state.memory import gather
from casckpt.state.nodes import TensorNode
from casckpt.state.paths import shown
from casckpt.state.values import type_name


def describe(tensor: Any, path: str, part: int) -> tuple[list[Any], View | None]:
    """The node of a tensor, its blob and offset left open, and its memory; None if it has no elements.

    Raises:
        UnsupportedType: a subclass other than Parameter, or a layout that is not strided memory.
    """
    kind = type(tensor)
    parameter = kind is torch.nn.Parameter
    problem = "" if parameter or kind is torch.Tensor else "subclasses of tensors are not kept"
    problem = problem or _layout_problem(tensor)
    if problem:
        raise errors.UnsupportedType(path=shown(path), type=type_name(kind), problem=problem)
    form, strides = _form(tensor.shape, tensor.dtype), tensor.stride()
    usual = strides == form.strides
    flags = (REQUIRES_GRAD if tensor.requires_grad else 0) | (PARAMETER if parameter else 0)
    node = ["tensor", form.name, list(form.shape), None if usual else list(strides), None, 0, flags]
    if form.nbytes == 0:
        return node, None
    steps, high, gappy = form.steps, form.nbytes, False
    if not usual:
        steps = tuple([stride * form.itemsize for stride in strides])
        _, high, gappy = reach(form.shape, steps, form.itemsize)
    address = tensor.data_ptr()
    space = CPU if tensor.is_cpu else str(tensor.device)
    lazy = tensor.is_conj() or tensor.is_neg()
    if lazy:
        space += f" conj={tensor.is_conj()} neg={tensor.is_neg()}"
    # The detached twin holds the storage itself: `parameter.data = other` must not free what the blob still reads.
    view = View(
        *(part, path, node, form.element, tensor.detach(), space, address, form.shape, steps, form.itemsize),
        tensor=True,
        lazy=lazy,
        low=address,
        high=address + high,
        gappy=gappy,
    )
    return node, view


def check(node: TensorNode, nbytes: int) -> None:
    """Refuse a node of unknown dtype, or one that does not fit its blob of `nbytes` bytes (0 without a blob)."""
    form = _stored_form(node.shape, node.dtype)
    strides = form.strides if node.strides is None else node.strides
    if node.blob is None or form.nbytes == 0:
        if node.blob is not None or form.nbytes or node.offset or len(strides) != len(node.shape):
            raise inconsistent(f"a tensor of {form.nbytes} bytes {'without' if node.blob is None else 'with'} a blob")
        return
    if node.strides is None and node.offset + form.nbytes <= nbytes:  # nearly every tensor
        return
    check_extent(node.shape, [stride * form.itemsize for stride in strides], node.offset, form.itemsize, nbytes)


def storage(memory: memoryview) -> Any:
    """A torch storage on writable memory, which it keeps alive."""
    return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


def restore(node: TensorNode, blob: Any) -> Any:
    """The tensor of a node, on the blob's storage; copied only if its offset does not suit its element type.

    Args:
        node: checked by `check` before.
        blob: what `storage` made of the whole blob; None if the node has no blob.
    """
    form = _stored_form(node.shape, node.dtype)
    strides = form.strides if node.strides is None else node.strides
    if blob is None:
        blob = _nothing().untyped_storage()
    offset, rest = divmod(node.offset, form.itemsize)
    if rest:
        _, span_elements, _ = reach(node.shape, strides, 1)
        span = _nothing().set_(blob, node.offset, (span_elements * form.itemsize,), (1,))
        blob, offset = span.clone().untyped_storage(), 0
    dtype = form.dtype
    tensor = _nothing().view(dtype).set_(blob, offset, node.shape, strides)
    requires_grad = bool(node.flags & REQUIRES_GRAD)
    if requires_grad and not (dtype.is_floating_point or dtype.is_complex):
        raise inconsistent(f"a tensor of dtype {node.dtype} requires a gradient")
    if node.flags & PARAMETER:
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_() if requires_grad else tensor


_RAW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class TensorSource:
    """A tensor on any device, read in C order; each read resolves and copies to the CPU its own piece only."""

    tensor: Any = field(repr=False)

    def read(self, start: int, stop: int) -> memoryview:
        if start == stop:
            return memoryview(b"")
        itemsize: int = self.tensor.element_size()
        first, last = start // itemsize, -(-stop // itemsize)
        with torch.no_grad():
            piece = torch.empty((last - first) * itemsize, dtype=torch.uint8, device="cpu")
            gather(self.tensor, first, last, piece.view(self.tensor.dtype))
            data: memoryview = piece.numpy().data
        return data[start - first * itemsize : stop - first * itemsize].toreadonly()


def device_range(owner: Any, low: int, nbytes: int) -> Source:
    """The bytes from address `low` on of the device memory that holds the tensor `owner`."""
    memory = owner.untyped_storage()
    with torch.no_grad():
        flat = torch.empty(0, dtype=torch.uint8, device=owner.device)
        return TensorSource(flat.set_(memory, low - memory.data_ptr(), (nbytes,), (1,)))


def gathering(owner: Any, shape: Sequence[int]) -> Source:
    """The elements of a tensor in C order, the dimensions that `shape` shrinks to 1 taken once."""
    with torch.no_grad():
        for axis, size in enumerate(shape):
            if size < owner.shape[axis]:
                owner = owner.narrow(axis, 0, size)
        if not owner.is_complex() and owner.element_size() in _RAW and not owner.is_neg():
            owner = owner.view(_RAW[owner.element_size()])  # torch cannot copy its smallest integers
    return TensorSource(owner)


def _layout_problem(tensor: Any) -> str:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return "sparse, nested and quantized layouts are not kept"
    if tensor.is_meta:
        return "a meta tensor has no values"
    return f"it has more than {DIMS_MAX} dimensions" if tensor.dim() > DIMS_MAX else ""


@dataclass(frozen=True, slots=True)
class _Form:
    """What shape and dtype say of a tensor; strides in elements, steps in bytes, both as if it were contiguous."""

    dtype: Any
    name: str
    element: str
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    steps: tuple[int, ...]
    nbytes: int


@functools.lru_cache(maxsize=4096)  # states have thousands of tensors and dozens of forms
def _form(size: Any, dtype: Any) -> _Form:
    name, itemsize, shape = str(dtype).removeprefix("torch."), dtype.itemsize, tuple(size)
    strides = default_strides(shape)
    steps = tuple(stride * itemsize for stride in strides)
    element = name if name in ELEMENTS else "bytes"
    return _Form(dtype, name, element, itemsize, shape, strides, steps, math.prod(shape) * itemsize)


@functools.cache
def _dtypes() -> dict[str, Any]:
    known = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
    return {name.removeprefix("torch."): dtype for name, dtype in known.items() if not name.startswith(("torch.q",))}


@functools.lru_cache(maxsize=4096)
def _stored_form(shape: tuple[int, ...], name: str) -> _Form:
    """The form of a stored tensor; hostile input."""
    dtype = _dtypes().get(name)
    if dtype is None:
        raise unknown(f"torch dtype {name[:40]!r}")
    check_size([max(size, 1) for size in shape], dtype.itemsize)  # torch multiplies the strides of empty tensors too
    return _form(shape, dtype)


def _nothing() -> Any:
    """An empty byte tensor. Viewed as any dtype, where making an empty one warns for complex32."""
    return torch.empty(0, dtype=torch.uint8, device="cpu")


def read_into(source: TensorSource, start: int, stop: int, target: memoryview) -> None:
    """Bytes `start` to `stop` of a source straight into `target`, without the copy between that `read` makes.

    Args:
        start: a multiple of 16, so that no element is cut there.
        target: writable, on a boundary that suits the elements; a device writes to it by itself if it is page-locked.
    """
    itemsize: int = source.tensor.element_size()
    with torch.no_grad():
        piece = torch.frombuffer(target, dtype=torch.uint8).view(source.tensor.dtype)
        gather(source.tensor, start // itemsize, stop // itemsize, piece)


def page_lock(address: int, nbytes: int) -> Callable[[], object]:
    """Lock pages so that CUDA copies to them at full speed; returns what unlocks them.

    Where there is no CUDA, or it will not lock so much, nothing is locked: copies are slower then and as exact.
    """
    if not torch.cuda.is_available():
        return int
    runtime = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, nbytes, 0)):
        return int
    return functools.partial(runtime.cudaHostUnregister, address)
