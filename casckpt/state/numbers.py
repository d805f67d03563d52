"""Long lists of plain numbers as packed little-endian columns: metric histories append to them cheaply."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable
from typing import Any

from casckpt.state.checks import inconsistent

_CODES = {"int64": "q", "float64": "d"}


def pack_numbers(numbers: list[Any]) -> tuple[str, bytes] | None:
    """Element type and column of a list whose members are all exactly int of 64 bits, or float, or bool; else None."""
    kinds = set(map(type, numbers))
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is bool:
        return "bool", bytes(numbers)
    if kind is not int and kind is not float:
        return None
    element = f"{kind.__name__}64"
    try:
        column = array.array(_CODES[element], numbers)
    except OverflowError:
        return None
    if sys.byteorder == "big":
        column.byteswap()
    return element, column.tobytes()


def unpack_numbers(element: str, count: int, nbytes: int, memory: Callable[[], memoryview]) -> list[Any]:
    """The list of a column of `nbytes` bytes; hostile input, refused before `memory` is called if it does not fit."""
    if count * (1 if element == "bool" else 8) != nbytes:
        raise inconsistent(f"{count} numbers of {element} in a blob of {nbytes} bytes")
    data = memory()
    if element == "bool":
        if bytes(data).strip(b"\x00\x01"):
            raise inconsistent("a bool that is neither 0 nor 1")
        return [byte == 1 for byte in data]
    column = array.array(_CODES[element])
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tolist()
