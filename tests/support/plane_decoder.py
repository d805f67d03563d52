"""Decoder of codecs 2-6, written from the text of the format in integers of Python: what the fast one must agree with.

Byte by byte and word by word, it shares nothing with the package but the names of the codecs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import zstandard

from casckpt.format.codec import Codec

SMALL = {Codec.RESIDUAL_2BIT: 2, Codec.RESIDUAL_4BIT: 4}


class Streams:
    """The stored bytes of a record, taken from the front."""

    def __init__(self, stored: bytes) -> None:
        self.rest = bytes(stored)

    def take(self) -> tuple[int, bytes]:
        """(form, bytes) of the next stream."""
        form, length = struct.unpack_from("<BI", self.rest)
        body, self.rest = self.rest[5 : 5 + length], self.rest[5 + length :]
        assert len(body) == length
        return form, body

    def plain(self, length: int) -> bytes:
        """Plain bytes of the next stream."""
        form, body = self.take()
        return plain(form, body, length)


def plain(form: int, body: bytes, length: int) -> bytes:
    """What a stream stands for, unless it is a low pair."""
    if form == 1:
        body = zstandard.ZstdDecompressor().decompress(body)
    elif form == 2:
        assert len(body) == 1
        body = body * length
    else:
        assert form == 0
    assert len(body) == length
    return body


def decode(codec: int, stored: bytes, length: int, width: int, bases: Sequence[bytes] = (), weight: int = 0) -> bytes:
    """Plain bytes of a record of words of `width` bytes."""
    count = length // width
    streams = Streams(stored)
    if count == 0:
        words = []
    elif codec in SMALL:
        assert width == 2
        words = residuals(streams, count, SMALL[Codec(codec)])
    else:
        words = planes(streams, count, width)
        if codec == Codec.ALIGNED_PLANES:
            words = [unaligned(word, width) for word in words]
        elif codec == Codec.DELTA_PLANES:
            words = [word - int.from_bytes(b"\x80" * width, "little") for word in words]
    if bases:
        rows = [
            [int.from_bytes(base[at : at + width], "little") for at in range(0, count * width, width)] for base in bases
        ]
        words = [word + predicted([row[number] for row in rows], weight, width) for number, word in enumerate(words)]
    tail = streams.rest
    assert len(tail) == length % width or (count == 0 and len(tail) == length)
    return b"".join((word % (1 << 8 * width)).to_bytes(width, "little") for word in words) + tail


def planes(streams: Streams, count: int, width: int) -> list[int]:
    """Words from their planes, the lowest first."""
    form, body = streams.take()
    if form == 3:
        assert width == 4
        assert len(body) == 2 * count
        found = [body[::2], body[1::2]]
    else:
        found = [plain(form, body, count)]
    while len(found) < width:
        found.append(streams.plain(count))
    return [int.from_bytes(bytes(word), "little") for word in zip(*found, strict=True)]


def unaligned(word: int, width: int) -> int:
    """A word of which exponent and sign were moved."""
    exponent, rest = word >> 8 * (width - 1), word >> 8 * (width - 2) & 0xFF
    high = exponent >> 1 | rest & 0x80
    low = rest & 0x7F | (exponent & 1) << 7
    return high << 8 * (width - 1) | low << 8 * (width - 2) | word & (1 << 8 * (width - 2)) - 1


def residuals(streams: Streams, count: int, bits: int) -> list[int]:
    """Residuals from symbols and escapes."""
    centre, escape, per_byte = (1 << bits - 1) - 1, (1 << bits) - 1, 8 // bits
    packed = streams.plain(-(-count // per_byte))
    symbols = [byte >> bits * place & escape for byte in packed for place in range(per_byte)]
    assert all(symbol == centre for symbol in symbols[count:])
    symbols = symbols[:count]
    escapes = symbols.count(escape)
    far = iter(())
    if escapes:
        low, high = streams.plain(escapes), streams.plain(escapes)
        far = iter([one + 256 * other for one, other in zip(low, high, strict=True)])
    return [next(far) if symbol == escape else symbol - centre for symbol in symbols]


def predicted(words: Sequence[int], weight: int, width: int) -> int:
    """What the bases predict for one word."""
    if len(words) == 1:
        assert weight == 0
        return words[0]
    first, second = words
    step = signed(second - first, width)
    return first + (step >> 1 if weight == 8 else signed(step * weight, width) >> 4)


def signed(value: int, width: int) -> int:
    """A word as a signed one."""
    half = 1 << 8 * width - 1
    return (value + half) % (2 * half) - half
