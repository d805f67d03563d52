"""Torch beyond plain tensors, as something simpler, and back: `reduce_tensor` and `reduce`.

    torch.Parameter, torch.requires_grad        the tensor without it, of one of the layouts below
    (layouts)                                   as in `tensor_layouts` and `quantized`
    torch.UninitializedParameter, -Buffer       nothing but the parameter
    torch.subclass                              a class that can be flattened: its tensors and context
    torch.dtype, .device, .layout, .memory_format, .Size, .Generator

Gradients are taken off first, so that a layout has to know nothing of them. Values come back on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from casckpt import errors
from casckpt.state.checks import default_strides, expect, expect_counts, inconsistent, unknown
from casckpt.state.flat import DIMS_MAX
from casckpt.state.kinds import params, quantized, tensor_layouts, tensor_making
from casckpt.state.kinds.classes import class_name, find_class
from casckpt.state.kinds.opaque import Opaque
from casckpt.state.kinds.reduced import CannotReduce, ClassUnknown, IsDistributed, Make, Reduced
from casckpt.state.kinds.tensor_making import dtype_name, find_dtype, making

is_plain = tensor_making.is_plain

_TRUSTED = ("torch", "torchao")
"""Packages of which classes are given parts of a store to make a tensor of; others have to be registered."""
_STRANGE = ("torch.distributed.", "torch._subclasses.", "torch.nested.")
_UNINITIALIZED = {kind.__name__: kind for kind in (UninitializedParameter, UninitializedBuffer)}
_SUBCLASS = ("tensors", "context", "shape", "strides")
_LAYOUT_MAKERS = {**tensor_layouts.MAKERS, **quantized.MAKERS}


def reduce_tensor(tensor: Any) -> Reduced:
    """A tensor that is not plain as something simpler.

    Raises:
        CannotReduce: torch does not say what it consists of, or could not make it again.
        IsDistributed: other processes have the rest of it.
    """
    kind = type(tensor)
    _refuse_strange(kind)
    if kind in _UNINITIALIZED.values():
        look = {"dtype": dtype_name(tensor.dtype), "requires_grad": tensor.requires_grad}
        return Reduced(f"torch.{kind.__name__}", params.write(look), None)
    if tensor_making.is_traced(tensor):
        raise CannotReduce("it stands for other tensors, inside of a function that torch traces or differentiates")
    parameter = isinstance(tensor, torch.nn.Parameter)
    if parameter or tensor.requires_grad:
        return _reduce_gradient(tensor, parameter)
    if tensor.layout is not torch.jagged and tensor.dim() > DIMS_MAX:
        raise CannotReduce(f"it has more than {DIMS_MAX} dimensions")
    found = None
    if kind is torch.Tensor:
        found = (
            quantized.reduce(tensor) if tensor.is_quantized and not tensor.is_meta else tensor_layouts.reduce(tensor)
        )
    elif tensor.layout is torch.jagged and kind.__module__.startswith("torch.nested."):
        found = tensor_layouts.reduce(tensor)
    elif hasattr(kind, "__tensor_flatten__"):
        return _reduce_subclass(tensor)
    if found is None:
        raise CannotReduce(f"tensors of class {kind.__qualname__} and layout {tensor.layout} are not kept")
    try:
        # A tensor with wrong indices is better refused now than when it is read.
        _LAYOUT_MAKERS[found.kind](found.param, found.inner)
    except errors.CasckptError as error:
        raise CannotReduce(error.reason) from error
    return found


def reduce(value: Any) -> Reduced | None:
    """A dtype, device, size, layout, memory format or generator as something simpler; None for anything else.

    Raises:
        CannotReduce: this very one cannot be kept.
    """
    if isinstance(value, torch.dtype):
        return Reduced("torch.dtype", dtype_name(value), None)
    if type(value) is torch.Size:
        if any(type(size) is not int for size in value):
            raise CannotReduce("a size of it is a symbol, not a number")
        return Reduced("torch.Size", None, list(value))
    if isinstance(value, torch.device | torch.layout | torch.memory_format):
        kind = type(value).__name__
        return Reduced(f"torch.{kind}", str(value).removeprefix("torch."), None)
    if type(value) is torch.Generator:
        return Reduced("torch.Generator", str(value.device), value.get_state())
    return None


def _refuse_strange(kind: type) -> None:
    """Refuse what only stands for a tensor; told by names, so that nothing is imported that nobody else imported."""
    modules = [base.__module__ for base in kind.__mro__]
    if any(name.startswith("torch.distributed.") for name in modules):
        raise IsDistributed("other processes hold the rest of it")
    if any(name.startswith("torch._subclasses.") for name in modules):
        raise CannotReduce("it stands for another tensor while torch traces, and has no values")


def _reduce_gradient(tensor: Any, parameter: bool) -> Reduced:
    with making("a tensor"):
        inner = tensor.detach()
    if isinstance(inner, torch.nn.Parameter) or inner.requires_grad:
        raise CannotReduce("it cannot be detached from its gradient")
    if type(inner) is not type(tensor) and type(tensor) is not torch.nn.Parameter:
        raise CannotReduce(f"tensors of class {type(tensor).__qualname__} are not kept")
    if not parameter:
        return Reduced("torch.requires_grad", None, inner)
    return Reduced("torch.Parameter", params.write({"requires_grad": tensor.requires_grad}), inner)


def _make_requires_grad(param: str | None, inner: Any) -> Any:
    params.none(param, "a tensor with a gradient")
    _expect_exotic(inner)
    with making("a tensor with a gradient"):
        return inner.requires_grad_()


def _make_parameter(param: str | None, inner: Any) -> Any:
    fields = params.read_fields(param, ("requires_grad",), "a Parameter")
    requires_grad = expect(fields["requires_grad"], bool, "requires_grad")
    _expect_exotic(inner)
    with making("a Parameter"):
        return torch.nn.Parameter(inner, requires_grad=requires_grad)


def _expect_exotic(inner: Any) -> None:
    """Refuse what is not a tensor without a gradient of a layout or class of its own."""
    _expect_known(inner)
    if not isinstance(inner, torch.Tensor) or isinstance(inner, torch.nn.Parameter) or inner.requires_grad:
        raise inconsistent(f"a {type(inner).__name__} is to get a gradient")
    if type(inner) in _UNINITIALIZED.values() or is_plain(inner):
        raise inconsistent("a plain tensor is not stored so")


def _expect_known(inner: Any) -> None:
    """Refuse what is of a class that is not here: what it belongs to is not here either."""
    if isinstance(inner, Opaque):
        raise ClassUnknown(f"it is made of a {str(inner.param)[:80]}")


def _make_uninitialized(name: str) -> Make:
    def make(param: str | None, inner: Any) -> Any:
        expect(inner, type(None), f"the values of an {name}")
        fields = params.read_fields(param, ("dtype", "requires_grad"), f"an {name}")
        dtype, requires_grad = find_dtype(fields["dtype"]), expect(fields["requires_grad"], bool, "requires_grad")
        with making(f"an {name}"):
            return _UNINITIALIZED[name](requires_grad=requires_grad, device="cpu", dtype=dtype)

    return make


def _reduce_subclass(tensor: Any) -> Reduced:
    kind = type(tensor)
    name = class_name(kind)
    if not _is_trusted(kind):
        raise CannotReduce(f"the class {name} is neither registered nor one of torch or torchao")
    names, context = tensor.__tensor_flatten__()
    inner = {one: getattr(tensor, one) for one in names}
    if not all(type(one) is str and isinstance(part, torch.Tensor) for one, part in inner.items()):
        raise CannotReduce(f"what {kind.__qualname__} is flattened to are not tensors alone")
    parts = inner, context, list(tensor.shape), list(tensor.stride())
    return Reduced("torch.subclass", name, dict(zip(_SUBCLASS, parts, strict=True)))


def _make_subclass(param: str | None, inner: Any) -> Any:
    kind: Any = find_class(param)
    if not _is_trusted(kind) or class_name(kind) != param:
        raise ClassUnknown(f"{str(param)[:80]} is no class of torch or torchao that makes tensors of others")
    if type(inner) is not dict or tuple(inner) != _SUBCLASS:
        raise inconsistent(f"a tensor does not have the parts {', '.join(_SUBCLASS)}")
    tensors, context, *look = inner.values()
    for part in tensors.values() if type(tensors) is dict else ():
        _expect_known(part)
    shape, strides = (expect_counts(part, "the shape of a tensor") for part in look)
    if type(tensors) is not dict or not all(isinstance(part, torch.Tensor) for part in tensors.values()):
        raise inconsistent("the parts of a tensor are not tensors")
    try:
        found = kind.__tensor_unflatten__(tensors, context, torch.Size(shape), strides)
    except Exception as error:  # the code of the class, given what anybody may have written
        raise inconsistent(f"{str(param)[:80]} refuses its parts: {type(error).__name__}") from error
    if type(found) is not kind or tuple(found.shape) != shape:
        raise inconsistent(f"{str(param)[:80]} makes something else of its parts")
    return found


def _is_trusted(kind: type) -> bool:
    """Whether a class can make a tensor of parts that anybody may have written."""
    known = kind.__module__.partition(".")[0] in _TRUSTED and not kind.__module__.startswith(_STRANGE)
    return known and issubclass(kind, torch.Tensor) and hasattr(kind, "__tensor_unflatten__")


def _make_dtype(param: str | None, inner: Any) -> Any:
    expect(inner, type(None), "the rest of a dtype")
    return find_dtype(param)


def _make_device(param: str | None, inner: Any) -> Any:
    expect(inner, type(None), "the rest of a device")
    return _device(param)


def _device(name: Any) -> Any:
    try:
        found = torch.device(expect(name, str, "a device"))
    except (RuntimeError, ValueError) as error:
        raise unknown(f"device {name[:40]!r}") from error
    if str(found) != name:
        raise inconsistent(f"device {name[:40]!r} is not in canonical form")
    return found


def _constant(kind: type) -> Make:
    def make(param: str | None, inner: Any) -> Any:
        expect(inner, type(None), f"the rest of a {kind.__name__}")
        found = vars(torch).get(param)
        if not isinstance(found, kind) or str(found) != f"torch.{param}":
            raise unknown(f"torch {kind.__name__} {str(param)[:40]!r}")
        return found

    return make


def _make_size(param: str | None, inner: Any) -> Any:
    params.none(param, "a Size")
    return torch.Size(expect_counts(inner, "a Size"))


def _make_generator(param: str | None, inner: Any) -> Any:
    device = _device(param)
    state = tensor_making.expect_plain(inner, "the state of a generator", torch.uint8)
    try:
        found = torch.Generator(device)
    except RuntimeError as error:
        raise unknown(f"a generator of the device {param}, which is not here") from error
    if state.shape != found.get_state().shape or state.stride() != default_strides(state.shape):
        raise inconsistent(f"the state of a generator has the shape {tuple(state.shape)}")
    with making("the state of a generator"):
        found.set_state(state.clone())
    return found


MAKERS: dict[str, Make] = {
    **_LAYOUT_MAKERS,
    "torch.requires_grad": _make_requires_grad,
    "torch.Parameter": _make_parameter,
    **{f"torch.{name}": _make_uninitialized(name) for name in _UNINITIALIZED},
    "torch.subclass": _make_subclass,
    "torch.dtype": _make_dtype,
    "torch.device": _make_device,
    "torch.layout": _constant(torch.layout),
    "torch.memory_format": _constant(torch.memory_format),
    "torch.Size": _make_size,
    "torch.Generator": _make_generator,
}
