"""Runs side by side, as text: the verdict, where they part, what was set otherwise, their curves, their last states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

from casckpt.ops.comparison import (
    CheckResult,
    ComparedRun,
    Comparison,
    MetricComparison,
    MetricValue,
    RunMetric,
    TipDiff,
)
from casckpt.plan.series import Axis, Mode, Point, better
from casckpt.plan.verdict import place
from casckpt.units import format_count
from casckpt.view import charts
from casckpt.view import text as t
from casckpt.view.compare import differs, metadata_lines, tree_lines
from casckpt.view.history import named, step
from casckpt.view.text import Cell, Look, safe

CHART_WIDTH, CHART_HEIGHT = 80, 9
METRICS_SHOWN = 8

Lines = Iterator[str]


def comparison_differs(found: Comparison) -> bool:
    """Whether the runs differ in their history, what they were made with, or what they hold."""
    tips = (tip.diff is None or differs(tip.diff) for tip in found.tips)
    return len({run.last.id for run in found.runs}) > 1 or not found.metadata.is_empty or any(tips)


def comparison_lines(
    found: Comparison, look: Look, *, top: int, charted: Sequence[str] = (), checks: Sequence[CheckResult] = ()
) -> Lines:
    """A comparison for people.

    Args:
        top: how many leaves and metrics to show, 0: all.
        charted: the metrics to draw; without any the first.
    """
    yield from _verdict_lines(found, look)
    yield from _check_lines(checks, look)
    yield from _history_lines(found, look)
    yield from metadata_lines(found.metadata, look, found.names)
    for metric in [one for one in found.metrics if one.name in charted] or found.metrics[:1]:
        yield from _chart_lines(metric, found.names, found.axis, look)
    yield from _metric_lines(found, look, METRICS_SHOWN if top else 0)
    for tip in found.tips:
        yield from _tip_lines(tip, found.runs[0], look, top)


def _verdict_lines(found: Comparison, look: Look) -> Lines:
    label = look.paint(t.LABEL, "verdict")
    if found.better is not None:
        yield f"{label}  {look.paint(t.GOOD, safe(found.better))} is better"
    else:
        yield f"{label}  neither is better" if len(found.runs) == 2 else f"{label}  none is better"
    yield from (f"         {safe(clause)}" for clause in found.why.split("; "))


def _check_lines(checks: Sequence[CheckResult], look: Look) -> Lines:
    for number, result in enumerate(checks):
        label = look.paint(t.LABEL, "checks") + " " if number == 0 else " " * 7
        word = look.paint(t.BAD, "! failed") if result.failed else look.paint(t.GOOD, "passed")
        unit = " %" if result.check.endswith("%") else ""
        values = f"{t.number(result.first)} {look.arrow} {t.number(result.second)} ({result.change:+.4g}{unit})"
        yield f"{label}  {word}  {safe(result.check)}: {safe(result.run)} {values}"


def _history_lines(found: Comparison, look: Look) -> Lines:
    label = look.paint(t.LABEL, "history")
    if found.fork is None:
        yield f"{label}  no commits in common"
    else:
        yield f"{label}  {t.plural(found.shared, 'commit')} in common, up to {named(found.fork)}; since then"
    yield from t.columns((_run_cells(run, number, look) for number, run in enumerate(found.runs)), look, indent=" " * 9)


def _run_cells(run: ComparedRun, number: int, look: Look) -> list[Cell]:
    way = step(run.last)
    if run.first is not None and run.first.id != run.last.id:
        way = f"{step(run.first) or look.id(run.first.id)} to {way or look.id(run.last.id)}"
    return [
        Cell(safe(run.name), t.LINES[number % len(t.LINES)]),
        Cell(t.plural(run.commits, "commit"), right=True),
        Cell(way),
        Cell(look.id(run.last.id), t.ID),
        Cell("" if run.rule is None else f"best is {safe(run.rule)}", t.MUTED),
    ]


def _chart_lines(metric: MetricComparison, names: Sequence[str], axis: Axis, look: Look) -> Lines:
    """The curves of a metric; nothing if there is no curve but only points."""
    curves = [
        charts.Curve(name, [_drawn(point) for point in run.points], role)
        for name, run, role in zip(names, metric.runs, t.LINES, strict=False)
    ]
    places = [point.x for run in metric.runs for point in run.points] + [
        point.until for run in metric.runs for point in run.points
    ]
    if len(set(places)) < 2:
        return
    ends = (f"{axis} {place(min(places), axis)}", place(max(places), axis))
    width = min(CHART_WIDTH, look.width or CHART_WIDTH)
    yield look.paint(t.LABEL, safe(metric.name)) + ("" if metric.mode is None else f" ({metric.mode} is best)")
    yield from charts.line_chart(curves, look, width=width, height=CHART_HEIGHT, ends=ends)
    if len(names) > len(curves):
        yield look.paint(t.MUTED, f"the first {len(curves)} of {len(names)} runs are drawn")


def _drawn(point: Point) -> charts.Point:
    low = math.nan if point.low is None else point.low
    return charts.Point(point.x, low, low if point.high is None else point.high, point.bad > 0)


def _metric_lines(found: Comparison, look: Look, top: int) -> Lines:
    if not found.metrics:
        return
    titles = [Cell("metrics", t.LABEL), Cell("")]
    titles += [Cell(safe(name), t.LINES[number % len(t.LINES)]) for number, name in enumerate(found.names)]
    rows = [titles]
    for metric in islice(found.metrics, top or None):
        rows += _metric_rows(metric)
    yield from t.columns(rows, look)
    if top and len(found.metrics) > top:
        yield look.paint(t.MUTED, f"... {format_count(len(found.metrics) - top)} more metrics (--top 0 shows all)")


def _metric_rows(metric: MetricComparison) -> Iterator[list[Cell]]:
    """A line for each of the values that say how a metric went, the best ones first."""
    kinds = [("best", [run.best for run in metric.runs])] if metric.mode else []
    kinds.append(("last", [run.last for run in metric.runs]))
    if not metric.mode:
        kinds += [("min", [run.lowest for run in metric.runs]), ("max", [run.highest for run in metric.runs])]
    for number, (kind, values) in enumerate(kinds):
        name = Cell("" if number else safe(metric.name), cut=True)
        yield [name, Cell(kind, t.MUTED), *map(_value_cell, values), *_apart(values, metric.mode)]
    if any(run.bad for run in metric.runs):
        counts = [Cell(_not_finite(run), t.BAD if run.bad else t.PLAIN) for run in metric.runs]
        yield [Cell(""), Cell("not finite", t.MUTED), *counts]


def _not_finite(run: RunMetric) -> str:
    return f"{'! ' if run.bad else ''}{format_count(run.bad)} of {format_count(run.count)}"


def _value_cell(value: MetricValue | None) -> Cell:
    if value is None:
        return Cell("-")
    if value.step is not None:
        return Cell(f"{t.number(value.value)} @ {format_count(value.step)}")
    return Cell(t.number(value.value) + ("" if value.epoch is None else f" @ epoch {t.number(value.epoch)}"))


def _apart(values: Sequence[MetricValue | None], mode: Mode | None) -> list[Cell]:
    """How far the second of two values is from the first, and whether that is better."""
    if len(values) != 2 or values[0] is None or values[1] is None:
        return []
    before, after = values[0].value, values[1].value
    if before == after:
        return [Cell("equal", t.MUTED)]
    change = after - before
    text = "" if math.isnan(change) else f"{change:+.4g}"
    if math.isfinite(change) and before:
        text += f" ({100 * change / abs(before):+.1f} %)"
    ahead = None if mode is None else better(before, after, mode)
    if ahead is None:
        return [Cell(text)]
    return [Cell(f"{text} better".lstrip(), t.GOOD) if ahead else Cell(f"{text} worse".lstrip(), t.BAD)]


def _tip_lines(tip: TipDiff, first: ComparedRun, look: Look, top: int) -> Lines:
    yield f"{look.paint(t.LABEL, 'states')}   {safe(first.name)} {look.arrow} {safe(tip.run)}"
    if tip.diff is None:
        yield f"         not compared: {safe(tip.problem or '')}"
    else:
        yield from tree_lines(tip.diff, look, top=top)
