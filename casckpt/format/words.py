"""Words taken apart into byte planes and put together again, at the speed of memory. All little-endian.

Plane i holds byte i of every word. Numpy moves bytes fastest where it narrows and widens integers in whole vectors,
and it does so from and to any address:

    split   plane i = the words that start at byte i, narrowed to 8 bits; reads nothing behind the data
    join    the high half of every word, widened, stored half a word further on, so that it lands where it belongs and
            puts zeros under it; then the low half is added (words of 8 bytes are stored by quarters)

Strided copies of single bytes are two to five times slower. Words are joined in blocks that stay in the cache.
Aligned words (format-v1.md, section 7) differ from plain ones in their top two planes only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.unsignedinteger]

_BLOCK_BYTES = 512 << 10
"""Words joined at a time: with planes and scratch within 2 MiB, and few enough blocks that their calls cost little."""

_MANY = 0.1
"""Share of hits from which one pass over all words is the fastest way to find them."""


def split(data: Bytes, planes: Bytes) -> None:
    """Write the planes of words.

    Args:
        data: whole words, shape (n * width,), n > 0.
        planes: receives plane i in row i, shape (width, n).
    """
    width, count = planes.shape
    for number, plane in enumerate(planes):
        np.copyto(plane[:-1], data[number : number + width * (count - 1)].view(f"<u{width}"), casting="unsafe")
        plane[-1] = data[width * (count - 1) + number]


def low_pairs(data: Bytes, pairs: Words) -> None:
    """Write the lower halves of words of 4 bytes to `pairs`, shape (n,) of 16 bits."""
    np.copyto(pairs, data.view("<u4"), casting="unsafe")


def places_of(words: Words, value: int) -> NDArray[np.intp]:
    """Numbers of the words that have a value, ascending.

    numpy goes through many hits in one pass, but searches for few of them one by one, at fifteen nanoseconds each. So
    groups of eight are looked at first, and then the words of those in which there is a hit: half of the time for hits
    of one to four in a hundred.
    """
    found = np.zeros(-(-len(words) // 8) * 8, np.bool_)
    np.equal(words, value, out=found[: len(words)])
    if np.count_nonzero(found) > len(found) * _MANY:
        return np.flatnonzero(found)
    groups = found.view(np.uint64)
    hit = np.flatnonzero(groups != 0)
    within = np.flatnonzero(groups[hit].view(np.bool_))
    places: NDArray[np.intp] = hit[within >> 3] * 8 + (within & 7)
    return places


def align(high: Bytes, low: Bytes, spare: Bytes) -> None:
    """Turn the top two planes into exponent and rest, in place.

    Args:
        spare: scratch of twice the length of a plane.
    """
    sign, carry = spare[: len(high)], spare[len(high) : 2 * len(high)]
    np.bitwise_and(high, 0x80, out=sign)
    # numpy shifts bytes one by one; comparing and adding does the same in vectors.
    np.greater_equal(low, 0x80, out=carry.view(np.bool_))
    np.add(high, high, out=high)
    np.add(high, carry, out=high)
    np.bitwise_and(low, 0x7F, out=low)
    np.bitwise_or(low, sign, out=low)


def join(out: Words, planes: list[Words], *, aligned: bool = False) -> None:
    """Write words from their planes.

    Args:
        out: receives the words, shape (n,); may lie at any address.
        planes: lowest first, shape (n,) each. The lower half of the word may be one array of half its width.
        aligned: the top two planes are exponent and rest of aligned words.
    """
    if len(out) == 0:
        return
    block = min(_BLOCK_BYTES // out.itemsize, len(out))
    # Enough for the tops of aligned words and what they are made from, or for a quarter of 8 bytes.
    spare = np.empty(block * out.itemsize, np.uint8)
    for start in range(0, len(out), block):
        part = out[start : start + block]
        here, rest = [plane[start : start + block] for plane in planes], spare
        if aligned:
            top = part
            if part.itemsize == 4:
                top, rest = spare[: 2 * len(part)].view("<u2"), spare[2 * len(part) :]
            here[-2:] = [_unaligned(here[-2], here[-1], top, rest)]
        joined = _joined(here, part, rest)
        if joined is not part:
            np.copyto(part, joined)


def _joined(planes: list[Words], part: Words, spare: Bytes) -> Words:
    """Words of the width of `part` from their planes: written to `part`, or an array that holds them already.

    Planes of one value for all words, which are views of stride 0, give words of one value at no cost.
    """
    if len(planes) == 1:
        return planes[0]
    if _same(planes):
        return np.broadcast_to(np.frombuffer(b"".join(plane[:1].tobytes() for plane in planes), part.dtype), len(part))
    if part.itemsize == 8:
        # Quarters joined and stored with strides beat halves of halves, and single bytes, by a tenth.
        quarters, quarter = part.view("<u2"), spare[: 2 * len(part)].view("<u2")
        for number in range(4):
            quarters[number::4] = _joined(planes[2 * number : 2 * number + 2], quarter, spare)
        return part
    half, size, cut = part.itemsize // 2, 0, 0
    while size < half:
        size += planes[cut].itemsize
        cut += 1
    short, rest = spare[: len(part) * half].view(f"<u{half}"), spare[len(part) * half :]
    high, raw = _joined(planes[cut:], short, rest), part.view(np.uint8)
    np.copyto(raw[half:-half].view(part.dtype), high[:-1])
    raw[:half] = 0
    raw[-half:] = high[-1:].view(np.uint8)
    np.add(part, _joined(planes[:cut], short, rest), out=part)
    return part


def _same(planes: list[Words]) -> bool:
    return all(plane.strides == (0,) for plane in planes)


def _unaligned(rest: Words, exponent: Words, top: Words, spare: Bytes) -> Words:
    """The top two bytes of words from the aligned form; in `top`, or of one value as in `_joined`."""
    if _same([rest, exponent]) and len(top) > 1:
        return np.broadcast_to(_unaligned(rest[:1].copy(), exponent[:1].copy(), top[:1], spare), len(top))
    # Widened as a signed number, `rest` has its sign in every bit above the mantissa; only the top one stays.
    np.copyto(top.view("<i2"), rest.view(np.int8))
    np.bitwise_and(top, 0x807F, out=top)
    shifted = spare[: 2 * len(top)].view("<u2")
    np.copyto(shifted, exponent)
    np.multiply(shifted, 128, out=shifted)
    np.add(top, shifted, out=top)
    return top
