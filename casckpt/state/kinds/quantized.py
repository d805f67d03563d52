"""Quantized tensors as the integers they consist of, in their own memory, with scales and zero points; and back.

    torch.quantized            one scale, one zero point
    torch.quantized_channels   one of each per index of an axis

The integers keep shape, offset and strides. Elements of less than a byte are kept as the bytes they are packed into.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from casckpt.state.checks import check_size, expect, expect_counts, inconsistent
from casckpt.state.kinds import params
from casckpt.state.kinds.reduced import CannotReduce, Make, Reduced
from casckpt.state.kinds.tensor_making import dtype_name, expect_plain, find_dtype, making

_RAW = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}
_PACKED = {torch.quint4x2: 2, torch.quint2x4: 4}
"""Elements in a byte; every row starts with a byte of its own."""
_ZEROS = {torch.qint8: (-(1 << 7), (1 << 7) - 1), torch.qint32: (-(1 << 31), (1 << 31) - 1)}
_ONE = ("data", "scale", "zero_point")
_MANY = ("data", "scales", "zero_points")


def reduce(tensor: Any) -> Reduced:
    """A quantized tensor as its integers, scales and zero points.

    Raises:
        CannotReduce: a scheme or dtype that is not known, or packed elements that do not lie one after the other.
    """
    look = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
    scheme = tensor.qscheme()
    data = _integers(tensor)
    if scheme == torch.per_tensor_affine:
        parts = data, tensor.q_scale(), tensor.q_zero_point()
        return Reduced("torch.quantized", params.write(look), dict(zip(_ONE, parts, strict=True)))
    if scheme not in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
        raise CannotReduce(f"tensors quantized by the scheme {scheme} are not kept")
    look["axis"] = tensor.q_per_channel_axis()
    parts = data, tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return Reduced("torch.quantized_channels", params.write(look), dict(zip(_MANY, parts, strict=True)))


def _integers(tensor: Any) -> Any:
    """The memory of a quantized tensor as a tensor of integers: `int_repr` would copy it."""
    storage, offset = tensor.untyped_storage(), tensor.storage_offset()
    if tensor.dtype in _RAW:
        empty = torch.empty(0, dtype=_RAW[tensor.dtype], device=tensor.device)
        return empty.set_(storage, offset, tensor.shape, tensor.stride())
    if tensor.dtype not in _PACKED or offset or not tensor.is_contiguous():
        raise CannotReduce(f"a tensor of {tensor.dtype} that is a view of another is not kept")
    nbytes = _packed_bytes(tuple(tensor.shape), tensor.dtype)
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage, 0, (nbytes,), (1,))


def _packed_bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape[:-1]) * -(-(shape[-1] if shape else 1) // _PACKED[dtype])


def _make_one(param: str | None, inner: Any) -> Any:
    fields = params.read_fields(param, ("dtype", "shape"), "a quantized tensor")
    dtype, shape, data = _data(fields, inner, _ONE)
    scale, zero = expect(inner["scale"], float, "a scale"), expect(inner["zero_point"], int, "a zero point")
    least, most = _ZEROS.get(dtype, (0, (1 << 8) - 1))
    if not least <= zero <= most:
        raise inconsistent(f"the zero point {zero} of a tensor of {fields['dtype']}")
    with making("a quantized tensor"):
        empty = torch._empty_affine_quantized([0], scale=scale, zero_point=zero, dtype=dtype, device=data.device)
        return _fill(empty, shape, data)


def _make_many(param: str | None, inner: Any) -> Any:
    fields = params.read_fields(param, ("dtype", "shape", "axis"), "a quantized tensor")
    dtype, shape, data = _data(fields, inner, _MANY)
    axis = expect(fields["axis"], int, "an axis")
    scales = expect_plain(inner["scales"], "scales", torch.float64, torch.float32)
    kind = torch.int64 if scales.dtype == torch.float64 else torch.float32
    zeros = expect_plain(inner["zero_points"], "zero points", kind)
    if not 0 <= axis < len(shape) or not tuple(scales.shape) == tuple(zeros.shape) == (shape[axis],):
        raise inconsistent(f"{tuple(scales.shape)} scales for axis {axis} of a tensor of shape {shape}")
    if kind is torch.int64 and zeros.numel():
        least, most = _ZEROS.get(dtype, (0, (1 << 8) - 1))
        if not least <= int(zeros.min()) <= int(zeros.max()) <= most:
            raise inconsistent(f"the zero points of a tensor of {fields['dtype']}")
    # No other dimension than the axis, so that making it empty takes no memory of the size that is declared.
    size = [shape[axis] if index == axis else 0 for index in range(len(shape))]
    with making("a quantized tensor"):
        empty = torch._empty_per_channel_affine_quantized(
            size, scales=scales, zero_points=zeros, axis=axis, dtype=dtype, device=data.device
        )
        return _fill(empty, shape, data)


def _data(fields: dict[str, Any], inner: Any, names: tuple[str, ...]) -> tuple[Any, tuple[int, ...], Any]:
    """Dtype, shape and integers of a stored tensor that fit each other."""
    dtype, shape = find_dtype(fields["dtype"]), expect_counts(fields["shape"], "the shape of a tensor")
    if dtype not in _RAW and dtype not in _PACKED:
        raise inconsistent(f"a quantized tensor of {fields['dtype']}")
    if type(inner) is not dict or tuple(inner) != names:
        raise inconsistent(f"a quantized tensor does not have the parts {', '.join(names)}")
    check_size([max(size, 1) for size in shape], 8)
    data = expect_plain(inner["data"], "the integers of a quantized tensor", _RAW.get(dtype, torch.uint8))
    if tuple(data.shape) != (shape if dtype in _RAW else (_packed_bytes(shape, dtype),)):
        raise inconsistent(f"a quantized tensor of shape {shape} has integers of shape {tuple(data.shape)}")
    if dtype in _PACKED and not data.is_contiguous():
        raise inconsistent("the bytes of a quantized tensor have gaps")
    return dtype, shape, data


def _fill(empty: Any, shape: tuple[int, ...], data: Any) -> Any:
    """A quantized tensor on the memory of integers."""
    if empty.dtype in _RAW:
        return empty.set_(data.untyped_storage(), data.storage_offset(), shape, data.stride())
    strides = torch.empty(shape, device="meta").stride()
    return empty.set_(data.untyped_storage(), data.storage_offset(), shape, strides)


MAKERS: dict[str, Make] = {"torch.quantized": _make_one, "torch.quantized_channels": _make_many}
