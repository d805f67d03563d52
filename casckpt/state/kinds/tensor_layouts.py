"""Tensors that are no strided memory, as the strided tensors they consist of, and back.

    torch.sparse_coo                    indices, values; its shape and whether it is coalesced are in the parameter
    torch.sparse_csr, _csc, _bsr, _bsc  two tensors of indices, values
    torch.nested                        of strided layout: the buffer, and sizes, strides and offset of each member
    torch.jagged                        values, offsets, lengths, and the lengths known to be the least and greatest
    torch.meta                          nothing but its parameter

The makers let torch check all indices: it reads and writes where wrong ones point.
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import torch

from casckpt.state.checks import check_extent, check_size, expect, expect_count, expect_counts, inconsistent, unknown
from casckpt.state.flat import DIMS_MAX
from casckpt.state.kinds import params
from casckpt.state.kinds.reduced import CannotReduce, Make, Reduced
from casckpt.state.kinds.tensor_making import dtype_name, expect_plain, find_dtype, making

_INDICES = (torch.int64, torch.int32)
_COMPRESSED = {
    "torch.sparse_csr": ("crow_indices", "col_indices"),
    "torch.sparse_csc": ("ccol_indices", "row_indices"),
    "torch.sparse_bsr": ("crow_indices", "col_indices"),
    "torch.sparse_bsc": ("ccol_indices", "row_indices"),
}
_NESTED = ("buffer", "sizes", "strides", "offsets")
_JAGGED = ("values", "offsets", "lengths", "min_seqlen", "max_seqlen")


def reduce(tensor: Any) -> Reduced | None:
    """A tensor without a gradient as its parts; None if its layout is none of these. It is not a Parameter.

    Raises:
        CannotReduce: a layout of the layouts' own kind that nothing is known of.
    """
    layout = str(tensor.layout)
    if tensor.is_meta:
        return _reduce_meta(tensor)
    if tensor.layout is torch.sparse_coo:
        param = params.write({"shape": list(tensor.shape), "coalesced": tensor.is_coalesced()})
        return Reduced(layout, param, {"indices": tensor._indices(), "values": tensor._values()})
    if layout in _COMPRESSED:
        names = _COMPRESSED[layout]
        inner = {name: getattr(tensor, name)() for name in (*names, "values")}
        return Reduced(layout, params.write({"shape": list(tensor.shape)}), inner)
    if tensor.layout is torch.jagged:
        return _reduce_jagged(tensor)
    return _reduce_nested(tensor) if tensor.is_nested else None


def _make_coo(param: str | None, inner: Any) -> Any:
    fields = params.read_fields(param, ("shape", "coalesced"), "a sparse tensor")
    shape, coalesced = _shape(fields), expect(fields["coalesced"], bool, "coalesced")
    _expect_parts(inner, ("indices", "values"))
    indices = expect_plain(inner["indices"], "the indices of a sparse tensor", torch.int64)
    values = expect_plain(inner["values"], "the values of a sparse tensor")
    with making("a sparse tensor"):
        return torch.sparse_coo_tensor(
            indices, values, shape, device=values.device, check_invariants=True, is_coalesced=coalesced
        )


def _compressed(kind: str) -> Make:
    names = _COMPRESSED[kind]
    layout = getattr(torch, kind.removeprefix("torch."))

    def make(param: str | None, inner: Any) -> Any:
        shape = _shape(params.read_fields(param, ("shape",), "a sparse tensor"))
        _expect_parts(inner, (*names, "values"))
        indices = [expect_plain(inner[name], f"the {name} of a sparse tensor", *_INDICES) for name in names]
        values = expect_plain(inner["values"], "the values of a sparse tensor")
        with making("a sparse tensor"):
            return torch.sparse_compressed_tensor(
                *(*indices, values, shape), layout=layout, device=values.device, check_invariants=True
            )

    return make


def _reduce_meta(tensor: Any) -> Reduced:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        raise CannotReduce("meta tensors that are sparse, nested or quantized are not kept")
    look = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape), "strides": list(tensor.stride())}
    return Reduced("torch.meta", params.write(look), None)


def _make_meta(param: str | None, inner: Any) -> Any:
    expect(inner, type(None), "the values of a meta tensor")
    fields = params.read_fields(param, ("dtype", "shape", "strides"), "a meta tensor")
    dtype, shape = find_dtype(fields["dtype"]), _shape(fields)
    strides = expect_counts(fields["strides"], "the strides of a tensor")
    check_size([max(size, 1) for size in shape], dtype.itemsize)
    check_size([sum((size - 1) * stride for size, stride in zip(shape, strides, strict=False)) + 1], dtype.itemsize)
    with making("a meta tensor"):
        return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def _reduce_nested(tensor: Any) -> Reduced:
    sizes, strides = tensor._nested_tensor_size(), tensor._nested_tensor_strides()
    offsets = tensor._nested_tensor_storage_offsets()
    if offsets.numel() == 0:  # torch leaves sizes and strides without meaning then
        sizes = strides = torch.zeros((0, 0), dtype=torch.int64, device="cpu")
    return Reduced("torch.nested", None, dict(zip(_NESTED, (tensor.values(), sizes, strides, offsets), strict=True)))


def _make_nested(param: str | None, inner: Any) -> Any:
    params.none(param, "a nested tensor")
    _expect_parts(inner, _NESTED)
    buffer = expect_plain(inner["buffer"], "the buffer of a nested tensor")
    parts = [expect_plain(inner[name], f"the {name} of a nested tensor", torch.int64) for name in _NESTED[1:]]
    sizes, strides, offsets = (part.tolist() for part in parts)
    dims = [part.dim() for part in parts]
    if buffer.dim() != 1 or not buffer.is_contiguous() or dims != [2, 2, 1] or parts[0].shape != parts[1].shape:
        raise inconsistent("the parts of a nested tensor have other dimensions than its members")
    if len(sizes) != len(offsets) or parts[0].shape[1] >= DIMS_MAX:
        raise inconsistent(f"a nested tensor of {len(sizes)} members has {len(offsets)} offsets")
    for shape, steps, offset in zip(sizes, strides, offsets, strict=True):
        shape, steps = expect_counts(shape, "a size"), expect_counts(steps, "a stride")
        check_size([max(size, 1) for size in shape], max(steps, default=1))  # torch multiplies them too
        if check_size(shape, 1):
            check_extent(shape, steps, expect_count(offset, "an offset"), 1, buffer.numel())
        elif offset != 0 and not 0 < offset <= buffer.numel():
            raise inconsistent("a member of a nested tensor lies outside its buffer")
    with making("a nested tensor"):
        if not offsets:
            return torch.nested.nested_tensor([], dtype=buffer.dtype, device=buffer.device)
        return torch._nested_view_from_buffer(buffer, *parts)


def _reduce_jagged(tensor: Any) -> Reduced:
    known = (getattr(tensor, f"_maybe_{name}", None) for name in _JAGGED[3:])
    inner = dict(zip(_JAGGED, (tensor.values(), tensor.offsets(), tensor.lengths(), *known), strict=True))
    return Reduced("torch.jagged", params.write({"dim": tensor._ragged_idx}), inner)


def _make_jagged(param: str | None, inner: Any) -> Any:
    dim = expect_count(params.read_fields(param, ("dim",), "a jagged tensor")["dim"], "the dimension that is jagged")
    _expect_parts(inner, _JAGGED)
    values = expect_plain(inner["values"], "the values of a jagged tensor")
    offsets = expect_plain(inner["offsets"], "the offsets of a jagged tensor", *_INDICES)
    lengths = inner["lengths"]
    if not 1 <= dim <= values.dim() or offsets.dim() != 1 or offsets.numel() < 1:
        raise inconsistent(f"dimension {dim} of {values.dim()} is jagged")
    starts = offsets.tolist()
    sizes = [stop - start for start, stop in itertools.pairwise(starts)]
    if starts[0] < 0 or starts[-1] > values.shape[dim - 1] or any(size < 0 for size in sizes):
        raise inconsistent("the offsets of a jagged tensor do not ascend within its values")
    if lengths is not None:
        expect_plain(lengths, "the lengths of a jagged tensor", *_INDICES)
        sizes = lengths.tolist() if lengths.dim() == 1 else []
        ends = (start + size for start, size in zip(starts, sizes, strict=False))
        if (
            len(sizes) != len(starts) - 1
            or any(size < 0 for size in sizes)
            or max(ends, default=0) > values.shape[dim - 1]
        ):
            raise inconsistent("the lengths of a jagged tensor do not lie within its values")
    known = {name: expect_count(inner[name], name) for name in _JAGGED[3:] if inner[name] is not None}
    if sizes and not known.get("min_seqlen", 0) <= min(sizes) <= max(sizes) <= known.get("max_seqlen", max(sizes)):
        raise inconsistent("the least and greatest length of a jagged tensor are not those of its members")
    make = torch.nested.nested_tensor_from_jagged
    if known.keys() - inspect.signature(make).parameters:
        raise unknown("it holds a jagged tensor of known lengths, and this torch does not take them")
    with making("a jagged tensor"):
        return make(values, offsets, lengths, jagged_dim=dim, **known)


def _shape(fields: dict[str, Any]) -> tuple[int, ...]:
    return expect_counts(fields["shape"], "the shape of a tensor")


def _expect_parts(inner: Any, names: tuple[str, ...]) -> None:
    if type(inner) is not dict or tuple(inner) != names:
        raise inconsistent(f"a tensor does not have the parts {', '.join(names)}")


MAKERS: dict[str, Make] = {
    "torch.sparse_coo": _make_coo,
    **{kind: _compressed(kind) for kind in _COMPRESSED},
    "torch.nested": _make_nested,
    "torch.jagged": _make_jagged,
    "torch.meta": _make_meta,
}
