"""Decoder of codecs 2-7, written from the text of the format in integers of Python: what the fast one must agree with.

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

    def cuts(self) -> bytes:
        """The next cuts."""
        count = self.rest[0]
        found, self.rest = self.rest[1 : 1 + count], self.rest[1 + count :]
        assert len(found) == count <= 15
        assert list(found) == sorted({*found})
        return found

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
    ends = range(0, count * width, width)
    near = [[int.from_bytes(base[at : at + width], "little") for base in bases] for at in ends]
    classes = None
    if codec == Codec.CLASSED_PLANES:
        cuts = [streams.cuts(), streams.cuts()]
        classes = [class_of(words, weight, width, cuts) for words in near]
    if count == 0:
        words = []
    elif codec in SMALL:
        assert width == 2
        words = residuals(streams, count, SMALL[Codec(codec)])
    else:
        words = planes(streams, count, width, classes)
        if codec == Codec.ALIGNED_PLANES:
            words = [unaligned(word, width) for word in words]
        elif bases:
            words = [word - int.from_bytes(b"\x80" * width, "little") for word in words]
    if bases:
        words = [word + predicted(others, weight, width) for word, others in zip(words, near, strict=True)]
    tail = streams.rest
    assert len(tail) == length % width or (count == 0 and len(tail) == length)
    return b"".join((word % (1 << 8 * width)).to_bytes(width, "little") for word in words) + tail


def planes(streams: Streams, count: int, width: int, classes: Sequence[int] | None = None) -> list[int]:
    """Words from their planes, the lowest first; with the class of each word where planes may be classed."""
    found: list[bytes] = []
    while len(found) < width:
        form, body = streams.take()
        if form == 3 and not found:
            assert width == 4
            assert len(body) == 2 * count
            found = [body[::2], body[1::2]]
        elif form == 4 and classes is not None:
            found.append(classed(Streams(body), classes))
        else:
            found.append(plain(form, body, count))
    return [int.from_bytes(bytes(word), "little") for word in zip(*found, strict=True)]


def classed(streams: Streams, classes: Sequence[int]) -> bytes:
    """A plane from what each class has of it."""
    parts = {number: iter(streams.plain(classes.count(number))) for number in sorted({*classes})}
    assert streams.rest == b""
    return bytes(next(parts[number]) for number in classes)


def class_of(words: Sequence[int], weight: int, width: int, cuts: Sequence[bytes]) -> int:
    """The class of a word, by the words of its bases and the cuts of spread and of size."""
    size = predicted(words, weight, width) >> 8 * width - 9 & 255
    spread = 0
    if len(words) == 2:
        (bits,) = struct.unpack("<I", struct.pack("<f", signed(words[1] - words[0], width)))
        spread = bits >> 23 & 255
    else:
        assert not cuts[0]
    return sum(cut <= spread for cut in cuts[0]) * (len(cuts[1]) + 1) + sum(cut <= size for cut in cuts[1])


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
