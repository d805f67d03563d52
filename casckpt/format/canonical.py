"""Canonical msgpack: one value, one byte string, so that ids can be compared across machines.

Rules (docs/reference/format-v1.md, section 2): shortest integers and lengths, floats always float64 with their bits
kept, map keys sorted by their encoded bytes and unique, no extension types. A reader accepts exactly these bytes:
what it decodes must encode to its input again. Counts and lengths are bounded by the input, so nothing is allocated
that the bytes do not back.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgpack

from casckpt.errors import IntegrityError

_TIMESTAMP_AS_DATETIME = 3  # the packer refuses datetime, so that a timestamp extension cannot survive the check below


def encode(value: Any) -> bytes:
    """Canonical bytes of a value made of None, bool, 64-bit int, float, str, bytes, list, tuple and dict."""
    return encode_sorted(_sorted(value))


def encode_sorted(value: Any) -> bytes:
    """Like `encode`, for values whose maps (if any) are in canonical order already; does not walk the value."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = sorted((msgpack.packb(key, use_bin_type=True), key, item) for key, item in value.items())
        return {key: _sorted(item) for _, key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def _unique_sorted(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [msgpack.packb(key, use_bin_type=True) for key, _ in pairs]
    if any(first >= second for first, second in pairwise(keys)):
        raise ValueError("map keys are not sorted and unique")
    return dict(pairs)


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def decode(data: bytes | bytearray | memoryview, what: str) -> Any:
    """The value whose canonical bytes are `data`.

    Args:
        what: names the object in the error.

    Raises:
        IntegrityError: for anything that is not canonical msgpack.

    Cost: O(len(data)) time and memory.
    """
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=_unique_sorted,
            ext_hook=_no_extension,
            timestamp=_TIMESTAMP_AS_DATETIME,
        )
        canonical = encode_sorted(value) == data
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise IntegrityError(object=what, problem=f"not canonical msgpack: {error}") from error
    if not canonical:
        raise IntegrityError(object=what, problem="not canonical msgpack: a longer encoding than needed")
    return value


def decode_known(data: bytes | bytearray | memoryview, what: str) -> Any:
    """The value of bytes that `decode` accepted before, without its checks: ten times as fast.

    Only for bytes that were compared with the id they had then.
    """
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, ext_hook=_no_extension)
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise IntegrityError(object=what, problem=f"not msgpack: {error}") from error


class Fields:
    """Checked access to the fields of a decoded map: every read states the type that must be there."""

    __slots__ = ("_map", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if type(value) is not dict or not all(type(key) is str for key in value):
            raise IntegrityError(object=what, problem="not a map with text keys")
        self._map: dict[str, Any] = value
        self._what = what

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The field if it is there, else `default`; IntegrityError if its type is wrong (bool is not int)."""
        if key not in self._map:
            return default
        value = self._map[key]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(value) not in kinds:
            raise self.error(f"field {key!r} is of type {type(value).__name__}")
        return value

    def need(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """The field, which must be there and of this type."""
        if key not in self._map:
            raise self.error(f"field {key!r} is missing")
        return self.get(key, kind)

    def id(self, key: str) -> bytes | None:
        """An optional id of 32 bytes."""
        value = self.get(key, bytes)
        if value is not None and len(value) != 32:
            raise self.error(f"field {key!r} is not an id of 32 bytes")
        return value  # type: ignore[no-any-return]

    def ids(self, key: str) -> tuple[bytes, ...]:
        """A list of ids, empty if the field is absent."""
        values = self.get(key, list, [])
        if not all(type(value) is bytes and len(value) == 32 for value in values):
            raise self.error(f"field {key!r} is not a list of ids of 32 bytes")
        return tuple(values)

    def unknown(self, known: frozenset[str]) -> dict[str, Any]:
        """Fields this release does not know, kept so that an object can be written again unchanged.

        Raises:
            IntegrityError: if one starts with `!`, which marks fields that a reader must understand.
        """
        extra = {key: value for key, value in self._map.items() if key not in known}
        critical = sorted(key for key in extra if key.startswith("!"))
        if critical:
            raise self.error(f"field {critical[0]!r} must be understood and is not")
        return extra

    def error(self, problem: str) -> IntegrityError:
        """An error about this object, for the caller to raise."""
        return IntegrityError(object=self._what, problem=problem)
