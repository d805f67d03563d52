"""Numbers drawn with characters: sparklines, bars, curves. Any numbers can be drawn, and never wider than asked for.

A number that is NaN or infinite has no height; it is drawn as `!`, and no bucket of many numbers hides one. With
`ascii` only ASCII is used: other characters for the same heights, and a character of its own for every curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from casckpt.view import text as t
from casckpt.view.text import Look, safe

_HEIGHTS, _HEIGHTS_ASCII = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_BRAILLE = 0x2800
_DOTS = ((0x40, 0x80), (0x04, 0x20), (0x02, 0x10), (0x01, 0x08))
"""Bits of the dots of a braille character, by row from below and by column."""
_LETTERS = "*o+x"
_SEVERAL = "#"
BAD = "!"
_PLOT_MIN = 8
_PLOT_WITH_NAMES_MIN = 20
_NAME_MAX = 16

Number = int | float


class Point(NamedTuple):
    """Where a curve is at `x`: from `low` to `high`; `bad` if there is a number that is not finite too."""

    x: Number
    low: Number
    high: Number
    bad: bool = False


class Curve(NamedTuple):
    """A named line in the colour of a role; its points in order of their x."""

    name: str
    points: Sequence[Point]
    role: str = t.PLAIN


def sparkline(values: Iterable[Number | None], width: int, *, ascii: bool = False) -> str:
    """Numbers as a line of heights, the lowest to the highest of them; None is a gap, what is not finite a `!`.

    Of more numbers than columns each column shows the one of its share that lies furthest from the median of all, so
    that a single peak stays visible.
    """
    numbers = list(values)
    finite = sorted(float(number) for number in numbers if number is not None and math.isfinite(number))
    heights = _HEIGHTS_ASCII if ascii else _HEIGHTS
    columns = min(len(numbers), max(width, 0))

    def drawn(share: Sequence[Number | None]) -> str:
        known = [float(number) for number in share if number is not None]
        if not known:
            return " "
        if not all(map(math.isfinite, known)):
            return BAD
        shown = max(known, key=lambda number: abs(number / 2 - finite[len(finite) // 2] / 2))
        return heights[_place(shown, finite[0], finite[-1], len(heights))]

    count = len(numbers)
    return "".join(drawn(numbers[at * count // columns : (at + 1) * count // columns]) for at in range(columns))


def bar(share: float, width: int, *, ascii: bool = False) -> str:
    """A share from 0 to 1 as the length of a bar of at most `width` columns, in eighths of them.

    Shares beyond are drawn as the nearest; empty is drawn only what is 0, full only what is 1.
    """
    if math.isnan(share):
        return BAD[: max(width, 0)]
    parts = 1 if ascii else len(_EIGHTHS)
    whole = max(width, 0) * parts
    filled = round(min(max(share, 0.0), 1.0) * whole)
    if 0 < share < 1 and whole > 1:
        filled = min(max(filled, 1), whole - 1)
    full, rest = divmod(filled, parts)
    return ("#" if ascii else "█") * full + (_EIGHTHS[rest] if rest else "")


def line_chart(
    curves: Sequence[Curve], look: Look, *, width: int, height: int = 8, ends: tuple[str, str] = ("", "")
) -> Iterator[str]:
    """Up to four curves over one axis, each named where it ends; nothing if no number is finite.

    A column shows all from the lowest to the highest number in it, so no peak is lost. Where a curve has a number that
    is not finite it is interrupted, and a line below says so.

    Args:
        width: columns in all, 1 or more. height: lines of the curves alone, 1 or more.
        ends: what to write below the first and the last x.
    """
    shown = [point for curve in curves for point in curve.points if math.isfinite(point.x)]
    heights = [float(y) for point in shown for y in (point.low, point.high) if math.isfinite(y)]
    if not heights:
        return
    low, high = min(heights), max(heights)
    labels = _labels(low, high, height)
    left = max(map(len, labels.values())) + 2
    names = max(t.width(_name(curve.name)) for curve in curves) + 1
    left = left if width - left >= _PLOT_MIN else 0
    names = names if width - left - names >= _PLOT_WITH_NAMES_MIN else 0
    plot = _Plot(width - left - names, height, look.ascii)
    xs = [float(point.x) for point in shown]
    for number, curve in enumerate(curves):
        plot.draw(number, curve.points, (min(xs), max(xs)), (low, high))
    placed = _names_by_row(plot, curves) if names else {}
    axis = "|" if look.ascii else "┤"

    def beside(label: str) -> str:
        return f"{label.rjust(left - 2)}{axis} " if left else ""

    for row in reversed(range(height)):
        named = curves[placed[row]] if row in placed else None
        line = plot.line(row, [curve.role for curve in curves], look, padded=named is not None)
        name = "" if named is None else " " + look.paint(named.role, _name(named.name))
        yield (beside(labels.get(row, "")) + line + name).rstrip()
    if plot.bad:
        marks = "".join(BAD if column in plot.bad else " " for column in range(max(plot.bad) + 1))
        yield beside(BAD) + look.paint(t.BAD, marks)
    first, last = map(safe, ends)
    room = plot.width - t.width(first) - t.width(last)
    if (first.strip() or last.strip()) and room > 0:
        yield " " * left + look.paint(t.MUTED, (first + " " * room + last).rstrip())


class _Plot:
    """A grid of dots, two by four in a braille character, and which curves went through each character."""

    def __init__(self, width: int, height: int, ascii: bool) -> None:
        self.width, self.height = width, height
        self.bad: set[int] = set()
        self.ends: dict[int, int] = {}
        """The row in which a curve ends."""
        self._ascii = ascii
        self._across, self._up = (1, 1) if ascii else (2, 4)
        self._columns, self._rows = width * self._across, height * self._up
        self._cells: dict[tuple[int, int], tuple[int, set[int]]] = {}

    def draw(self, number: int, points: Iterable[Point], xs: tuple[float, float], ys: tuple[float, float]) -> None:
        before: tuple[int, int, int] | None = None
        for point in points:
            if not math.isfinite(point.x):
                continue
            column = _place(float(point.x), *xs, self._columns)
            if point.bad or not (math.isfinite(point.low) and math.isfinite(point.high)):
                self.bad.add(column // self._across)
            if not (math.isfinite(point.low) and math.isfinite(point.high)):
                before = None
                continue
            low, high = (_place(float(y), *ys, self._rows) for y in (point.low, point.high))
            for at, bottom, top in _joined(before, (column, low, high)):
                for row in range(bottom, top + 1):
                    self._dot(number, at, row)
            before = column, low, high
            self.ends[number] = (low + high) // 2 // self._up

    def _dot(self, number: int, column: int, row: int) -> None:
        cell = column // self._across, row // self._up
        bits, curves = self._cells.get(cell, (0, set()))
        self._cells[cell] = bits | _DOTS[row % self._up][column % self._across], curves | {number}

    def line(self, row: int, roles: Sequence[str], look: Look, *, padded: bool) -> str:
        """The characters of a row, in the colour of the curve that alone goes through them."""
        found = [self._cell(column, row) for column in range(self.width)]
        while not padded and found and found[-1][0] == " ":
            found.pop()
        runs = groupby(found, key=lambda cell: cell[1])
        return "".join(
            look.paint(t.PLAIN if number is None else roles[number], "".join(char for char, _ in run))
            for number, run in runs
        )

    def _cell(self, column: int, row: int) -> tuple[str, int | None]:
        bits, curves = self._cells.get((column, row), (0, ()))
        if not curves:
            return " ", None
        only = next(iter(curves)) if len(curves) == 1 else None
        if not self._ascii:
            return chr(_BRAILLE + bits), only
        return _SEVERAL if only is None else _LETTERS[only % len(_LETTERS)], only


def _joined(before: tuple[int, int, int] | None, now: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Columns with their lowest and highest dot from behind one point up to the next, without holes between them."""
    column, low, high = now
    if before is None:
        yield now
        return
    start, reached_low, reached_high = before
    middle, last = (reached_low + reached_high) / 2, (low + high) / 2
    for at in range(start + 1, column + 1):
        row = round(middle + (last - middle) * (at - start) / (column - start))
        bottom, top = (low, high) if at == column else (row, row)
        bottom, top = min(bottom, reached_high + 1), max(top, reached_low - 1)
        yield at, bottom, top
        reached_low, reached_high = bottom, top
    if column <= start:
        yield column, min(low, reached_high), max(high, reached_low)


def _names_by_row(plot: _Plot, curves: Sequence[Curve]) -> dict[int, int]:
    """The curve to be named in a row: each where it ends, or in the nearest row that is free."""
    placed: dict[int, int] = {}
    for number, end in sorted(plot.ends.items(), key=lambda item: (-item[1], item[0])):
        free = sorted((abs(row - end), -row) for row in range(plot.height) if row not in placed)
        if free:
            placed[-free[0][1]] = number
    return placed


def _labels(low: float, high: float, height: int) -> dict[int, str]:
    """What to write beside rows: the highest number, the lowest, and the one between where there is room."""
    found = {0: t.number(low), height - 1: t.number(high)}
    if height >= 5:
        found[height // 2] = t.number(low / 2 + high / 2)
    return found


def _name(name: str) -> str:
    text = safe(name)
    while t.width(text) > _NAME_MAX:
        text = text[:-1]
    return text


def _place(number: float, low: float, high: float, count: int) -> int:
    """Which of `count` equal parts from `low` to `high` a number is in; the middle one if there is nothing between."""
    if high <= low:
        return (count - 1) // 2
    # Halves, since the distance of the ends of float64 is beyond it; but not of the smallest numbers, which have none.
    span = high - low
    share = (number - low) / span if math.isfinite(span) else (number / 2 - low / 2) / (high / 2 - low / 2)
    return min(max(int(share * count), 0), count - 1)
