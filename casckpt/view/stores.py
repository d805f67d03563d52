"""A store at a glance, and what in it needs attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from casckpt.ops.values import RunInfo, Status
from casckpt.units import format_bytes, format_ratio
from casckpt.view import text as t
from casckpt.view.history import METRICS_SHOWN, remarks, step
from casckpt.view.text import Cell, Look, safe

_TROUBLED = ("failed", "cancelled")


def status_lines(status: Status, look: Look) -> Iterator[str]:
    """The store, its runs with the newest first, its tags, and what needs attention."""
    ratio = format_ratio(status.logical, status.stored)
    free = "" if status.free is None else f", {format_bytes(status.free)} free"
    size = f"{format_bytes(status.logical)} in {format_bytes(status.stored)} stored ({ratio}){free}"
    counts = f"{t.plural(status.commits, 'commit')}, {t.plural(len(status.runs), 'run')}"
    yield f"{look.paint(t.LABEL, 'Store')}  {safe(status.path)}"
    yield f"       {counts}, {size}"
    runs = list(t.columns((_run_cells(run, look) for run in status.runs), look))
    yield from _section("Runs", runs, look)
    tags = t.columns(
        ([Cell(safe(name), t.REF), Cell(tag[:12], t.ID)] for name, tag in sorted(status.tags.items())), look
    )
    yield from _section("Tags", list(tags), look)
    yield from _section("Look", [look.paint(t.BAD, f"! {line}") for line in attention(status)], look)
    if not status.runs:
        yield look.paint(t.MUTED, "no commits yet: casckpt commit PATH makes the first")


def runs_lines(runs: Sequence[RunInfo], look: Look) -> Iterator[str]:
    """A line a run: how many commits, its newest one, its best and what best means."""
    rows = (
        [*cells[:2], Cell(look.id(run.last.id), t.ID), *cells[2:]] for run in runs for cells in [_run_cells(run, look)]
    )
    yield from t.columns(rows, look)


def _section(title: str, lines: list[str], look: Look) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield (look.paint(t.LABEL, title) if number == 0 else " " * len(title)) + " " * (7 - len(title)) + line


def _run_cells(run: RunInfo, look: Look) -> list[Cell]:
    return [
        Cell(safe(run.name)),
        Cell(t.plural(run.commits, "commit"), right=True),
        Cell(step(run.last)),
        Cell(t.metrics(run.last.metrics, METRICS_SHOWN)),
        Cell(look.when(run.last.time_ns), t.MUTED),
        Cell(_best(run), t.GOOD),
        Cell(remarks(run.last), t.MUTED),
    ]


def _best(run: RunInfo) -> str:
    if run.best is None or run.rule is None:
        return ""
    name, _, way = run.rule.rpartition(":")
    place = step(run.best) or run.best.short
    return f"best {safe(name)} {t.number(run.best.metrics.get(name))} at {place} ({way})"


def attention(status: Status) -> list[str]:
    """What someone should look at: room for less than one more commit, metrics that are no numbers, failed runs."""
    found = []
    largest = max(status.runs, key=lambda run: run.last.nbytes, default=None)
    if largest is not None and status.free is not None and status.free < largest.last.nbytes:
        need = format_bytes(largest.last.nbytes)
        found.append(f"{format_bytes(status.free)} free is less than one commit of {safe(largest.name)} ({need})")
    for run in status.runs:
        wrong = [safe(name) for name, value in run.last.metrics.items() if not math.isfinite(value)]
        if wrong:
            found.append(f"{safe(run.name)}: {', '.join(wrong)} not finite in its last commit {run.last.short}")
        if run.last.status in _TROUBLED:
            found.append(f"{safe(run.name)}: its last commit {run.last.short} says {run.last.status}")
    return found
