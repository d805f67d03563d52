"""Classes of words: those whose residuals are likely to be alike. Specification: format-v1.md, section 7.

How far a word of a weight moves while it is trained depends on the word: an update is of much the same size for all,
which is many units of the last place where a weight is small, and few where it is large. And a word that moved far
between two bases is likely to lie far from their middle. Writer and reader know both before they know the residual:

    size      the 8 bits below the sign of what is predicted: of a float32 or bfloat16 its exponent
    spread    those of b2 - b1 as a float32, if there are two bases

Cuts divide each into ranges, and a class is a range of both. What is compressed class by class takes 2 to 4 % less of
float32 and up to a third less of weights in bfloat16. Classes by 15 cuts are hardly better than by a few of each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from casckpt.format.prediction import between
from casckpt.format.words import Bytes, Words

SIZE_SHIFT = {2: 7, 4: 23}
"""Bits below the size of a word, by its width in bytes. Words of other widths have no classes."""
MAX_CUTS = 15
_FEW = 8
"""Classes up to which words are searched for one class after the other."""
_BLOCK = 32 << 10
"""Words whose class is found at a time: with bases and scratch they stay in the cache next to a core."""
_Data = bytes | bytearray | memoryview


class Cuts(NamedTuple):
    """The lowest value of each range but the first; ascending, at most MAX_CUTS of each."""

    spread: bytes
    size: bytes


def places(cuts: Cuts, bases: Sequence[_Data], weight: int, words: Words) -> list[NDArray[np.intp]]:
    """Numbers of the words of each class, ascending; classes by spread, then by size.

    Args:
        bases: one or two; two if there are cuts of spread.
        weight: of the second base in sixteenths; not looked at if there is one base.
        words: like those that are to be divided: their width and number are.

    Cost: 8 bytes of memory for each word.
    """
    near = [np.frombuffer(base, words.dtype, len(words)) for base in bases]
    classes = np.zeros(len(words), np.uint8)
    for start in range(0, len(words), _BLOCK):
        part = classes[start : start + _BLOCK]
        blocks = [base[start : start + _BLOCK] for base in near]
        if cuts.spread:
            _count(part, spread(*blocks), cuts.spread)
            np.multiply(part, len(cuts.size) + 1, out=part)
        if cuts.size:
            _count(part, size(blocks, weight), cuts.size)
    count = (len(cuts.spread) + 1) * (len(cuts.size) + 1)
    if count <= _FEW:
        return [np.flatnonzero(classes == number) for number in range(count)]
    # Sorting costs as much for many classes as searching does for eight.
    ends = np.cumsum(np.bincount(classes, minlength=count))
    return np.split(np.argsort(classes, kind="stable"), ends[:-1])


def spread(first: Words, second: Words) -> Bytes:
    """How far words are from each other."""
    step = np.subtract(second, first).view(f"<i{first.itemsize}").astype("<f4").view("<u4")
    return _byte(step, SIZE_SHIFT[4])


def size(bases: Sequence[Words], weight: int) -> Bytes:
    """How large what one or two bases predict is."""
    predicted = bases[0] if len(bases) == 1 else between(bases[0], bases[1], weight, np.empty_like(bases[0]))
    return _byte(predicted, SIZE_SHIFT[predicted.itemsize])


def cuts_of(key: Bytes, ranges: int) -> bytes:
    """Cuts of a key that leave about as many words in each of so many ranges."""
    counts = np.bincount(key, minlength=256)
    middles = np.cumsum(counts) - counts / 2
    numbers = np.minimum(middles * ranges // max(len(key), 1), ranges - 1)
    return bytes((np.flatnonzero(np.diff(numbers)) + 1).tolist())


def _byte(words: Words, shift: int) -> Bytes:
    """The 8 bits above so many."""
    found: Bytes = (words >> shift).astype(np.uint8)
    return found


def _count(part: Bytes, key: Bytes, cuts: bytes) -> None:
    """Add to each number how many cuts are not above its key."""
    for cut in cuts:
        np.add(part, (key >= cut).view(np.uint8), out=part)
