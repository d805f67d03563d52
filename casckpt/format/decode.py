"""From stored bytes to plain bytes, for every codec of format v1."""

from __future__ import annotations

from casckpt.errors import FormatError, IntegrityError, UsageError
from casckpt.format.codec import Codec, decompress
from casckpt.format.pack import Record

_Data = bytes | bytearray | memoryview
_DELTAS = (Codec.DELTA_PLANES, Codec.RESIDUAL_2BIT, Codec.RESIDUAL_4BIT, Codec.CLASSED_PLANES)
_CODECS = frozenset(Codec)


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
    _check(record, len(stored), bases)
    if record.codec == Codec.RAW:
        return stored
    if record.codec == Codec.ZSTD:
        return decompress(stored, record.length)
    from casckpt.format import planes

    if bases:
        return planes.decode_delta(record.codec, stored, record.length, record.element, bases, record.weight)
    return planes.decode(record.codec, stored, record.length, record.element)


def decode_into(record: Record, stored: _Data, target: memoryview, bases: tuple[_Data, ...] = ()) -> None:
    """Write the plain bytes of a record to where they are wanted; else like `decode`.

    Args:
        target: `record.length` writable bytes, contiguous, at any address; undefined after an error.
    """
    if target.nbytes != record.length or target.readonly:
        raise UsageError(problem=f"a record of {record.length} bytes needs as many to write to")
    target = target.cast("B")
    _check(record, len(stored), bases)
    if record.codec in (Codec.RAW, Codec.ZSTD):
        import numpy as np

        # Frames are not decoded in place: only the call that allocates refuses bytes behind them. The copy costs a
        # twentieth, and numpy copies without the interpreter's lock, which a slice of a memoryview holds.
        plain = stored if record.codec == Codec.RAW else decompress(stored, record.length)
        np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(plain, np.uint8))
        return
    from casckpt.format import planes

    if bases:
        planes.decode_delta_into(record.codec, stored, record.element, target, bases, record.weight)
    else:
        planes.decode_into(record.codec, stored, record.element, target)


def _check(record: Record, stored: int, bases: tuple[_Data, ...]) -> None:
    """Refuse a codec that is unknown or does not go with its bases, and a raw record of two lengths."""
    if len(bases) != (record.base_1 > 0) + (record.base_2 > 0) or bool(bases) != (record.codec in _DELTAS):
        raise IntegrityError(object="a record", problem=f"codec {record.codec} does not go with {len(bases)} bases")
    if record.codec == Codec.RAW and stored != record.length:
        raise IntegrityError(object="a raw record", problem="its stored and plain lengths differ")
    if record.codec not in _CODECS:
        raise FormatError(object="a record", problem=f"unknown codec {record.codec}")
