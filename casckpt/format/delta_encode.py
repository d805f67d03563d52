"""Encoder of deltas (codecs 4 to 7), and the choice between them and a form without bases.

Which form is the shortest depends on what training does to the numbers, so the middle of a chunk is asked:

    sample    the middle 64 KiB plain, from each base alone and from between both; the shortest wins
    codec     words of 2 bytes: nearly all residuals in -1..1 -> codec 5, in -7..7 -> codec 6; else, and all other
              words, codec 4
    classes   where a slower reader is no matter, the sample in codec 7 too, by size or spread or both
    encode    the whole chunk in that form; kept if it is clearly shorter than the chunk is plain

Chunks of which the sample would be half or more are encoded in every form. So are all if `thorough`, for archives: for
words of 4 bytes it takes twice as long and saves nothing to speak of, for those of 2 bytes eight times as long for 3 %.

A delta is never taken for less than 2 % of the plain form: its reader must decode its bases first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from casckpt.errors import UsageError
from casckpt.format import classes, limits
from casckpt.format.codec import Codec, compressor, worth
from casckpt.format.elements import word_bytes
from casckpt.format.encode import SAMPLE_BYTES, Encoder
from casckpt.format.ids import Kind
from casckpt.format.plane_encode import PlaneEncoder, Stream, join_streams
from casckpt.format.planes import SYMBOL_BITS
from casckpt.format.prediction import HALF, take_prediction
from casckpt.format.words import Bytes, Words, places_of, split

_Data = bytes | bytearray | memoryview
_Options = Mapping[int, Sequence[tuple[int, int]]]
_CAPACITY = limits.MAX_OBJECT_BYTES[Kind.CHUNK]
_LOOK = 61
"""Every so many-th residual is looked at to choose a codec: a prime, so that no row length of a tensor divides it."""
_FITS_2_BITS = 0.97
_FITS_4_BITS = 0.96
"""Shares of residuals with a symbol of their own from which codecs 5 and 6 pay."""

_FEW = {1: ((1, 4),), 2: ((1, 4), (2, 2), (4, 1))}
_MANY = {1: ((1, 16),), 2: ((1, 16), (4, 4), (8, 2))}
"""By the number of bases: of how many ranges of spread, and of size, one pair is taken. Few are read twice as fast."""
_LOOK_AT_KEYS = 13
"""Every so many-th word is looked at to find cuts."""


class Delta(NamedTuple):
    """An encoded chunk.

    `bases` says which of the bases that were offered it needs: numbers into them, in their order, none if it is plain.
    `weight` is that of a record: 0 without a second base.
    """

    codec: Codec
    stored: _Data
    bases: tuple[int, ...] = ()
    weight: int = 0


class DeltaEncoder:
    """Encodes chunks against others. Not thread-safe: one per worker, kept. Holds scratch of 6 MiB.

    The interpreter's lock is released while bytes are moved and compressed.
    """

    def __init__(self) -> None:
        self._plain = Encoder()
        self._planes = PlaneEncoder(compressor(tuned=True))
        self._residual = np.empty(_CAPACITY, np.uint8)
        self._symbols = np.empty(_CAPACITY, np.uint8)

    def encode(
        self,
        data: _Data,
        element: int,
        bases: Sequence[_Data],
        weight: int = HALF,
        *,
        plain_bytes: int | None = None,
        classed: bool = False,
        thorough: bool = False,
    ) -> Delta:
        """A short form of a chunk, never longer than it is without bases.

        Args:
            data: at most 1 MiB of contiguous bytes. Read, and kept only as the result.
            element: element type code.
            bases: plain bytes of none to two chunks as long as this one; of two, the earlier one first.
            weight: how far between two bases it is, in sixteenths, 1 to 15.
            plain_bytes: stored length that it has without bases, if known: saves encoding it so.
            classed: codec 7 may be taken, whose reader needs twice the time.
            thorough: try every form on the whole chunk, and take the shortest however little it saves.

        Raises:
            UsageError: for lengths or a weight out of these ranges.
        """
        _check(data, bases, weight)
        if not bases:
            return Delta(*self._plain.encode(data, element))
        if thorough or len(data) <= 2 * SAMPLE_BYTES:
            plain = Delta(*self._plain.encode(data, element))
            forms = self._all_forms(data, element, bases, weight, _MANY if thorough else _FEW if classed else {})
            found = min(chain((plain,), forms), key=lambda one: len(one.stored))
            return found if thorough or worth(len(found.stored), len(plain.stored)) else plain
        delta = self._likely(data, element, bases, weight, classed=classed)
        if delta is not None and plain_bytes is not None and worth(len(delta.stored), plain_bytes):
            return delta
        plain = Delta(*self._plain.encode(data, element))
        return delta if delta is not None and worth(len(delta.stored), len(plain.stored)) else plain

    def encode_from(
        self, data: _Data, element: int, bases: Sequence[_Data], weight: int = HALF, *, classed: bool = False
    ) -> Delta | None:
        """A chunk from exactly these bases, in the codec that suits its residuals; None if that saves less than 2 %.

        Args:
            data, element, weight: as for `encode`.
            bases: of one or two chunks.
            classed: in codec 7, if it takes such words.
        """
        _check(data, bases, weight)
        if classed and word_bytes(element) in classes.SIZE_SHIFT:
            return self._divided(data, element, bases, weight, _FEW)
        return self._from(self._codec(data, element, bases, weight), data, element, bases, weight)

    def sample(
        self, data: _Data, element: int, bases: Sequence[_Data], weight: int = HALF, *, classed: bool = False
    ) -> list[int]:
        """Stored bytes of the middle 64 KiB of a chunk: plain, from each base, and from between two.

        Args:
            data, element, bases, weight: as for `encode`.
            classed: those with bases in codec 7, if it takes such words.
        """
        _check(data, bases, weight)
        middle, *near = _middles(data, bases)
        lengths = [len(self._plain.encode(middle, element)[1])]
        for chosen in _choices(bases):
            delta = self.encode_from(middle, element, [near[number] for number in chosen], weight, classed=classed)
            lengths.append(len(delta.stored) if delta else len(middle))
        return lengths

    def _likely(self, data: _Data, element: int, bases: Sequence[_Data], weight: int, *, classed: bool) -> Delta | None:
        """The whole chunk in the form in which its middle is the shortest; None if that is plain, or nothing saves."""
        plain, *lengths = self.sample(data, element, bases, weight)
        if classed:
            divided = self.sample(data, element, bases, weight, classed=True)[1:]
            classed = worth(min(divided), min(lengths))
            lengths = divided if classed else lengths
        if not worth(min(lengths), plain):
            return None
        chosen = list(_choices(bases))[lengths.index(min(lengths))]
        delta = self.encode_from(data, element, [bases[number] for number in chosen], weight, classed=classed)
        return delta and delta._replace(bases=chosen)

    def _all_forms(
        self, data: _Data, element: int, bases: Sequence[_Data], weight: int, ranges: _Options
    ) -> Iterator[Delta]:
        """The chunk in every form that has bases and saves 2 % of raw bytes."""
        width = word_bytes(element)
        codecs = [Codec.DELTA_PLANES, *SYMBOL_BITS] if width == 2 else [Codec.DELTA_PLANES]
        for chosen in _choices(bases):
            near = [bases[number] for number in chosen]
            for one in dict.fromkeys((weight, HALF)) if len(chosen) == 2 else (weight,):
                found = [self._from(codec, data, element, near, one) for codec in codecs]
                if ranges and width in classes.SIZE_SHIFT:
                    found.append(self._divided(data, element, near, one, ranges))
                yield from (delta._replace(bases=chosen) for delta in found if delta is not None)

    def _divided(
        self, data: _Data, element: int, bases: Sequence[_Data], weight: int, options: _Options
    ) -> Delta | None:
        """The chunk in codec 7, by the ranges that suit its middle; None if that saves less than 2 %."""
        width = word_bytes(element)
        found = options[len(bases)]
        if len(found) > 1:
            middle, *near = _middles(data, bases)
            each = [_cuts(near, weight, width, ranges) for ranges in found]
            tried = [self._from(Codec.CLASSED_PLANES, middle, element, near, weight, cuts) for cuts in each]
            lengths = [len(delta.stored) if delta else len(middle) for delta in tried]
            found = found[lengths.index(min(lengths)) :]
        cuts = _cuts(bases, weight, width, found[0])
        return self._from(Codec.CLASSED_PLANES, data, element, bases, weight, cuts)

    def _codec(self, data: _Data, element: int, bases: Sequence[_Data], weight: int) -> Codec:
        """The codec that suits the residuals, of which some are looked at."""
        if word_bytes(element) != 2:
            return Codec.DELTA_PLANES
        words, *others = [np.frombuffer(one, "<u2", len(one) // 2)[::_LOOK].copy() for one in (data, *bases)]
        take_prediction(words, tuple(other.tobytes() for other in others), weight, words)
        for codec, bits, share in ((Codec.RESIDUAL_2BIT, 2, _FITS_2_BITS), (Codec.RESIDUAL_4BIT, 4, _FITS_4_BITS)):
            symbols = words + np.uint16((1 << bits - 1) - 1)
            if np.count_nonzero(symbols < (1 << bits) - 1) > share * len(words):
                return codec
        return Codec.DELTA_PLANES

    def _from(
        self,
        codec: Codec,
        data: _Data,
        element: int,
        bases: Sequence[_Data],
        weight: int,
        cuts: classes.Cuts | None = None,
    ) -> Delta | None:
        """The chunk in one form; None if it saves less than 2 %."""
        width = word_bytes(element)
        count = len(data) // width
        if count == 0:
            return None
        words = np.frombuffer(data, f"<u{width}", count)
        residual = self._residual[: count * width].view(words.dtype)
        take_prediction(words, tuple(bases), weight, residual)
        tail = memoryview(data)[count * width :]
        if codec in SYMBOL_BITS:
            stored = join_streams(self._small_residuals(residual, SYMBOL_BITS[codec]), tail, len(data))
        else:
            np.add(residual, words.dtype.type(int.from_bytes(b"\x80" * width, "little")), out=residual)
            # What is left of the words goes through the encoder of plain planes, as if it were a chunk itself.
            self._residual[count * width : len(data)] = np.frombuffer(tail, np.uint8)
            head = b"" if cuts is None else b"".join(bytes([len(one)]) + one for one in cuts)
            divided = () if cuts is None else classes.places(cuts, bases, weight, words)
            stored = self._planes.encode(self._residual[: len(data)].data, width, head=head, divided=divided)
        chosen = tuple(range(len(bases)))
        return None if stored is None else Delta(codec, stored, chosen, weight if len(chosen) == 2 else 0)

    def _small_residuals(self, residual: Words, bits: int) -> list[Stream]:
        """The streams of codec 5 or 6."""
        centre, escape, per_byte = (1 << bits - 1) - 1, (1 << bits) - 1, 8 // bits
        count = len(residual)
        filled = -(-count // per_byte) * per_byte
        symbols = self._symbols[: 2 * filled].view("<u2")
        symbols[count:] = centre
        np.add(residual, np.uint16(centre), out=symbols[:count])
        np.minimum(symbols, escape, out=symbols)
        escapes = residual[places_of(symbols[:count], escape)]
        streams = [self._planes.stream(_packed(symbols, bits))]
        if len(escapes):
            planes = np.empty((2, len(escapes)), np.uint8)
            split(escapes.view(np.uint8), planes)
            streams += [self._planes.stream(plane) for plane in planes]
        return streams


def _packed(symbols: Words, bits: int) -> Bytes:
    """Symbols, each in a word of 16 bits, moved together into bytes; overwrites them."""
    pairs = symbols.view("<u4")
    np.bitwise_or(pairs, pairs >> np.uint32(16 - bits), out=pairs)
    if bits == 4:
        return pairs.astype(np.uint8)
    fours = symbols.view("<u8")
    np.bitwise_or(fours, fours >> np.uint64(28), out=fours)
    return fours.astype(np.uint8)


def _check(data: _Data, bases: Sequence[_Data], weight: int) -> None:
    if len(data) > _CAPACITY:
        raise UsageError(problem=f"a chunk has at most {_CAPACITY} bytes, not {len(data)}")
    if len(bases) > 2 or any(len(base) != len(data) for base in bases):
        raise UsageError(problem="a chunk is encoded against at most two others of its own length")
    if not 1 <= weight <= 15:
        raise UsageError(problem=f"a weight is 1 to 15 sixteenths, not {weight}")


def _choices(bases: Sequence[_Data]) -> Iterator[tuple[int, ...]]:
    """Which bases may be used: each alone, and both."""
    yield from ((number,) for number in range(len(bases)))
    if len(bases) == 2:
        yield 0, 1


def _cuts(bases: Sequence[_Data], weight: int, width: int, ranges: tuple[int, int]) -> classes.Cuts:
    """Cuts that leave about as many words in each of so many ranges of spread, and of size."""
    near = [np.frombuffer(base, f"<u{width}", len(base) // width)[::_LOOK_AT_KEYS].copy() for base in bases]
    spread = classes.cuts_of(classes.spread(*near), ranges[0]) if ranges[0] > 1 else b""
    return classes.Cuts(spread, classes.cuts_of(classes.size(near, weight), ranges[1]))


def _middles(data: _Data, bases: Sequence[_Data]) -> list[memoryview]:
    """The middle 64 KiB of a chunk and of its bases, from the beginning of a word."""
    start = max(len(data) - SAMPLE_BYTES, 0) // 2 // 16 * 16
    return [memoryview(one)[start : start + SAMPLE_BYTES] for one in (data, *bases)]
