"""The header of a .npy file: dtype, order, shape, and where the bytes are. Versions 1 to 3.

    \\x93NUMPY | major u8 | minor u8 | length u16 (version 1) or u32 | text of a dict, padded | data

The text is Python's: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`. It is taken apart by
`ast.literal_eval`, but only after it was seen to be short, flat, and free of every operator.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from casckpt.foreign.reader import Reader, exactly, malformed

HEADER_MAX = 10_000
"""Longest header that numpy reads without being told to."""

KIND = "npy"
MAGIC = b"\x93NUMPY"
_DIMS_MAX = 64
_SIZE_MAX = 1 << 63
_NESTED_MAX = 16
_WORDS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_PLAIN = re.compile(r"[\s\w,:()\[\]{}]*", re.ASCII)
_DESCR = re.compile(r"([<>|=]?)([biufcmMSUV])(\d{1,9})(\[[\w/]*\])?", re.ASCII)
_NAMES = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}


@dataclass(frozen=True, slots=True)
class Array:
    """One array: its bytes are [offset, offset + nbytes) of the file.

    Args:
        descr: the dtype as numpy writes it: a text, or for a structured one a list of fields. Never one of objects.
        order: C for row-major, F for column-major.
    """

    descr: Any
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    offset: int
    nbytes: int

    @property
    def element(self) -> str:
        """Its element type in the store; `bytes` for what it has no word for, such as big-endian numbers."""
        found = _DESCR.fullmatch(self.descr) if type(self.descr) is str else None
        if found is None or found[1] == ">":
            return "bytes"
        if found[2] in "mM":
            return "int64"
        name, width = _NAMES.get(found[2], ""), int(found[3])
        if name == "bool":
            return "bool"
        known = {"int": (1, 2, 4, 8), "uint": (1, 2, 4, 8), "float": (2, 4, 8), "complex": (8, 16)}
        return f"{name}{width * 8}" if width in known.get(name, ()) else "bytes"


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with these bytes (6 or more) may be a .npy."""
    return head.startswith(MAGIC)


def read_header(reader: Reader) -> Array:
    """The header of a file, checked as a whole; no data is read.

    Raises:
        MalformedFile: the file breaks a rule of the format, is cut short, or holds Python objects, which are pickle.
    """
    head = exactly(reader, 0, len(MAGIC) + 2, KIND)
    version = head[len(MAGIC) :]
    if not head.startswith(MAGIC) or version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise malformed(reader, KIND, "it does not begin with the magic of version 1, 2 or 3")
    width = 2 if version == b"\1\0" else 4
    length = int.from_bytes(exactly(reader, len(head), width, KIND), "little")
    if length > HEADER_MAX:
        raise malformed(reader, KIND, f"its header has {length} bytes, at most {HEADER_MAX} are read")
    start = len(head) + width
    fields = _fields(reader, exactly(reader, start, length, KIND), "utf-8" if version == b"\3\0" else "latin-1")
    if set(fields) != {"descr", "fortran_order", "shape"} or type(fields["fortran_order"]) is not bool:
        raise malformed(reader, KIND, "its header has other fields than descr, fortran_order and shape")
    shape = fields["shape"]
    if not _is_shape(shape):
        raise malformed(reader, KIND, "its shape is not a tuple of at most 64 numbers")
    nbytes = _times(_item_bytes(fields["descr"]), shape)
    if nbytes is None:
        raise malformed(reader, KIND, "its dtype is unknown, or one of Python objects")
    offset = start + length
    if nbytes > reader.size - offset:
        raise malformed(reader, KIND, f"its data needs {nbytes} bytes, the file has {reader.size - offset}")
    return Array(fields["descr"], shape, "F" if fields["fortran_order"] else "C", offset, nbytes)


def _item_bytes(descr: Any) -> int | None:
    """Bytes of one item of a dtype as numpy writes it; None for one that is unknown or holds objects."""
    if type(descr) is str:
        found = _DESCR.fullmatch(descr)
        return int(found[3]) * (4 if found[2] == "U" else 1) if found else None
    if type(descr) is tuple and len(descr) == 2 and _is_shape(descr[1]):  # a dtype of subarrays
        return _times(_item_bytes(descr[0]), descr[1])
    if type(descr) is not list:
        return None
    total = 0
    for field in descr:
        if type(field) is not tuple or len(field) not in (2, 3) or not _is_shape(field[2] if len(field) > 2 else ()):
            return None
        one = _times(_item_bytes(field[1]), field[2] if len(field) > 2 else ())
        if one is None:
            return None
        total += one
    return total


def _times(one: int | None, shape: tuple[int, ...]) -> int | None:
    return None if one is None else one * math.prod(shape)


def _is_shape(value: Any) -> bool:
    return (
        type(value) is tuple
        and len(value) <= _DIMS_MAX
        and all(type(size) is int and 0 <= size < _SIZE_MAX for size in value)
    )


def _fields(reader: Reader, raw: bytes, encoding: str) -> dict[Any, Any]:
    """The dict of a header. Literals only: what lies outside of quotes has no operator and no deep nesting."""
    try:
        text = raw.decode(encoding)
        bare = _WORDS.sub("", text)
        if _PLAIN.fullmatch(bare) and _depth(bare) <= _NESTED_MAX:
            found = ast.literal_eval(text)
            if type(found) is dict:
                return found
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise malformed(reader, KIND, "its header is no dict of literals") from error
    raise malformed(reader, KIND, "its header is no dict of literals")


def _depth(text: str) -> int:
    deepest = depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
