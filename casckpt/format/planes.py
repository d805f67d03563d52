"""Decoders of byte planes, deltas and small residuals (codecs 2-7). Specification: format-v1.md, section 7.

A record of `length` plain bytes is n = length // w little-endian words of w bytes and a tail of length % w bytes,
where w is the word width of its element type. Arithmetic on words wraps modulo 2^(8w).

    stored = stream | stream | ... | tail, raw          no streams if n = 0
    stream = form u8 | length u32 | bytes               nothing may be left over, in a stream or behind the tail

    form  bytes of a stream that stands for m plain bytes
    0     raw: the m bytes
    1     zstd: one frame that declares and holds m bytes
    2     constant: one byte, which stands for m of it
    3     low pair, raw: planes 0 and 1 of words of 4 bytes as n words u16; only in place of plane 0
    4     classed plane: for each class that has words a stream of form 0, 1 or 2; only in codec 7

    codec              w           streams
    2 planes           1, 2, 4, 8  w planes of n bytes, that of the lowest byte first
    3 aligned planes   2, 4        the same of aligned words
    4 delta planes     1, 2, 4, 8  the planes of y = x - p + 0x80...80
    5 2-bit residuals  2           symbols of k = 2 bits; the low and the high plane of the escapes
    6 4-bit residuals  2           the same with k = 4
    7 classed planes   2, 4        cuts; the planes of codec 4

Aligned words. The top two planes of a float hold sign, exponent and mantissa across a byte border. In the aligned form
the top plane is the exponent, (high << 1 | low >> 7) mod 256, and the one below is (low & 0x7F) | (high & 0x80).

Prediction p. One base: p = b1. Two bases: d = b2 - b1 as a signed word; weight 8: p = b1 + (d >> 1); any other weight
k: p = b1 + ((d * k, wrapped to a signed word) >> 4). Shifts are arithmetic. Bases are as long as the record.

Residuals. r = x - p; s = min((r + c) mod 2^16, e) with centre c = 2^(k-1) - 1 and escape e = 2^k - 1. The symbols s lie
8 / k in a byte, the first in the lowest bits; symbols that fill the last byte are c. The words r with s = e follow, in
order, as two planes; both streams are absent if there is no escape.

Classes (module `classes`). Cuts = cuts of spread | cuts of size, each a length u8 of at most 15 and so many ascending
bytes; none of spread with one base. They stand before the streams.

Hostile input: every length is known before its bytes are decoded, and all that is allocated follows from the plain
length: buffers of that size, and indexes of up to four times it where every word is an escape. Whether the words are
right is for the id of the object to say.
"""

from __future__ import annotations

import functools
import struct

import numpy as np
from numpy.typing import NDArray

from casckpt.errors import FormatError, IntegrityError
from casckpt.format.classes import MAX_CUTS, Cuts, places
from casckpt.format.codec import Codec, decompress
from casckpt.format.elements import word_bytes
from casckpt.format.prediction import add_prediction
from casckpt.format.words import Bytes, Words, join, places_of

RAW, ZSTD, CONSTANT, LOW_PAIR, CLASSED = range(5)
"""Forms of a stream."""

STREAM = struct.Struct("<BI")
"""Head of a stream: form and length in bytes."""
_WIDTHS = {
    Codec.PLANES: (1, 2, 4, 8),
    Codec.ALIGNED_PLANES: (2, 4),
    Codec.DELTA_PLANES: (1, 2, 4, 8),
    Codec.RESIDUAL_2BIT: (2,),
    Codec.RESIDUAL_4BIT: (2,),
    Codec.CLASSED_PLANES: (2, 4),
}
_TABLE_BLOCK = 32 << 10
"""Bytes of symbols looked up at a time: numpy makes an index of eight bytes for each."""
SYMBOL_BITS = {Codec.RESIDUAL_2BIT: 2, Codec.RESIDUAL_4BIT: 4}
_Data = bytes | bytearray | memoryview


def decode(codec: int, stored: _Data, length: int, element: int) -> memoryview:
    """Plain bytes of a record of codec 2 or 3; see `decode_into`."""
    plain = np.empty(length, np.uint8).data
    decode_into(codec, stored, element, plain)
    return plain


def decode_into(codec: int, stored: _Data, element: int, target: memoryview) -> None:
    """Write the plain bytes of a record of codec 2 or 3.

    Args:
        element: element type code; says the width of the words.
        target: writable, as long as the record, which the caller checked against the limit of its kind; undefined
            after an error.

    Raises:
        FormatError: a form of stream this release does not know.
        IntegrityError: anything else that does not decode to so many bytes.
    """
    if codec not in (Codec.PLANES, Codec.ALIGNED_PLANES):
        raise _error(f"codec {codec} is not one of plain planes")
    words, tail = _target(codec, element, target)
    streams = _Streams(stored)
    planes = _planes(streams, len(words), words.itemsize)
    tail[:] = streams.tail(len(tail))
    join(words, planes, aligned=codec == Codec.ALIGNED_PLANES)


def decode_delta(
    codec: int, stored: _Data, length: int, element: int, bases: tuple[_Data, ...], weight: int
) -> memoryview:
    """Plain bytes of a record of codec 4 to 7 from the plain bytes of its bases; see `decode_delta_into`."""
    plain = np.empty(length, np.uint8).data
    decode_delta_into(codec, stored, element, plain, bases, weight)
    return plain


def decode_delta_into(
    codec: int, stored: _Data, element: int, target: memoryview, bases: tuple[_Data, ...], weight: int
) -> None:
    """Write the plain bytes of a record of codec 4 to 7.

    Args:
        element, target: as for `decode_into`.
        bases: plain bytes of its one or two bases in the order of the record; as long as the record.
        weight: of the second base in sixteenths, 1 to 15; 0 if there is one base.

    Raises:
        FormatError, IntegrityError: as for `decode_into`.
    """
    if codec not in (Codec.DELTA_PLANES, *SYMBOL_BITS, Codec.CLASSED_PLANES):
        raise _error(f"codec {codec} is not one of deltas")
    if len(bases) not in (1, 2) or not (weight == 0 if len(bases) == 1 else 1 <= weight <= 15):
        raise _error(f"a weight of {weight} for {len(bases)} bases")
    if any(len(base) != len(target) for base in bases):
        raise _error("a base is not as long as the record")
    words, tail = _target(codec, element, target)
    streams = _Streams(stored)
    if codec in SYMBOL_BITS:
        _residuals(streams, words, SYMBOL_BITS[Codec(codec)])
        tail[:] = streams.tail(len(tail))
    else:
        divided = places(streams.cuts(len(bases)), bases, weight, words) if codec == Codec.CLASSED_PLANES else None
        planes = _planes(streams, len(words), words.itemsize, divided)
        tail[:] = streams.tail(len(tail))
        join(words, planes)
        words -= words.dtype.type(int.from_bytes(b"\x80" * words.itemsize, "little"))
    add_prediction(words, bases, weight)


class _Streams:
    """The streams of one record, taken in order; `tail` must be called last."""

    def __init__(self, stored: _Data) -> None:
        self._rest = memoryview(stored)

    def take(self) -> tuple[int, memoryview]:
        """(form, bytes) of the next stream."""
        if len(self._rest) < STREAM.size:
            raise _error("a stream is missing")
        form, size = STREAM.unpack_from(self._rest)
        end = STREAM.size + size
        if end > len(self._rest):
            raise _error("a stream reaches past the end")
        body, self._rest = self._rest[STREAM.size : end], self._rest[end:]
        return form, body

    def cuts(self, bases: int) -> Cuts:
        """The cuts that stand before the streams of a record with so many bases."""
        found = []
        for _ in Cuts._fields:
            count = self._rest[0] if len(self._rest) else MAX_CUTS + 1
            cuts = bytes(self._rest[1 : 1 + count])
            if count > MAX_CUTS or len(cuts) < count or list(cuts) != sorted({*cuts}):
                raise _error("its cuts are not ascending bytes, or too many")
            found.append(cuts)
            self._rest = self._rest[1 + count :]
        if bases == 1 and found[0]:
            raise _error("cuts of a spread with one base")
        return Cuts(*found)

    def tail(self, length: int) -> memoryview:
        """What follows the streams, which must be so many bytes."""
        if len(self._rest) != length:
            raise _error("its streams and tail are not all there is")
        return self._rest


def _target(codec: int, element: int, target: memoryview) -> tuple[Words, memoryview]:
    """The whole words of a record and the bytes behind them, to be written."""
    width = word_bytes(element)
    if width not in _WIDTHS[Codec(codec)]:
        raise _error(f"codec {codec} does not take words of {width} bytes")
    count = len(target) // width
    return np.frombuffer(target, f"<u{width}", count), target[count * width :]


def _plain(form: int, body: memoryview, length: int) -> Bytes:
    """The plain bytes of one stream; read-only."""
    if form == ZSTD:
        return np.frombuffer(decompress(body, length), np.uint8)
    if form not in (RAW, CONSTANT):
        if form in (LOW_PAIR, CLASSED):
            raise _error(f"a stream of form {form} where none may be")
        raise FormatError(object="a record", problem=f"unknown form of stream {form}")
    if len(body) != (length if form == RAW else 1):
        raise _error("a stream is of the wrong length")
    return np.broadcast_to(np.frombuffer(body, np.uint8), length)


def _planes(streams: _Streams, count: int, width: int, divided: list[NDArray[np.intp]] | None = None) -> list[Words]:
    """The planes of `count` words, that of the lowest byte first; the lower two may be one array of 16 bits.

    Args:
        divided: the numbers of the words of each class, where planes may be classed.
    """
    planes: list[Words] = []
    taken = 0
    while count and taken < width:
        form, body = streams.take()
        if form == LOW_PAIR and width == 4 and not planes:
            if len(body) != 2 * count:
                raise _error("a low pair is of the wrong length")
            planes.append(np.frombuffer(body, "<u2"))
        elif form == CLASSED and divided is not None:
            planes.append(_classed(_Streams(body), divided, count))
        else:
            planes.append(_plain(form, body, count))
        taken += planes[-1].itemsize
    return planes


def _classed(streams: _Streams, divided: list[NDArray[np.intp]], count: int) -> Bytes:
    """A plane from the streams of its classes."""
    plane = np.empty(count, np.uint8)
    for numbers in divided:
        if len(numbers):
            plane[numbers] = _plain(*streams.take(), len(numbers))
    streams.tail(0)
    return plane


def _residuals(streams: _Streams, residual: Words, bits: int) -> None:
    """Write the residual words of codecs 5 and 6."""
    count, per_byte = len(residual), 8 // bits
    if count == 0:
        return
    packed = _plain(*streams.take(), -(-count // per_byte))
    whole = count // per_byte
    _spread(packed[:whole], bits, residual[: whole * per_byte])
    last = np.empty((len(packed) - whole) * per_byte, "<u2")
    _spread(packed[whole:], bits, last)
    rest = count - whole * per_byte
    # The centre stands for a residual of 0.
    if last[rest:].any():
        raise _error("the last byte of its symbols is not filled with the centre")
    residual[whole * per_byte :] = last[:rest]
    escapes = places_of(residual, 1 << bits - 1)
    if len(escapes):
        escaped = np.empty(len(escapes), "<u2")
        join(escaped, [_plain(*streams.take(), len(escapes)) for _ in range(2)])
        residual[escapes] = escaped


def _spread(packed: Bytes, bits: int, residual: Words) -> None:
    """Write the residuals that the symbols of whole bytes stand for; an escape gives 2^(k-1), which no other does."""
    if bits == 4:
        # Both symbols of a byte are moved to words of their own by one product, and what else it made is masked out.
        pairs = residual.view("<u4")
        np.copyto(pairs, packed)
        np.multiply(pairs, 0x1001, out=pairs)
        np.bitwise_and(pairs, 0x000F000F, out=pairs)
        np.subtract(residual, 7, out=residual)
        return
    fours = residual.view("<u8")
    for start in range(0, len(packed), _TABLE_BLOCK):
        part = slice(start, start + _TABLE_BLOCK)
        np.take(_fours(), packed[part], out=fours[part], mode="clip")


@functools.cache
def _fours() -> NDArray[np.uint64]:
    """The four residuals of each byte of 2-bit symbols, side by side as one item."""
    symbols = np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3
    return (symbols - 1).astype("<u2").view("<u8")[:, 0]


def _error(problem: str) -> IntegrityError:
    return IntegrityError(object="a record of planes", problem=problem)
