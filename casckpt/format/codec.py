"""Stored forms of a record: plain bytes in, stored bytes out, and back under strict checks.

The encoding belongs to the record, never to the id. This release writes raw and zstd; it reads every codec of
format v1 (planes and deltas are decoded in `planes`).

Hostile input: a zstd frame must declare exactly the plain length of its record, which was checked against the limit
of its kind, so it can neither allocate more nor yield more; bytes after the frame are refused.
"""

from __future__ import annotations

from enum import IntEnum

import zstandard

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import limits


class Codec(IntEnum):
    """How a record's stored bytes stand for its plain bytes."""

    RAW = 0
    ZSTD = 1
    PLANES = 2
    ALIGNED_PLANES = 3
    DELTA_PLANES = 4
    RESIDUAL_2BIT = 5
    RESIDUAL_4BIT = 6


_LEVEL = 3
_WORTH = 0.98
_Data = bytes | bytearray | memoryview


def compress(data: _Data) -> tuple[Codec, _Data]:
    """The smaller of raw and zstd (which must save 2 %), for metadata objects."""
    if len(data) >= 128:
        stored = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
        if len(stored) < len(data) * _WORTH:
            return Codec.ZSTD, stored
    return Codec.RAW, data


def decompress(frame: _Data, length: int) -> bytes:
    """Plain bytes of one zstd frame that must hold exactly `length` bytes.

    Args:
        length: already checked against a limit; the only size that is allocated.

    Raises:
        IntegrityError: the frame declares or holds another length, needs a larger window, or is followed by bytes.
    """
    what = "a zstd frame"
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != length:
            raise IntegrityError(object=what, problem="its declared length is not the record's")
        if parameters.dict_id:
            raise IntegrityError(object=what, problem="it needs a dictionary")
        plain = zstandard.ZstdDecompressor(max_window_size=limits.MAX_ZSTD_WINDOW).decompress(
            frame, max_output_size=length, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise IntegrityError(object=what, problem=str(error)) from error
    if len(plain) != length:
        raise IntegrityError(object=what, problem="it holds another length than declared")
    return plain


def decode(codec: int, stored: _Data, length: int, element: int = 0) -> _Data:
    """Plain bytes of a record without bases.

    Args:
        length: plain length of the record, checked by the caller against the limit of its kind.
        element: element type code, the word width of plane codecs.

    Raises:
        FormatError: a codec this release does not know.
        IntegrityError: stored bytes that do not decode to `length` bytes.
    """
    if codec == Codec.RAW:
        if len(stored) != length:
            raise IntegrityError(object="a raw record", problem="its stored and plain lengths differ")
        return stored
    if codec == Codec.ZSTD:
        return decompress(stored, length)
    if codec in (Codec.PLANES, Codec.ALIGNED_PLANES):
        from casckpt.format import planes

        return planes.decode(codec, stored, length, element)
    if codec in (Codec.DELTA_PLANES, Codec.RESIDUAL_2BIT, Codec.RESIDUAL_4BIT):
        raise IntegrityError(object="a delta record", problem="it names no base")
    raise FormatError(object="a record", problem=f"unknown codec {codec}")
