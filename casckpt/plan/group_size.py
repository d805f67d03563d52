"""How many versions a group may have, and how tightly they may be coded, to be restored fast enough.

A version of a pyramid of n versions needs one plain record, one from a single base, and log2((n - 1) / 2) from two.
Records by classes (codec 7) are shorter, and their readers slower: so it is the deepest levels that get them, where
most versions are, and from which no other is decoded.
What each costs depends on the machine, on the width of words and on how well they compress: entropy coding is half of
the time of noise and nearly nothing of zeros. So all kinds are measured once per machine, on words that walk at random
with steps from coarse to fine. Between the measured points costs are read off a line, at the ratio that samples of a
leaf show.

The cost of a record is that of its check and of decoding it, and what any record costs, however short. The id of the
version that is wanted is counted with the plain record, since every restore has one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from casckpt.format.codec import worth
from casckpt.format.decode import decode_into
from casckpt.format.elements import element_code, word_bytes
from casckpt.format.ids import Kind, ObjectId, checksum, object_id
from casckpt.format.pack import Record
from casckpt.plan.groups import GROUP_SIZES

if TYPE_CHECKING:
    from casckpt.format.delta_encode import Delta, DeltaEncoder

Clock = Callable[[], float]
Curve = tuple[tuple[float, float], ...]
"""Points (stored bytes / plain bytes, seconds per plain byte), ratios ascending."""

WORST_PER_S = 120e6
MEAN_PER_S = {1: 190e6, 2: 220e6, 4: 190e6, 8: 190e6}
"""Plain bytes a second of one core at which the deepest version of a default group is restored, and all in turn, by the
width of words.

Whole states come back at 150 and 250 MB/s: of what AdamW keeps a third, the first moments, hardly compresses, is left
plain, and read in no time. A state in words of 2 bytes has the same number of tensors in half of the bytes, and what
each tensor costs beside its bytes counts twice.
"""
_SHORTEST = 128 << 10
"""Shorter versions count as this long: they are too small a part of a state to slow it down."""
_ALIKE = 1.005
"""Groups that take so little more than the smallest ones are taken if they are restored faster."""
_TYPES = {1: "int8", 2: "bfloat16", 4: "float32", 8: "float64"}
"""An element type for each width of words: its plain form stands for all of that width."""
_STEPS = (2.0**-3, 2.0**-6, 2.0**-9, 2.0**-13, 0.0)
"""Steps of the walks, against words of deviation 1: from hardly worth a delta to none at all."""
_CHUNK_BYTES = 1 << 20
_SHORT_BYTES = 1 << 10
_READING = 2
"""To look up, read and check a short record takes a reader about as long as to decode it."""
_COPIES = 4
"""Copies of a record that are decoded in turn, so that each has left the cache of the core when it comes up."""


@dataclass(frozen=True, slots=True)
class WordCosts:
    """What records of one width of words cost to decode: plain, from one base, from two, from two by classes.

    `record` is the seconds that any record costs, however short.
    """

    record: float
    plain: Curve
    one: Curve
    two: Curve
    classed: Curve


class Ratios(NamedTuple):
    """Stored bytes / plain bytes of the records of a leaf, as samples show them."""

    plain: float
    one: float
    two: float
    classed: float


class Grouping(NamedTuple):
    """How many versions a full group has, and how many of its deepest levels are coded by classes."""

    size: int
    classed: int = 0


def measure(clock: Clock, *, chunk_bytes: int = _CHUNK_BYTES) -> dict[int, WordCosts]:
    """Costs of this machine by width of words in bytes.

    Args:
        clock: CPU seconds of this thread so far.
        chunk_bytes: of the buffers that are decoded; chunks of another size find other caches.

    Cost: about a second and 16 MiB.
    """
    from casckpt.format.delta_encode import DeltaEncoder

    encoder = DeltaEncoder()
    return {width: _measure_words(encoder, width, clock, chunk_bytes) for width in _TYPES}


class Speeds(NamedTuple):
    """Plain bytes a second at which one core restores versions: the deepest one, and all of a group in turn."""

    worst: float
    mean: float


def restore_speeds(costs: WordCosts, ratios: Ratios, grouping: Grouping, nbytes: int = _CHUNK_BYTES) -> Speeds:
    """What a full group gives.

    Args:
        nbytes: plain bytes of each version.
    """
    record = costs.record / max(nbytes, _SHORTEST)
    plain, one = _at(costs.plain, ratios.plain) + record, _at(costs.one, ratios.one) + record
    if not grouping.classed and not worth(min(ratios.one, ratios.two), ratios.plain):
        return Speeds(1 / plain, 1 / plain)  # the encoder leaves all of them plain
    two, classed = _at(costs.two, ratios.two) + record, _at(costs.classed, ratios.classed) + record
    # The keyframe, both ends, and twice as many versions on each level as on the one above.
    seconds = [plain, *[plain + one] * 2]
    for level, by_classes in _levels(grouping):
        seconds += [seconds[-1] + (classed if by_classes else two)] * (1 << level)
    return Speeds(1 / seconds[-1], grouping.size / sum(seconds))


def stored_ratio(ratios: Ratios, grouping: Grouping) -> float:
    """Stored bytes / plain bytes of a full group, if all of its records were like the samples."""
    stored = ratios.plain + 2 * min(ratios.one, ratios.plain)
    for level, by_classes in _levels(grouping):
        stored += (1 << level) * min(ratios.classed if by_classes else ratios.two, ratios.one, ratios.plain)
    return stored / grouping.size


def _levels(grouping: Grouping) -> list[tuple[int, bool]]:
    """The levels below both ends from the highest, 1, and whether each is coded by classes."""
    levels = ((grouping.size - 1) // 2).bit_length() - 1
    return [(level, level > levels - grouping.classed) for level in range(1, levels + 1)]


def smallest_groups(
    costs: Mapping[int, WordCosts],
    element: int,
    ratios: Ratios,
    nbytes: int = _CHUNK_BYTES,
    *,
    worst: float = WORST_PER_S,
    mean: float | None = None,
) -> Grouping:
    """The groups that take the fewest bytes of those restored fast enough; the smallest of GROUP_SIZES if none is.

    Of groups that take nearly the same, those restored fastest; then the largest, which save where samples do not tell.

    Args:
        costs: by width of words, from `measure`.
        element: element type code of the leaf.
        nbytes: plain bytes of each version.
        worst, mean: bytes a second that are enough for the deepest version, and for all in turn.
    """
    mean = MEAN_PER_S[word_bytes(element)] if mean is None else mean
    enough = {}
    for grouping in (Grouping(size, classed) for size in GROUP_SIZES for classed in range(size.bit_length() - 1)):
        speeds = restore_speeds(costs[word_bytes(element)], ratios, grouping, nbytes)
        if speeds.worst >= worst and speeds.mean >= mean:
            enough[grouping] = speeds.mean
    most = _ALIKE * min((stored_ratio(ratios, one) for one in enough), default=0.0)
    alike = [one for one in enough if stored_ratio(ratios, one) <= most]
    return max(alike, key=lambda one: (enough[one], one.size), default=Grouping(GROUP_SIZES[0]))


def _measure_words(encoder: DeltaEncoder, width: int, clock: Clock, chunk_bytes: int) -> WordCosts:
    element = element_code(_TYPES[width])
    one: list[tuple[float, float]] = []
    two: list[tuple[float, float]] = []
    classed: list[tuple[float, float]] = []
    for step in _STEPS:
        first, middle, last = _walk(width, step, chunk_bytes)
        for curve, bases in ((one, (first,)), (two, (first, last)), (classed, (first, last))):
            delta = encoder.encode_from(middle, element, bases, classed=curve is classed)
            if delta is not None:
                curve.append(_point(delta, middle, element, bases, clock))
    hashing = _least(clock, partial(object_id, Kind.CHUNK), middle) / chunk_bytes
    plain = []
    for version in (middle, _walk(width, _STEPS[0], chunk_bytes, power=2)[0]):
        ratio, seconds = _point(encoder.encode(version, element, ()), version, element, (), clock)
        plain.append((ratio, seconds + hashing))
    first, middle, last = _walk(width, _STEPS[1], _SHORT_BYTES)
    short = encoder.encode_from(middle, element, (first, last)) or encoder.encode(middle, element, ())
    _, per_byte = _point(short, middle, element, (first, last) if short.bases else (), clock)
    record = _READING * per_byte * len(middle)
    return WordCosts(record, tuple(sorted(plain)), tuple(sorted(one)), tuple(sorted(two)), tuple(sorted(classed)))


def _point(delta: Delta, plain: bytes, element: int, bases: tuple[bytes, ...], clock: Clock) -> tuple[float, float]:
    """(stored bytes / plain bytes, seconds per plain byte) of checking and decoding a record."""
    stored, length = delta.stored, len(plain)
    record = Record(
        *(ObjectId(bytes(32)), 0, length, len(stored), Kind.CHUNK, delta.codec, element),
        base_1=int(len(bases) > 0),
        base_2=int(len(bases) > 1) * 2,
        weight=delta.weight,
    )

    target = memoryview(bytearray(length))

    def restore(stored: bytes) -> None:
        checksum(stored)
        decode_into(record, stored, target, bases)

    return len(stored) / length, _least(clock, restore, stored) / length


def _least(clock: Clock, action: Callable[[bytes], Any], data: bytes | bytearray | memoryview) -> float:
    """Seconds of the fastest call on a copy of some bytes: what disturbs one only adds. The first call warms up."""
    taken = []
    for copy in [bytes(bytearray(data)) for _ in range(_COPIES)]:
        start = clock()
        action(copy)
        taken.append(clock() - start)
    return min(taken[1:])


def _walk(width: int, step: float, length: int, *, power: int = 1) -> tuple[bytes, bytes, bytes]:
    """Three versions of a chunk of normally distributed numbers, the same every time.

    Args:
        power: of the numbers: squares are like second moments, which compress better and decode more slowly.
    """
    import numpy as np

    noise = np.random.default_rng(0)
    # Two bytes are the upper half of a float, bytes are integers of a few bits.
    count, dtype = length // width, np.float64 if width == 8 else np.float32
    version = noise.standard_normal(count, dtype)
    versions = []
    for _ in range(3):
        if width == 1:
            versions.append(np.rint(version**power * 20).clip(-128, 127).astype(np.int8).tobytes())
        elif width == 2:
            versions.append((version**power).view("<u2")[1::2].tobytes())
        else:
            versions.append((version**power).tobytes())
        version = version + dtype(step) * noise.standard_normal(count, dtype)
    return versions[0], versions[1], versions[2]


def _at(curve: Curve, ratio: float) -> float:
    """Seconds per byte at a ratio: on the line between the points around it, those of an end beyond it."""
    below = max((point for point in curve if point[0] <= ratio), default=curve[0])
    above = min((point for point in curve if point[0] >= ratio), default=curve[-1])
    if above[0] == below[0]:
        return below[1]
    return below[1] + (above[1] - below[1]) * (ratio - below[0]) / (above[0] - below[0])
