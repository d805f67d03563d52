"""Whether the floats of a chunk are all finite, from their bits.

Infinities and NaNs have the highest patterns of their sign. Read as signed words the positive ones are the largest of
all, read as unsigned words the negative ones are; so two reductions without temporaries decide, each at the speed
of memory. The 8-bit "fnuz" types have no infinities, and their one NaN is where negative zero would be.

What a scan found is kept in the flags of the chunk's record, with the element type it was scanned as. So a chunk that
is known already need not be scanned again, unless it is now taken for another kind of floats: the same bytes may be
finite as one and NaN as the other.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from casckpt.format.elements import element_code

_Data = bytes | bytearray | memoryview

UNSCANNED, FINITE, NON_FINITE = 0, 1, 2
"""Flags of a record: what a scan of the chunk's floats found."""

_HALF, _SINGLE, _DOUBLE = (2, 0x7C00, 0xFC00), (4, 0x7F80_0000, 0xFF80_0000), (8, 0x7FF0 << 48, 0xFFF0 << 48)
_NEVER = 1 << 7
_FIRST_NOT_FINITE = {
    "float16": _HALF,
    "complex32": _HALF,
    "bfloat16": (2, 0x7F80, 0xFF80),
    "float32": _SINGLE,
    "complex64": _SINGLE,
    "float64": _DOUBLE,
    "complex128": _DOUBLE,
    "float8_e4m3fn": (1, 0x7F, 0xFF),
    "float8_e5m2": (1, 0x7C, 0xFC),
    "float8_e8m0fnu": (1, _NEVER, 0xFF),
}
"""By element type: width of a float in bytes, the lowest pattern not finite of each sign."""
_LIMITS = {element_code(name): limit for name, limit in _FIRST_NOT_FINITE.items()}
_NEGATIVE_ZERO_IS_NAN = (element_code("float8_e4m3fnuz"), element_code("float8_e5m2fnuz"))


class Scan(NamedTuple):
    """What a record says of its chunk: the element type it was scanned as, and the flags."""

    element: int
    flags: int


@cache
def scan_of(element: int, flags: int) -> Scan:
    """The scan of a record; one object for all that say the same, since a session remembers many."""
    return Scan(element, flags)


UNKNOWN = scan_of(0, UNSCANNED)


def is_float(element: int) -> bool:
    """Whether an element type is one of floats, real or complex: only these can hold NaN and infinities."""
    return element in _LIMITS or element in _NEGATIVE_ZERO_IS_NAN


def is_sound(data: _Data, element: int, known: Scan = UNKNOWN) -> bool:
    """Whether a chunk holds no float that is infinite or NaN: by an earlier scan that tells, else by one of its bytes.

    What is none of floats is sound.

    Args:
        data, element: as of `is_finite`; the data is read only if the scan does not tell.
    """
    if known.flags in (FINITE, NON_FINITE) and (known.element == element or _is_alike(known.element, element)):
        return known.flags == FINITE or not is_float(element)
    return is_finite(data, element) is not False


def _is_alike(one: int, other: int) -> bool:
    """Whether bytes that are finite as one element type are finite as the other, and the reverse."""
    return one in _LIMITS and _LIMITS[one] == _LIMITS.get(other)


def is_finite(data: _Data, element: int) -> bool | None:
    """Whether no float of a chunk is infinite or NaN; None if its element type is none of floats.

    Args:
        data: contiguous bytes; those behind the last whole float do not count.
        element: element type code.

    Cost: two reads of the data, faster if it starts on a multiple of the float's width.
    """
    if element in _NEGATIVE_ZERO_IS_NAN:
        return not len(data) or int(np.frombuffer(data, np.int8).min()) != -0x80
    if element not in _LIMITS:
        return None
    width, positive, negative = _LIMITS[element]
    count = len(data) // width
    if count == 0:
        return True
    signed, unsigned = np.frombuffer(data, f"<i{width}", count), np.frombuffer(data, f"<u{width}", count)
    return int(signed.max()) < positive and int(unsigned.max()) < negative
