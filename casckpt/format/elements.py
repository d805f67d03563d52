"""Element types: what the words of a chunk are, for grouping and for codecs. The code is stored in records.

An element type is a hint about bytes, never part of an id: unknown codes read as opaque bytes of width 1.
"""

from __future__ import annotations

ELEMENTS: tuple[tuple[str, int], ...] = (
    ("bytes", 1),
    ("bool", 1),
    ("uint8", 1),
    ("int8", 1),
    ("uint16", 2),
    ("int16", 2),
    ("uint32", 4),
    ("int32", 4),
    ("uint64", 8),
    ("int64", 8),
    ("float16", 2),
    ("bfloat16", 2),
    ("float32", 4),
    ("float64", 8),
    ("complex64", 8),
    ("complex128", 16),
    ("complex32", 4),
    ("float8_e4m3fn", 1),
    ("float8_e5m2", 1),
    ("float8_e4m3fnuz", 1),
    ("float8_e5m2fnuz", 1),
    ("float8_e8m0fnu", 1),
)
"""(name, width in bytes) by code; codes are never reused."""

_CODES = {name: code for code, (name, _) in enumerate(ELEMENTS)}
_WORDS = {1: 1, 2: 2, 4: 4, 8: 8, 16: 8}


def element_code(name: str) -> int:
    """The code of an element type; 0 (opaque bytes) for a name that has none."""
    return _CODES.get(name, 0)


def element_name(code: int) -> str:
    """The name of an element type, `bytes` for an unknown code."""
    return ELEMENTS[code][0] if code < len(ELEMENTS) else "bytes"


def element_bytes(code: int) -> int:
    """Width of one element in bytes; 1 for an unknown code."""
    return ELEMENTS[code][1] if code < len(ELEMENTS) else 1


def word_bytes(code: int) -> int:
    """Width in bytes of the words that plane and delta codecs see: 1, 2, 4 or 8 (complex128 as two halves)."""
    return _WORDS[ELEMENTS[code][1]] if code < len(ELEMENTS) else 1
