"""Elements of every numeric type as float64, so that they can be measured.

What numpy knows is read as it is. bfloat16 is the upper half of a float32, float8_e5m2 that of a float16; the other
types of 8 bits are looked up in a table of their 256 values. A complex number is two floats, one after the other.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_Data = bytes | bytearray | memoryview
_Array = np.ndarray[Any, np.dtype[Any]]

_NUMPY = re.compile(r"[<>|]([biufc])(1|2|4|8|16)").fullmatch
_PLAIN = {
    "bool": "|b1", "uint8": "|u1", "int8": "|i1", "uint16": "<u2", "int16": "<i2", "uint32": "<u4", "int32": "<i4",
    "uint64": "<u8", "int64": "<i8", "float16": "<f2", "float32": "<f4", "float64": "<f8", "complex64": "<c8",
    "complex128": "<c16",
}  # fmt: skip
_FLOAT8 = {"float8_e4m3fn": (4, 7), "float8_e4m3fnuz": (4, 8), "float8_e5m2fnuz": (5, 16)}
"""Bits of the exponent and its bias."""


@dataclass(frozen=True, slots=True)
class Elements:
    """A numeric type: how many bytes an element has, of how many numbers it consists, how they are read.

    Args:
        name: as it was asked for.
        itemsize: bytes of an element.
        parts: 2 for complex types, else 1.
        form: dtype of one number as numpy reads it from the bytes; bfloat16 and types of 8 bits come as integers.
    """

    name: str
    itemsize: int
    parts: int
    form: str

    @property
    def is_exact(self) -> bool:
        """Whether all its values are finite."""
        return self.name in _PLAIN and self.form[1] in "biu"

    def read(self, data: _Data) -> _Array:
        """Numbers in a type that holds them exactly: not widened yet, so that large integers compare by all bits.

        Args:
            data: whole elements.
        """
        raw = np.frombuffer(data, self.form)
        if self.name == "bfloat16":
            return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if self.name == "float8_e5m2":
            return (raw.astype(np.uint16) << np.uint16(8)).view(np.float16)
        if self.name in _FLOAT8 or self.name == "float8_e8m0fnu":
            return np.take(_table(self.name), raw)
        # A bool of another byte than 0 and 1 is true, as it is for numpy and torch.
        return raw.view(np.uint8) != 0 if self.form == "|b1" else raw


@functools.cache
def elements(name: str) -> Elements | None:
    """The numeric type of an element type name or of a dtype's text; None if it is none that can be measured."""
    name = name.removeprefix("ml_dtypes.")
    if name == "bfloat16":
        return Elements(name, 2, 1, "<u2")
    if name == "complex32":
        return Elements(name, 4, 2, "<f2")
    if name in _FLOAT8 or name in ("float8_e5m2", "float8_e8m0fnu"):
        return Elements(name, 1, 1, "|u1")
    text = _PLAIN.get(name, name)
    found = _NUMPY(text)
    if found is None:
        return None
    kind, width = found[1], int(found[2])
    try:
        native = np.dtype(text)
    except TypeError:
        return None
    if native.str != text or (kind == "f" and width > 8):
        return None
    form = f"{text[0]}f{width // 2}" if kind == "c" else text
    plain = next(key for key, value in _PLAIN.items() if value[1:] == text[1:])
    return Elements(plain, width, 2 if kind == "c" else 1, form)


@functools.cache
def _table(name: str) -> _Array:
    """The values of a type of 8 bits by its bytes."""
    if name == "float8_e8m0fnu":
        return np.array([*(math.ldexp(1.0, byte - 127) for byte in range(255)), math.nan])
    exponent_bits, bias = _FLOAT8[name]
    mantissa_bits = 7 - exponent_bits
    values = []
    for byte in range(128):
        exponent, mantissa = byte >> mantissa_bits, byte & ((1 << mantissa_bits) - 1)
        # Without the leading one, the smallest numbers have the exponent of the next larger ones.
        whole = mantissa + (1 << mantissa_bits if exponent else 0)
        values.append(math.ldexp(whole, max(exponent, 1) - bias - mantissa_bits))
    negative = [-value for value in values]
    if name.endswith("uz"):
        negative[0] = math.nan
    else:
        values[127] = negative[127] = math.nan
    return np.array(values + negative)
