"""Keys and small values as entries that msgpack keeps exactly: native ones as they are, others as `[tag, ...]`.

    key     ["t", [keys]] tuple    ["s", bytes] str with lone surrogates    ["i", bytes] int beyond 64 bits
    value   ["int", bytes]  ["str", bytes]  ["bytearray", bytes]  ["complex", re, im]  ["scalar", dtype, bytes] numpy

Big ints are two's complement, little-endian, of the least length; text is UTF-8 with surrogates passed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from casckpt import errors
from casckpt.state.checks import expect, inconsistent, unknown
from casckpt.state.flat import DEPTH_MAX

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_NATIVE = (type(None), bool, float, bytes)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A numpy scalar as it is stored; `arrays.restore_scalar` makes it one."""

    dtype: str
    data: bytes


def encode_key(key: object, path: str, depth: int) -> object:
    """The entry of a dict key.

    Args:
        key: of a supported type.
        path: canonical path of the dict, for errors.
        depth: containers around the key.

    Raises:
        UnsupportedKey: the type (exactly) is not one that keys may have.
        StateTooDeep: tuples inside tuples.
    """
    if isinstance(key, str) and type(key) is str:
        text = encode_text(key)
        return key if text is None else ["s", text]
    if isinstance(key, int) and type(key) is int:
        return key if _INT_MIN <= key <= _INT_MAX else ["i", encode_int(key)]
    if type(key) in _NATIVE:
        return key
    if isinstance(key, tuple) and type(key) is tuple:
        if depth >= DEPTH_MAX:
            raise errors.StateTooDeep(path=path, limit=DEPTH_MAX)
        return ["t", [encode_key(part, path, depth + 1) for part in key]]
    raise errors.UnsupportedKey(path=path, type=type_name(type(key)))


def decode_key(entry: object, depth: int) -> Hashable:
    """The key of an entry; hostile input."""
    if type(entry) in (str, int, *_NATIVE):
        return _checked_int(entry)
    tag, fields = _tagged(entry, "key")
    if tag == "t" and len(fields) == 1:
        if depth >= DEPTH_MAX:
            raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
        return tuple(decode_key(part, depth + 1) for part in expect(fields[0], list, "a tuple key"))
    if tag == "s" and len(fields) == 1:
        return decode_text(expect(fields[0], bytes, "a str key"))
    if tag == "i" and len(fields) == 1:
        return decode_int(expect(fields[0], bytes, "an int key"))
    raise unknown(f"key tag {tag!r} with {len(fields)} fields")


def decode_value(entry: object) -> object:
    """The value of an entry, a `Scalar` for a numpy one; hostile input."""
    if type(entry) in (str, int, *_NATIVE):
        return _checked_int(entry)
    tag, fields = _tagged(entry, "value")
    if tag == "complex" and len(fields) == 2:
        return complex(expect(fields[0], float, "a real part"), expect(fields[1], float, "an imaginary part"))
    if tag == "scalar" and len(fields) == 2:
        return Scalar(expect(fields[0], str, "a dtype"), expect(fields[1], bytes, "a scalar"))
    if tag in ("int", "str", "bytearray") and len(fields) == 1:
        data: bytes = expect(fields[0], bytes, f"a value of tag {tag}")
        return decode_int(data) if tag == "int" else decode_text(data) if tag == "str" else bytearray(data)
    raise unknown(f"value tag {tag!r} with {len(fields)} fields")


def encode_value(value: int | str | bytearray | complex) -> object:
    """The entry of a value of exactly one of these types; None, bool, float and bytes are their own entries."""
    if isinstance(value, int):
        return value if _INT_MIN <= value <= _INT_MAX else ["int", encode_int(value)]
    if isinstance(value, str):
        text = encode_text(value)
        return value if text is None else ["str", text]
    if isinstance(value, bytearray):
        return ["bytearray", bytes(value)]
    return ["complex", value.real, value.imag]


def encode_text(text: str) -> bytes | None:
    """UTF-8 of a str with lone surrogates; None for a str that needs no such care."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return None


def decode_text(data: bytes) -> str:
    """The str of UTF-8 bytes, surrogates passed; hostile input."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise inconsistent(f"a str is not UTF-8: {error.reason} at byte {error.start}") from error


def encode_int(value: int) -> bytes:
    """Two's complement, little-endian, least length."""
    magnitude = value if value >= 0 else ~value
    return value.to_bytes(magnitude.bit_length() // 8 + 1, "little", signed=True)


def decode_int(data: bytes) -> int:
    """The int of two's complement bytes."""
    return int.from_bytes(data, "little", signed=True)


def type_name(kind: type) -> str:
    """A type as errors show it: `numpy.matrix`, `dict`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _checked_int(entry: object) -> Hashable:
    if type(entry) is int and not _INT_MIN <= entry <= _INT_MAX:
        raise inconsistent("an int beyond 64 bits is not tagged")
    return entry


def _tagged(entry: object, what: str) -> tuple[str, list[object]]:
    if type(entry) is not list or not entry or type(entry[0]) is not str:
        raise unknown(f"a {what} of type {type(entry).__name__} without a tag")
    return entry[0], entry[1:]
