"""numpy arrays and scalars as nodes, and back."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from casckpt import errors
from casckpt.state.checks import check_extent, check_size, default_strides, inconsistent, unknown
from casckpt.state.flat import ELEMENTS
from casckpt.state.leaves import CPU, View, reach
from casckpt.state.nodes import ArrayNode
from casckpt.state.paths import shown
from casckpt.state.values import Scalar, type_name

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPE = re.compile(r"[<>|][biufcSUmMV][0-9]{1,10}(\[[0-9]*[A-Za-z]{1,7}\])?").fullmatch
_FLOATS = {"f2", "f4", "f8", "c8", "c16"}
"""The others (f12, f16, c24, c32) mean something else on every platform."""


def describe(array: Array, path: str, part: int) -> tuple[list[Any], View | None]:
    """The node of an array, its blob and offset left open, and its memory; None if it has no bytes.

    Raises:
        UnsupportedType: a subclass, or a dtype that is not kept.
    """
    if type(array) is not np.ndarray:
        problem = "subclasses of arrays are not kept"
        raise errors.UnsupportedType(path=shown(path), type=type_name(type(array)), problem=problem)
    problem, element = _dtype_rules(array.dtype)
    if problem:
        raise errors.UnsupportedType(path=shown(path), type=f"numpy.ndarray of {array.dtype}", problem=problem)
    flags = array.flags
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    node = ["array", array.dtype.str, list(array.shape), order, None, 0]
    if array.nbytes == 0:
        return node, None
    address: int = array.__array_interface__["data"][0]
    low, high, gappy = reach(array.shape, array.strides, array.itemsize)
    view = View(
        *(part, path, node, element, array, CPU, address, array.shape, array.strides, array.itemsize),
        tensor=False,
        lazy=False,
        low=address + low,
        high=address + high,
        gappy=gappy,
    )
    return node, view


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


def describe_scalar(scalar: np.generic, path: str) -> list[object]:
    """The value entry of a numpy scalar."""
    kind, dtype = type(scalar), scalar.dtype
    problem, _ = _dtype_rules(dtype)
    if kind is not dtype.type:
        problem = "subclasses of numpy scalars are not kept"
    if problem:
        raise errors.UnsupportedType(path=shown(path), type=type_name(kind), problem=problem)
    if isinstance(scalar, np.str_):  # tobytes() of these two says less or more than the characters they hold
        return ["scalar", dtype.str, scalar.encode("utf-32-le", "surrogatepass")]
    return ["scalar", dtype.str, bytes(scalar) if isinstance(scalar, np.bytes_) else scalar.tobytes()]


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
