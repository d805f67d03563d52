"""numpy arrays and scalars as nodes, and back."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import numpy as np

from casckpt.state.checks import check_extent, check_size, default_strides, inconsistent, unknown
from casckpt.state.flat import ELEMENTS
from casckpt.state.leaves import Form, reach
from casckpt.state.nodes import ArrayNode
from casckpt.state.values import Scalar

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPE = re.compile(r"[<>|][biufcSUmMV][0-9]{1,10}(\[[0-9]*[A-Za-z]{1,7}\])?").fullmatch
_FLOATS = {"f2", "f4", "f8", "c8", "c16"}
"""The others (f12, f16, c24, c32) mean something else on every platform."""


def form(array: Array) -> Form:
    """What an array looks like; its `problem` says why it is not kept, if it is not."""
    flags = array.flags
    return _form(array.dtype, array.shape, array.strides, flags.c_contiguous, flags.f_contiguous)


def address(array: Array) -> int:
    """Where its first element lies."""
    found: int = array.__array_interface__["data"][0]
    return found


def restore(node: ArrayNode, memory: memoryview | None) -> Array:
    """The array of a node, on the blob's memory (not copied); hostile input.

    Args:
        node: checked by `check` before.
        memory: the whole blob, writable; None if the node has no blob.
    """
    dtype = _parse_dtype(node.dtype)
    if memory is None:
        return np.ndarray(node.shape, dtype, order=node.order)
    if node.strides is None:
        return np.ndarray(node.shape, dtype, memory, node.offset, order=node.order)
    return np.ndarray(node.shape, dtype, memory, node.offset, node.strides)


def check(node: ArrayNode, nbytes: int) -> None:
    """Refuse a node of unknown dtype, or one that does not fit its blob of `nbytes` bytes (0 without a blob)."""
    dtype = _parse_dtype(node.dtype)
    size = check_size(node.shape, dtype.itemsize)
    if node.blob is None or size == 0:
        if node.blob is not None or size or node.offset or node.strides is not None:
            raise inconsistent(f"an array of {size} bytes {'without' if node.blob is None else 'with'} a blob")
        return
    strides = node.strides
    if strides is None:
        shape = node.shape if node.order == "C" else node.shape[::-1]
        strides = tuple(step * dtype.itemsize for step in default_strides(shape))
        strides = strides if node.order == "C" else strides[::-1]
    check_extent(node.shape, strides, node.offset, dtype.itemsize, nbytes)


def describe_scalar(scalar: np.generic) -> tuple[list[object], str]:
    """The value entry of a numpy scalar, and why it is not kept ("" if it is)."""
    dtype = scalar.dtype
    problem, _ = _dtype_rules(dtype)
    if type(scalar) is not dtype.type:
        problem = "subclasses of numpy scalars are not kept"
    if problem:
        return [], problem
    if isinstance(scalar, np.str_):  # tobytes() of these two says less or more than the characters they hold
        return ["scalar", dtype.str, scalar.encode("utf-32-le", "surrogatepass")], ""
    return ["scalar", dtype.str, bytes(scalar) if isinstance(scalar, np.bytes_) else scalar.tobytes()], ""


def restore_scalar(stored: Scalar) -> np.generic:
    """The numpy scalar of a value entry; hostile input."""
    dtype = _parse_dtype(stored.dtype)
    if dtype.itemsize != len(stored.data):
        raise inconsistent(f"a scalar of dtype {stored.dtype} has {len(stored.data)} bytes")
    if dtype.kind == "U":
        try:
            return np.str_(stored.data.decode("utf-32-le", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise inconsistent("a scalar string is not UTF-32") from error
    if dtype.kind == "S":
        return np.bytes_(stored.data)
    if dtype.kind == "V":
        return np.void(stored.data)
    scalar: np.generic = np.frombuffer(stored.data, dtype)[0]
    return scalar


def is_scalar(live: Any, stored: Scalar) -> bool:
    """Whether a live value is a stored numpy scalar, to the bit."""
    return isinstance(live, np.generic) and describe_scalar(live)[0] == ["scalar", stored.dtype, stored.data]


@functools.lru_cache(maxsize=4096)  # states have thousands of arrays and dozens of forms
def _form(dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...], rows: bool, columns: bool) -> Form:
    problem, element = _dtype_rules(dtype)
    if problem:
        return Form(problem, dtype=str(dtype))
    itemsize = dtype.itemsize
    low = high = 0
    gappy = False
    if math.prod(shape) * itemsize:
        low, high, gappy = reach(shape, strides, itemsize)
    return Form(
        *("", False, dtype.str, element, itemsize, shape, strides),
        order="F" if columns and not rows else "C",
        contiguous=rows or columns,
        low=low,
        high=high,
        gappy=gappy,
    )


@functools.lru_cache(maxsize=256)
def _dtype_rules(dtype: np.dtype[Any]) -> tuple[str, str]:
    """Why a dtype is not kept ("" if it is), and its element type."""
    if dtype.hasobject or dtype.kind not in "biufcSUmMV" or dtype.names is not None:
        return "object, structured and variable-width dtypes are not kept", ""
    if dtype.kind in "fc" and f"{dtype.kind}{dtype.itemsize}" not in _FLOATS:
        return "long doubles differ between platforms", ""
    if np.dtype(dtype.str) != dtype:
        return "dtypes of other libraries are not kept", ""
    name = "int64" if dtype.kind in "mM" else dtype.name
    return "", name if name in ELEMENTS and dtype.byteorder != ">" else "bytes"


@functools.lru_cache(maxsize=256)
def _parse_dtype(text: str) -> np.dtype[Any]:
    problem = "not a dtype"
    if _DTYPE(text):
        try:
            dtype = np.dtype(text)
            problem, _ = _dtype_rules(dtype)
        except (TypeError, ValueError, OverflowError) as error:
            problem = str(error)
        else:
            if not problem and dtype.str == text:
                return dtype
    raise unknown(f"numpy dtype {text[:40]!r}: {problem or 'not in canonical form'}")


def place(array: Array) -> memoryview | None:
    """The memory of an array, writable, if its elements lie there one after the other in C or F order; else None."""
    if type(array) is not np.ndarray or not array.flags.writeable or array.size == 0:
        return None
    flat = array if array.flags.c_contiguous else array.T
    if not flat.flags.c_contiguous:
        return None
    memory: memoryview = flat.reshape(-1).view(np.uint8).data
    return memory


def difference(live: Any, node: ArrayNode) -> str:
    """What keeps a stored array from being put into a live value; "" if nothing does."""
    if not isinstance(live, np.ndarray):
        return f"an array is stored, here is a {type(live).__name__}"
    if (live.dtype.str, live.shape) != (node.dtype, node.shape):
        return f"{node.dtype} of shape {node.shape} is stored, here is {live.dtype.str} of shape {live.shape}"
    return "" if live.flags.writeable else "the array here is read-only"


def is_ordered(live: Array, order: str) -> bool:
    """Whether an array's elements lie in the order of a stored one."""
    return bool(live.flags.c_contiguous if order == "C" else live.flags.f_contiguous)


def plain_bytes(node: ArrayNode) -> int:
    """Bytes of the elements of a stored array."""
    return math.prod(node.shape) * _parse_dtype(node.dtype).itemsize


def item_bytes(dtype: str) -> int:
    """Bytes of one element of a stored array; hostile input."""
    return _parse_dtype(dtype).itemsize


def number_name(dtype: str) -> str:
    """The element type of the little-endian numbers of a stored array; `bytes` for every other dtype."""
    found = _parse_dtype(dtype)
    return _dtype_rules(found)[1] if found.kind not in "mM" else "bytes"


def dtype_named(element: str) -> str | None:
    """The dtype of numpy for an element type, as it is stored; None if numpy has none."""
    return np.dtype(element).str if element in _NUMBERS else None


_NUMBERS = frozenset(
    (
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)
