"""Checks of a structure that somebody else wrote; nothing is made before they pass.

Two verdicts: `unknown` for what a newer release may know, `inconsistent` for what no release would write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from casckpt import errors
from casckpt.state.flat import DIMS_MAX

_LIMIT = 1 << 63
_SUBJECT = "the state's structure"


def unknown(problem: str) -> errors.FormatError:
    """The error for an encoding this release does not know."""
    return errors.FormatError(object=_SUBJECT, problem=problem)


def inconsistent(problem: str) -> errors.IntegrityError:
    """The error for a structure that contradicts itself."""
    return errors.IntegrityError(object=_SUBJECT, problem=problem)


def expect(value: Any, kind: type, what: str) -> Any:
    """`value` if its type is exactly `kind`."""
    if type(value) is not kind:
        raise inconsistent(f"{what} is {type(value).__name__}, not {kind.__name__}")
    return value


def expect_count(value: Any, what: str) -> int:
    """`value` if it is an int of 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value < _LIMIT:
        raise inconsistent(f"{what} is {_shown(value)}, not a count")
    return value


def expect_counts(values: Any, what: str) -> tuple[int, ...]:
    """`values`, a list of at most `DIMS_MAX` counts, as a tuple."""
    if type(values) is not list or len(values) > DIMS_MAX:
        raise inconsistent(f"{what} is not a list of at most {DIMS_MAX} counts")
    for value in values:
        if type(value) is not int or not 0 <= value < _LIMIT:
            raise inconsistent(f"{what} holds {_shown(value)}")
    return tuple(values)


def parsed(parse: Callable[[Any], Any], given: Any) -> Any:
    """What a constructor makes of a stored value, which it may not like."""
    try:
        return parse(given)
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise inconsistent(f"{given!r:.60} is not a value of its type: {error}") from error


def check_size(shape: Sequence[int], itemsize: int) -> int:
    """Bytes of an array of `shape`; what does not fit 63 bits, zero dimensions left out, is refused as numpy does."""
    if math.prod(size for size in shape if size) * max(itemsize, 1) >= _LIMIT:
        raise inconsistent(f"an array of shape {list(shape)} is too large")
    return math.prod(shape) * itemsize


def check_extent(shape: Sequence[int], strides: Sequence[int], offset: int, itemsize: int, nbytes: int) -> None:
    """Refuse an array of which a byte would lie outside its blob.

    Args:
        shape: sizes, all > 0.
        strides: bytes per step, one per dimension, may be negative.
        offset: of the first element from the blob's start, in bytes.
        itemsize: bytes of one element.
        nbytes: length of the blob.
    """
    if len(shape) != len(strides):
        raise inconsistent(f"{len(strides)} strides for {len(shape)} dimensions")
    low = high = offset
    for size, stride in zip(shape, strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    if low < 0 or high + itemsize > nbytes:
        raise inconsistent(f"an array reaches from byte {low} to {high + itemsize} of a blob of {nbytes} bytes")


def default_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a C-contiguous array, as torch gives them (a zero size counts as one)."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * max(shape[axis], 1)
    return tuple(strides)


def _shown(value: Any) -> str:
    return str(value) if type(value) is int and value.bit_length() < 100 else type(value).__name__
