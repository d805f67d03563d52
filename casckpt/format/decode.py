"""From stored bytes to plain bytes, for every codec of format v1."""

from __future__ import annotations

from casckpt.errors import FormatError, IntegrityError
from casckpt.format.codec import Codec, decompress
from casckpt.format.pack import Record

_Data = bytes | bytearray | memoryview
_PLANES = (Codec.PLANES, Codec.ALIGNED_PLANES)
_DELTAS = (Codec.DELTA_PLANES, Codec.RESIDUAL_2BIT, Codec.RESIDUAL_4BIT)


def decode(record: Record, stored: _Data, bases: tuple[_Data, ...] = ()) -> _Data:
    """Plain bytes of a record; not yet compared with its id.

    Args:
        record: with its length checked against the limit of its kind.
        stored: its stored bytes; returned as they are if the record is raw.
        bases: plain bytes of its bases, in order.

    Raises:
        FormatError: a codec this release does not know.
        IntegrityError: stored bytes that do not decode to `record.length` bytes.
    """
    if len(bases) != (record.base_1 > 0) + (record.base_2 > 0) or bool(bases) != (record.codec in _DELTAS):
        raise IntegrityError(object="a record", problem=f"codec {record.codec} does not go with {len(bases)} bases")
    if record.codec == Codec.RAW:
        if len(stored) != record.length:
            raise IntegrityError(object="a raw record", problem="its stored and plain lengths differ")
        return stored
    if record.codec == Codec.ZSTD:
        return decompress(stored, record.length)
    if record.codec in _PLANES or bases:
        from casckpt.format import planes

        if bases:
            return planes.decode_delta(record.codec, stored, record.length, record.element, bases, record.weight)
        return planes.decode(record.codec, stored, record.length, record.element)
    raise FormatError(object="a record", problem=f"unknown codec {record.codec}")
