"""torch tensors as nodes, and back. The only module of this room that imports torch: when a tensor appears."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from casckpt import errors
from casckpt.state.checks import check_extent, check_size, default_strides, inconsistent, unknown
from casckpt.state.flat import DIMS_MAX, ELEMENTS, PARAMETER, REQUIRES_GRAD, Source
from casckpt.state.leaves import CPU, Form, reach
from casckpt.state.memory import gather
from casckpt.state.nodes import TensorNode, parse


def forms(tensors: Sequence[Any]) -> list[Form]:
    """What each tensor (exactly Tensor or Parameter) looks like; `problem` says why one is not kept, if it is not.

    Cost: 0.9 us per tensor.
    """
    facts, size, stride, negative = map(_FACTS, tensors), map(_SIZE, tensors), map(_STRIDE, tensors), map(_NEG, tensors)
    try:
        # Everything here runs in C. What is not a common tensor raises or comes out as None.
        found = list(map(_common_form, facts, size, stride, negative))
    except RuntimeError:
        return [_any_form(tensor) for tensor in tensors]
    return [form or _any_form(tensor) for form, tensor in zip(found, tensors, strict=True)]


def hold(tensors: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The storages of tensors, which keep the memory where it is now, and the addresses of their first elements."""
    while True:
        addresses = list(map(_ADDRESS, tensors))
        # The storage, not the tensor: `parameter.data = other` must not free what a blob still reads.
        storages = list(map(_STORAGE, tensors))
        if addresses == list(map(_ADDRESS, tensors)):  # else one was replaced between the two by another thread
            return storages, addresses


def check(node: TensorNode, nbytes: int) -> None:
    """Refuse a node of unknown dtype, or one that does not fit its blob of `nbytes` bytes (0 without a blob)."""
    form = _stored_kind(node.shape, node.dtype)
    strides = form.strides if node.strides is None else node.strides
    if node.blob is None or form.nbytes == 0:
        if node.blob is not None or form.nbytes or node.offset or len(strides) != len(node.shape):
            raise inconsistent(f"a tensor of {form.nbytes} bytes {'without' if node.blob is None else 'with'} a blob")
        return
    if node.strides is None and node.offset + form.nbytes <= nbytes:  # nearly every tensor
        return
    check_extent(node.shape, [stride * form.itemsize for stride in strides], node.offset, form.itemsize, nbytes)


@functools.lru_cache(maxsize=1 << 14, typed=True)  # typed, so that what equals a size but is no int is not let pass
def whole(dtype: str, offset: int, flags: int, *shape: int) -> Whole | None:
    """How to make a tensor that is a whole blob in the default order; hostile input.

    None for what is not known to be one, or is refused: `parse`, `check` and `restore` then say why.
    """
    try:
        node = parse(["tensor", dtype, list(shape), None, None, offset, flags], 0)
        kind = _stored_kind(shape, dtype)
    except (errors.FormatError, errors.IntegrityError):
        return None
    requires_grad = bool(flags & REQUIRES_GRAD)
    if not isinstance(node, TensorNode) or offset or not kind.nbytes:
        return None
    if requires_grad and not (kind.dtype.is_floating_point or kind.dtype.is_complex):
        return None
    size = None if len(shape) == 1 else shape or ((),)
    return Whole(kind.dtype, size, kind.nbytes, requires_grad, bool(flags & PARAMETER))


@dataclass(frozen=True, slots=True)
class Whole:
    """A tensor that is a whole blob of `nbytes` bytes; `size` is for `resize_`, None if it has one dimension."""

    dtype: Any
    size: tuple[Any, ...] | None
    nbytes: int
    requires_grad: bool
    parameter: bool

    def tensor(self, memory: memoryview) -> Any:
        """It, on a storage of exactly that memory, which may be a slice of more: nothing else is in the storage."""
        tensor = torch.frombuffer(memory, dtype=self.dtype)
        if self.size is not None:  # in place, as a view would not be a tensor of its own
            tensor.resize_(*self.size)
        if self.parameter:
            return torch.nn.Parameter(tensor, requires_grad=self.requires_grad)
        return tensor.requires_grad_() if self.requires_grad else tensor


def storage(memory: memoryview) -> Any:
    """A torch storage on writable memory, which it keeps alive."""
    return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


def restore(node: TensorNode, blob: Any) -> Any:
    """The tensor of a node, on the blob's storage; copied only if its offset does not suit its element type.

    Args:
        node: checked by `check` before.
        blob: what `storage` made of the whole blob; None if the node has no blob.
    """
    form = _stored_kind(node.shape, node.dtype)
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


_DIMS_PROBLEM = f"it has more than {DIMS_MAX} dimensions"
_RAW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class TensorSource:
    """A tensor on any device, read in C order; each read resolves and copies to the CPU its own piece only."""

    tensor: Any = field(repr=False)

    @property
    def private(self) -> bool:
        """Every read copies."""
        return True

    def read(self, start: int, stop: int) -> memoryview:
        if start == stop:
            return memoryview(b"")
        itemsize: int = self.tensor.element_size()
        first, last = start // itemsize, -(-stop // itemsize)
        with torch.no_grad():
            nbytes = (last - first) * itemsize
            if self.tensor.is_cuda:  # a device writes to pinned memory by itself; other memory costs another copy
                piece = torch.empty(nbytes, dtype=torch.uint8, device="cpu", pin_memory=True)
            else:  # not memory of torch's own: glibc before 2.38 never reuses what a thread frees of its aligned blocks
                piece = torch.from_numpy(np.empty(nbytes, np.uint8))
            gather(self.tensor, first, last, piece.view(self.tensor.dtype))
            data: memoryview = piece.numpy().data
        return data[start - first * itemsize : stop - first * itemsize].toreadonly()


def device_range(storage: Any, low: int, nbytes: int) -> Source:
    """The bytes from address `low` on of the device memory of a storage."""
    with torch.no_grad():
        flat = torch.empty(0, dtype=torch.uint8, device=storage.device)
        return TensorSource(flat.set_(storage, low - storage.data_ptr(), (nbytes,), (1,)))


def gathering(owner: Any, shape: Sequence[int]) -> Source:
    """The elements of a tensor in C order, the dimensions that `shape` shrinks to 1 taken once."""
    with torch.no_grad():
        for axis, size in enumerate(shape):
            if size < owner.shape[axis]:
                owner = owner.narrow(axis, 0, size)
        if not owner.is_complex() and owner.element_size() in _RAW and not owner.is_neg():
            owner = owner.view(_RAW[owner.element_size()])  # torch cannot copy its smallest integers
    return TensorSource(owner)


_FACTS = attrgetter("dtype", "requires_grad", "layout", "is_nested", "is_quantized", "device")
_SIZE, _STRIDE, _NEG = torch.Tensor.size, torch.Tensor.stride, torch.Tensor.is_neg
_ADDRESS, _STORAGE = torch.Tensor.data_ptr, torch.Tensor.untyped_storage


@functools.lru_cache(maxsize=1 << 14)  # most states have dozens of forms
def _common_form(facts: tuple[Any, ...], size: Any, strides: tuple[int, ...], negative: bool) -> Form | None:
    """The form of a tensor that is strided memory and holds its values, None for one that may be another."""
    dtype, requires_grad, layout, nested, quantized, device = facts
    if layout is not torch.strided or nested or quantized or device.type == "meta" or negative or dtype.is_complex:
        return None
    return _strided_form(dtype, tuple(size), strides, requires_grad, _space(device), False)


def _any_form(tensor: Any) -> Form:
    problem = _layout_problem(tensor)
    if problem:
        return Form(problem, tensor=True)
    space = _space(tensor.device)
    lazy = tensor.is_conj() or tensor.is_neg()
    if lazy:
        space += f" conj={tensor.is_conj()} neg={tensor.is_neg()}"
    return _strided_form(tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.requires_grad, space, lazy)


def _space(device: Any) -> str:
    return CPU if device.type == "cpu" else str(device)


def _strided_form(
    dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], requires_grad: bool, space: str, lazy: bool
) -> Form:
    if len(shape) > DIMS_MAX:
        return Form(_DIMS_PROBLEM, tensor=True)
    form = _kind(shape, dtype)
    usual = strides == form.strides
    steps = form.steps if usual else tuple([stride * form.itemsize for stride in strides])
    high, gappy = form.nbytes, False
    if not usual and form.nbytes:
        _, high, gappy = reach(shape, steps, form.itemsize)
    return Form(
        *("", True, form.name, form.element, form.itemsize, shape, steps),
        order=None if usual else strides,
        flags=REQUIRES_GRAD if requires_grad else 0,
        contiguous=usual,
        space=space,
        lazy=lazy,
        high=high,
        gappy=gappy,
    )


def _layout_problem(tensor: Any) -> str:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return "sparse, nested and quantized layouts are not kept"
    if tensor.is_meta:
        return "a meta tensor has no values"
    return _DIMS_PROBLEM if tensor.dim() > DIMS_MAX else ""


@dataclass(frozen=True, slots=True)
class _Kind:
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
def _kind(shape: tuple[int, ...], dtype: Any) -> _Kind:
    name, itemsize = str(dtype).removeprefix("torch."), dtype.itemsize
    strides = default_strides(shape)
    steps = tuple(stride * itemsize for stride in strides)
    element = name if name in ELEMENTS else "bytes"
    return _Kind(dtype, name, element, itemsize, shape, strides, steps, math.prod(shape) * itemsize)


@functools.cache
def _dtypes() -> dict[str, Any]:
    known = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
    return {name.removeprefix("torch."): dtype for name, dtype in known.items() if not name.startswith(("torch.q",))}


@functools.lru_cache(maxsize=4096)
def _stored_kind(shape: tuple[int, ...], name: str) -> _Kind:
    """The form of a stored tensor; hostile input."""
    dtype = _dtypes().get(name)
    if dtype is None:
        raise unknown(f"torch dtype {name[:40]!r}")
    check_size([max(size, 1) for size in shape], dtype.itemsize)  # torch multiplies the strides of empty tensors too
    return _kind(shape, dtype)


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


def settle() -> None:
    """Wait for what the calling thread has queued on CUDA devices, so that other threads read the results.

    Torch's streams do not wait for each other, and another thread has another current one.
    """
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.current_stream(device).synchronize()


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


def place(tensor: Any) -> memoryview | None:
    """The memory of a tensor, writable, if its bytes lie there as a stored tensor of its shape would; else None."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not plain or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        return None
    if not tensor.is_contiguous() or tensor.numel() == 0:
        return None
    memory: memoryview = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
    return memory


def difference(live: Any, node: TensorNode) -> str:
    """What keeps a stored tensor from being put into a live value; "" if nothing does."""
    if not isinstance(live, torch.Tensor):
        return f"a tensor is stored, here is a {type(live).__name__}"
    dtype = str(live.dtype).removeprefix("torch.")
    if (dtype, tuple(live.shape)) != (node.dtype, node.shape):
        return f"{node.dtype} of shape {node.shape} is stored, here is {dtype} of shape {tuple(live.shape)}"
    return _layout_problem(live)


def assign(live: Any, value: Any) -> None:
    """Copy the elements of a tensor into a live one of the same shape and dtype, on whatever device."""
    with torch.no_grad():
        for axis, (size, stride) in enumerate(zip(live.shape, live.stride(), strict=True)):
            if stride == 0 and size > 1:  # expanded: all its elements along here are one
                live, value = live.narrow(axis, 0, 1), value.narrow(axis, 0, 1)
        if not live.is_complex() and live.element_size() in _RAW and not live.is_neg():
            raw = _RAW[live.element_size()]  # torch cannot copy its smallest integers
            live, value = live.view(raw), value.view(raw)
        live.copy_(value)


def touch(live: Any) -> None:
    """Tell autograd that the memory of a tensor was written to."""
    torch.autograd.graph.increment_version(live)


def plain_bytes(node: TensorNode) -> int:
    """Bytes of the elements of a stored tensor."""
    return _stored_kind(node.shape, node.dtype).nbytes
