"""zstd under strict checks, and the numbers of all codecs (`decode` dispatches on them).

The encoding belongs to the record, never to the id. This release writes raw and zstd; it reads every codec.

Hostile input: a zstd frame must declare exactly the plain length of its record, which was checked against the limit
of its kind, so it can neither allocate more nor yield more; bytes after the frame are refused.
"""

from __future__ import annotations

from enum import IntEnum

import zstandard

from casckpt.errors import IntegrityError
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
