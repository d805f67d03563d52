"""Metrics of runs along an axis: the curve of one run, in a bounded number of points, and curves against each other.

A curve is what the run stands for now. Where a run went back to an earlier step and measured again, what it had
measured from there on before is left out: the newer wins. So along a curve the axis only grows.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId

Number = int | float
Axis = Literal["step", "epoch", "time"]
Mode = Literal["min", "max"]
Line = Sequence[tuple[CommitId, Commit]]
"""Commits of a run along first parents, the newest first."""

AXES: tuple[Axis, ...] = ("step", "epoch", "time")


class Sample(NamedTuple):
    """What a metric was at a place of the axis."""

    x: Number
    value: Number


class Point(NamedTuple):
    """Samples next to each other, from `x` to `until`: the extremes of those that are finite, None if none is."""

    x: Number
    until: Number
    low: Number | None
    high: Number | None
    samples: int
    bad: int
    """How many are NaN or infinite."""


class Standing(NamedTuple):
    """How two curves stand at the end: which is ahead (0 or 1, None if neither), and since where without a break."""

    aligned: int
    """Places of the axis at which they were compared."""
    ahead: int | None
    since: Number | None


def placed(line: Line, axis: Axis) -> list[tuple[Number, Commit]]:
    """The commits of a run along an axis, in its order; those without a place and those that were redone left out.

    Commits at the same place stay: one may have what the other lacks.

    Args:
        axis: `time` counts seconds from the first commit of the line.
    """
    found: list[tuple[Number, Commit]] = []
    place = _places(line, axis)
    for _, commit in line:
        x = place(commit)
        if x is not None and math.isfinite(x) and (not found or x <= found[-1][0]):
            found.append((x, commit))
    return found[::-1]


def _places(line: Line, axis: Axis) -> Callable[[Commit], Number | None]:
    if axis == "time":
        origin = line[-1][1].time_ns if line else 0
        return lambda commit: (commit.time_ns - origin) / 1e9
    return lambda commit: getattr(commit, axis)


def samples(commits: Iterable[tuple[Number, Commit]], metric: str) -> list[Sample]:
    """The curve of a metric, from `placed` commits: one sample a place, the newest there is."""
    found: dict[Number, Number] = {}
    for x, commit in commits:
        value = commit.metrics.get(metric)
        if value is not None:
            found[x] = value
    return [Sample(x, value) for x, value in found.items()]


def points(curve: Sequence[Sample], span: tuple[Number, Number], count: int) -> list[Point]:
    """A curve in at most `count` points, one a sample if these are not more; else equal parts of the span.

    Args:
        span: the first and last place, the same for all curves that are to be seen together.
    """
    if len(curve) <= count:
        return [_point([sample]) for sample in curve]
    # Halves, since the distance of the ends of float64 is beyond it.
    first, width = span[0] / 2, (span[1] / 2 - span[0] / 2) or 1

    def part(sample: Sample) -> int:
        return min(int((sample.x / 2 - first) / width * count), count - 1)

    return [_point(list(share)) for _, share in groupby(curve, part)]


def _point(share: list[Sample]) -> Point:
    finite = [sample.value for sample in share if math.isfinite(sample.value)]
    low, high = (min(finite), max(finite)) if finite else (None, None)
    return Point(share[0].x, share[-1].x, low, high, len(share), len(share) - len(finite))


def aligned(
    left: Sequence[Sample], right: Sequence[Sample], *, carried: bool
) -> Iterator[tuple[Number, Number, Number]]:
    """Places of the axis with the values of two curves there.

    Args:
        carried: False takes the places that both have. True takes those that either has from where both have begun,
            with the newest value each had by then; for axes on which no two runs ever meet, as time.
    """
    if not carried:
        values = dict(right)
        yield from ((x, value, values[x]) for x, value in left if x in values)
        return
    starts = [[x for x, _ in curve] for curve in (left, right)]
    for x in sorted({*starts[0], *starts[1]}):
        before, other = (bisect_right(places, x) for places in starts)
        if before and other:
            yield x, left[before - 1].value, right[other - 1].value


def standing(pairs: Sequence[tuple[Number, Number, Number]], mode: Mode) -> Standing:
    """Who is ahead at the last place, and from which place on at every one.

    Args:
        pairs: as `aligned` gives them.
    """
    ahead: int | None = None
    since: Number | None = None
    for x, left, right in reversed(pairs):
        first = better(left, right, mode)
        if first is None or (ahead is not None and ahead != first):
            break
        ahead, since = first, x
    return Standing(len(pairs), ahead, since)


def better(left: Number, right: Number, mode: Mode) -> int | None:
    """Which of two values is better, 0 or 1; None if they are equal. NaN is worse than any number."""
    if math.isnan(left) or math.isnan(right):
        return None if math.isnan(left) and math.isnan(right) else int(math.isnan(left))
    if left == right:
        return None
    return int((left < right) != (mode == "min"))
