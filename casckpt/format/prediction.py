"""What a delta predicts from its bases, added to words and taken from them. Specification: format-v1.md, section 7.

One base predicts itself, p = b1. Two bases b1 and b2 predict a point between: with d = b2 - b1 as a signed word,
p = b1 + (d >> 1) for weight 8, else p = b1 + (d * weight, wrapped to a signed word) >> 4. Everything wraps.

Two bases, the words and a step of a whole chunk are more than the cache next to a core holds. So they are worked on in
blocks, which saves a fifth of the time and keeps the scratch small; still smaller blocks cost more calls than they
save.
"""

from __future__ import annotations

import numpy as np

from casckpt.format.words import Words

HALF = 8
"""Weight of the middle, in sixteenths."""
_BLOCK_BYTES = 256 << 10
_Data = bytes | bytearray | memoryview


def add_prediction(words: Words, bases: tuple[_Data, ...], weight: int) -> None:
    """Add to each word what the bases predict for it, in place.

    Args:
        words: shape (n,); may lie at any address.
        bases: one or two, each of at least n words.
        weight: of the second base in sixteenths, 1 to 15; not looked at if there is one base.
    """
    first, *second = _words(bases, words)
    if not second:
        np.add(words, first, out=words)
        return
    scratch = _scratch(words)
    for start in range(0, len(words), len(scratch)):
        part, near, far = (array[start : start + len(scratch)] for array in (words, first, second[0]))
        np.add(part, between(near, far, weight, scratch[: len(part)]), out=part)


def take_prediction(words: Words, bases: tuple[_Data, ...], weight: int, out: Words) -> None:
    """Write each word less what the bases predict for it; arguments as for `add_prediction`.

    Args:
        out: receives the residuals, shape (n,).
    """
    first, *second = _words(bases, words)
    if not second:
        np.subtract(words, first, out=out)
        return
    scratch = _scratch(words)
    for start in range(0, len(words), len(scratch)):
        part, near, far = (array[start : start + len(scratch)] for array in (words, first, second[0]))
        predicted = between(near, far, weight, scratch[: len(part)])
        np.subtract(part, predicted, out=out[start : start + len(part)])


def between(first: Words, second: Words, weight: int, out: Words) -> Words:
    """The words predicted between two bases, in `out`; `weight` as above."""
    np.subtract(second, first, out=out)
    step = out.view(f"<i{out.itemsize}")  # the same bytes
    if weight != HALF:
        np.multiply(step, step.dtype.type(weight), out=step)
    np.right_shift(step, 1 if weight == HALF else 4, out=step)
    return np.add(out, first, out=out)


def _words(bases: tuple[_Data, ...], like: Words) -> list[Words]:
    return [np.frombuffer(base, like.dtype, len(like)) for base in bases]


def _scratch(words: Words) -> Words:
    return np.empty(max(min(_BLOCK_BYTES // words.itemsize, len(words)), 1), words.dtype)
