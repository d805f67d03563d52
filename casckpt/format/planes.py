"""Decoders of byte planes, deltas and small residuals (codecs 2-6). Specification: format-v1.md, section 7.

A record of `length` plain bytes is n = length // w little-endian words of w bytes and a tail of length % w bytes,
where w is the word width of its element type. Arithmetic on words wraps modulo 2^(8w).

    stored = stream | stream | ... | tail, raw          no streams if n = 0
    stream = form u8 | length u32 | bytes               nothing may be left over, in a stream or behind the tail

    form  bytes of a stream that stands for m plain bytes
    0     raw: the m bytes
    1     zstd: one frame that declares and holds m bytes
    2     constant: one byte, which stands for m of it
    3     low pair, raw: planes 0 and 1 of words of 4 bytes as n words u16; only in place of plane 0

    codec              w           streams
    2 planes           1, 2, 4, 8  w planes of n bytes, that of the lowest byte first
    3 aligned planes   2, 4        the same of aligned words
    4 delta planes     1, 2, 4, 8  the planes of y = x - p + 0x80...80
    5 2-bit residuals  2           symbols of k = 2 bits; the low and the high plane of the escapes
    6 4-bit residuals  2           the same with k = 4

Aligned words. The top two planes of a float hold sign, exponent and mantissa across a byte border. In the aligned form
the top plane is the exponent, (high << 1 | low >> 7) mod 256, and the one below is (low & 0x7F) | (high & 0x80).

Prediction p. One base: p = b1. Two bases: d = b2 - b1 as a signed word; weight 8: p = b1 + (d >> 1); any other weight
k: p = b1 + ((d * k, wrapped to a signed word) >> 4). Shifts are arithmetic. Bases are as long as the record.

Residuals. r = x - p; s = min((r + c) mod 2^16, e) with centre c = 2^(k-1) - 1 and escape e = 2^k - 1. The symbols s lie
8 / k in a byte, the first in the lowest bits; symbols that fill the last byte are c. The words r with s = e follow, in
order, as two planes; both streams are absent if there is no escape.

Hostile input: every length is known before its bytes are decoded, and nothing beyond the plain length is allocated
but for buffers of the same size. Whether the words are right is for the id of the object to say.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from casckpt.errors import FormatError, IntegrityError
from casckpt.format.codec import Codec, decompress
from casckpt.format.elements import word_bytes

RAW, ZSTD, CONSTANT, LOW_PAIR = range(4)
"""Forms of a stream."""

_STREAM = struct.Struct("<BI")
_WIDTHS = {
    Codec.PLANES: (1, 2, 4, 8),
    Codec.ALIGNED_PLANES: (2, 4),
    Codec.DELTA_PLANES: (1, 2, 4, 8),
    Codec.RESIDUAL_2BIT: (2,),
    Codec.RESIDUAL_4BIT: (2,),
}
_SYMBOL_BITS = {Codec.RESIDUAL_2BIT: 2, Codec.RESIDUAL_4BIT: 4}
_Data = bytes | bytearray | memoryview
_Bytes = NDArray[np.uint8]
_Words = NDArray[np.unsignedinteger]


def decode(codec: int, stored: _Data, length: int, element: int) -> bytes:
    """Plain bytes of a record of codec 2 or 3.

    Args:
        length: plain length of the record, checked by the caller against the limit of its kind.
        element: element type code; says the width of the words.

    Raises:
        FormatError: a form of stream this release does not know.
        IntegrityError: anything else that does not decode to `length` bytes.
    """
    if codec not in (Codec.PLANES, Codec.ALIGNED_PLANES):
        raise _error(f"codec {codec} is not one of plain planes")
    streams, count = _Streams(stored), length // _width(codec, element)
    planes = _planes(streams, count, _width(codec, element))
    if codec == Codec.ALIGNED_PLANES:
        exponent, rest = planes[-1], planes[-2]
        planes[-1] = (exponent >> np.uint8(1)) | (rest & np.uint8(0x80))
        planes[-2] = (rest & np.uint8(0x7F)) | (exponent << np.uint8(7))
    tail = streams.tail(length - count * len(planes))
    return _merge(planes, count).tobytes() + tail


def decode_delta(codec: int, stored: _Data, length: int, element: int, bases: tuple[_Data, ...], weight: int) -> bytes:
    """Plain bytes of a record of codec 4, 5 or 6 from the plain bytes of its one or two bases.

    Args:
        length, element: as for `decode`.
        bases: in the order of the record; as long as the record.
        weight: of the second base in sixteenths, 1 to 15; 0 if there is one base.

    Raises:
        FormatError, IntegrityError: as for `decode`.
    """
    if codec not in (Codec.DELTA_PLANES, *_SYMBOL_BITS):
        raise _error(f"codec {codec} is not one of deltas")
    if len(bases) not in (1, 2) or not (weight == 0 if len(bases) == 1 else 1 <= weight <= 15):
        raise _error(f"a weight of {weight} for {len(bases)} bases")
    if any(len(base) != length for base in bases):
        raise _error("a base is not as long as the record")
    width = _width(codec, element)
    streams, count = _Streams(stored), length // width
    if codec == Codec.DELTA_PLANES:
        residual = _merge(_planes(streams, count, width), count)
        residual -= residual.dtype.type(int.from_bytes(b"\x80" * width, "little"))
    else:
        residual = _residuals(streams, count, _SYMBOL_BITS[Codec(codec)])
    tail = streams.tail(length - count * width)
    residual += _prediction(bases, weight, count, width)
    return residual.tobytes() + tail


class _Streams:
    """The streams of one record, taken in order; `tail` must be called last."""

    def __init__(self, stored: _Data) -> None:
        self._rest = memoryview(stored)

    def take(self) -> tuple[int, memoryview]:
        """(form, bytes) of the next stream."""
        if len(self._rest) < _STREAM.size:
            raise _error("a stream is missing")
        form, size = _STREAM.unpack_from(self._rest)
        end = _STREAM.size + size
        if end > len(self._rest):
            raise _error("a stream reaches past the end")
        body, self._rest = self._rest[_STREAM.size : end], self._rest[end:]
        return form, body

    def tail(self, length: int) -> bytes:
        """What follows the streams, which must be so many bytes."""
        if len(self._rest) != length:
            raise _error("its streams and tail are not all there is")
        return bytes(self._rest)


def _plain(form: int, body: memoryview, length: int) -> _Bytes:
    """The plain bytes of one stream; read-only."""
    if form == ZSTD:
        return np.frombuffer(decompress(body, length), np.uint8)
    if form not in (RAW, CONSTANT):
        if form == LOW_PAIR:
            raise _error("a low pair where none may be")
        raise FormatError(object="a record", problem=f"unknown form of stream {form}")
    if len(body) != (length if form == RAW else 1):
        raise _error("a stream is of the wrong length")
    return np.broadcast_to(np.frombuffer(body, np.uint8), length)


def _planes(streams: _Streams, count: int, width: int) -> list[_Bytes]:
    """The planes of `count` words, that of the lowest byte first."""
    if count == 0:
        return [np.empty(0, np.uint8)] * width
    planes: list[_Bytes] = []
    while len(planes) < width:
        form, body = streams.take()
        if form == LOW_PAIR and width == 4 and not planes:
            if len(body) != 2 * count:
                raise _error("a low pair is of the wrong length")
            pair = np.frombuffer(body, np.uint8).reshape(count, 2)
            planes = [pair[:, 0], pair[:, 1]]
        else:
            planes.append(_plain(form, body, count))
    return planes


def _merge(planes: list[_Bytes], count: int) -> _Words:
    """Words of which `planes` are the bytes, lowest first; newly allocated."""
    merged = np.empty((count, len(planes)), np.uint8)
    for number, plane in enumerate(planes):
        merged[:, number] = plane
    return merged.reshape(-1).view(f"<u{len(planes)}")


def _residuals(streams: _Streams, count: int, bits: int) -> _Words:
    """Residual words of codecs 5 and 6; newly allocated."""
    if count == 0:
        return np.empty(0, "<u2")
    centre, escape, per_byte = (1 << bits - 1) - 1, (1 << bits) - 1, 8 // bits
    form, body = streams.take()
    packed = _plain(form, body, -(-count // per_byte))
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    symbols = ((packed[:, None] >> shifts) & escape).reshape(-1)
    if (symbols[count:] != centre).any():
        raise _error("the last byte of its symbols is not filled with the centre")
    residual = symbols[:count].astype("<u2")
    residual -= np.uint16(centre)
    escapes = np.flatnonzero(symbols[:count] == escape)
    if len(escapes):
        residual[escapes] = _merge([_plain(*streams.take(), len(escapes)) for _ in range(2)], len(escapes))
    return residual


def _prediction(bases: tuple[_Data, ...], weight: int, count: int, width: int) -> _Words:
    """The predicted words, from one base or between two."""
    words = [np.frombuffer(base, f"<u{width}", count) for base in bases]
    if len(words) == 1:
        return words[0]
    step = (words[1] - words[0]).view(f"<i{width}")
    step = step >> 1 if weight == 8 else (step * step.dtype.type(weight)) >> 4
    predicted: _Words = words[0] + step.view(f"<u{width}")
    return predicted


def _width(codec: int, element: int) -> int:
    width = word_bytes(element)
    if width not in _WIDTHS[Codec(codec)]:
        raise _error(f"codec {codec} does not take words of {width} bytes")
    return width


def _error(problem: str) -> IntegrityError:
    return IntegrityError(object="a record of planes", problem=problem)
