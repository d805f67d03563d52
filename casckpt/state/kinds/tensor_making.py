"""What all that makes tensors again has in common: which are plain, names of dtypes, silence and refusals."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from casckpt.state.checks import inconsistent, unknown

_NOISE = (
    "Sparse .* tensor support is in beta state",
    "The PyTorch API of nested tensors is in prototype stage",
    "torch.quantize_per_tensor, torch.quantize_per_channel and other quantized tensor creation functions",
    "ComplexHalf support is experimental",
)
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, OverflowError, NotImplementedError, AssertionError)


def is_plain(tensor: Any) -> bool:
    """Whether a tensor is exactly a Tensor or Parameter that has its values in strided memory, resolved or lazy."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided:
        return False
    if tensor.is_nested or tensor.is_quantized or tensor.is_meta:
        return False
    return not is_traced(tensor)


def is_traced(tensor: Any) -> bool:
    """Whether a tensor stands for others while torch traces or differentiates; torch calls it a Tensor all the same."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped or torch._is_functional_tensor(tensor) or tensor._is_zerotensor()


@contextlib.contextmanager
def making(what: str) -> Iterator[None]:
    """Silence what torch says of layouts that it still works on, and turn its refusals into ours."""
    with warnings.catch_warnings():
        for text in _NOISE:
            warnings.filterwarnings("ignore", text)
        try:
            yield
        except _REFUSALS as error:
            raise inconsistent(f"{what}: {str(error).partition(chr(10))[0][:200]}") from error


def expect_plain(value: Any, what: str, *dtypes: Any) -> Any:
    """`value` if it is a plain tensor of one of these dtypes (of any if none is named) and without a gradient."""
    if not isinstance(value, torch.Tensor) or type(value) is not torch.Tensor or not is_plain(value):
        raise inconsistent(f"{what} is a {type(value).__name__}, not a plain tensor")
    if value.requires_grad or (dtypes and value.dtype not in dtypes):
        raise inconsistent(f"{what} is a tensor of {value.dtype}{' with a gradient' if value.requires_grad else ''}")
    return value


def dtype_name(dtype: Any) -> str:
    """A dtype without `torch.`: float32."""
    return str(dtype).removeprefix("torch.")


def find_dtype(name: object) -> Any:
    """The dtype of a name, quantized ones too; hostile input."""
    dtype = _dtypes().get(name) if isinstance(name, str) else None
    if dtype is None:
        raise unknown(f"torch dtype {str(name)[:40]!r}")
    return dtype


@functools.cache
def _dtypes() -> dict[str, Any]:
    return {dtype_name(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
