"""A store at a glance, and what in it needs attention."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from casckpt.ops.values import Activity, RunInfo, Status
from casckpt.units import format_bytes, format_count, format_duration, format_ratio
from casckpt.view import text as t
from casckpt.view.charts import sparkline
from casckpt.view.history import METRICS_SHOWN, TROUBLED, is_bad, remarks, step
from casckpt.view.text import Cell, Look, safe

SPARK_WIDTH = 8
_GATE = {True: "best and recovery do not move there", False: "the health gate is off"}
"""What follows from NaN in a commit, by whether the health gate is on; of damage always what the gate does."""
ENDED_BADLY = ("failed", "cancelled", "preempted")


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
    following = next_command(status)
    yield from _section("Next", [] if following is None else [following], look)
    if not status.runs:
        yield look.paint(t.MUTED, "no commits yet: casckpt commit PATH makes the first")


def runs_lines(runs: Sequence[RunInfo], look: Look) -> Iterator[str]:
    """A line a run: how many commits, its newest one, its best and what best means."""
    rows = (
        [*cells[:3], Cell(look.id(run.last.id), t.ID), *cells[3:]] for run in runs for cells in [_run_cells(run, look)]
    )
    yield from t.columns(rows, look)


def _section(title: str, lines: list[str], look: Look) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield (look.paint(t.LABEL, title) if number == 0 else " " * len(title)) + " " * (7 - len(title)) + line


def _run_cells(run: RunInfo, look: Look) -> list[Cell]:
    found = run.activity
    usual = ""
    if found is not None and found.interval_ns is not None and found.interval_ns >= 10**9:
        usual = f" (every ~{format_duration(found.interval_ns / 1e9)})"
    return [
        _state(found, look),
        Cell(safe(run.name), cut=True),
        Cell(t.plural(run.commits, "commit"), right=True),
        Cell(step(run.last)),
        _metric(run),
        Cell("" if found is None else sparkline(found.recent, SPARK_WIDTH, ascii=look.ascii)),
        Cell(_best(run), t.GOOD),
        Cell(look.when(run.last.time_ns) + usual, t.MUTED),
        Cell("" if found is None else format_bytes(found.nbytes), right=True),
        Cell(remarks(run.last), t.BAD if is_bad(run.last) else t.MUTED),
    ]


def _state(found: Activity | None, look: Look) -> Cell:
    """What goes on in a run, with a mark that is filled while it runs."""
    if found is None:
        return Cell("")
    mark = ("●*" if found.state == "running" else "!!" if found.state in ENDED_BADLY else "○o")[look.ascii]
    role = t.GOOD if found.state == "running" else t.BAD if found.state in ENDED_BADLY else t.MUTED
    return Cell(f"{mark} {safe(found.state)}", role)


def _metric(run: RunInfo) -> Cell:
    """The metric a run is judged by, else its first ones."""
    name = None if run.activity is None else run.activity.metric
    if name is None or run.rule is None or name not in run.last.metrics:
        return Cell(t.metrics(run.last.metrics, METRICS_SHOWN))
    return Cell(t.metrics({name: run.last.metrics[name]}))


def _best(run: RunInfo) -> str:
    if run.best is None or run.rule is None:
        return ""
    name, _, way = run.rule.rpartition(":")
    place = step(run.best) or run.best.short
    return f"best {t.number(run.best.metrics.get(name))} at {place} ({way})"


def attention(status: Status) -> list[str]:
    """What someone should look at: room for less than one more commit, metrics that are no numbers, failed runs."""
    found = []
    largest = max(status.runs, key=lambda run: run.last.nbytes, default=None)
    if largest is not None and status.free is not None and status.free < largest.last.nbytes:
        need = format_bytes(largest.last.nbytes)
        found.append(f"{format_bytes(status.free)} free is less than one commit of {safe(largest.name)} ({need})")
    for run in status.runs:
        found += _troubles(run)
    return found


def _troubles(run: RunInfo) -> list[str]:
    """What is wrong in a run, by its newest commits."""
    found = []
    wrong = [safe(name) for name, value in run.last.metrics.items() if not math.isfinite(value)]
    lately = run.activity
    if lately is not None and lately.bad > bool(wrong):
        since = "" if lately.bad_since is None else f" since step {format_count(lately.bad_since)}"
        of = f"{format_count(lately.bad)} of its last {t.plural(lately.commits, 'commit')}"
        found.append(f"{safe(run.name)}: metrics not finite in {of}{since}")
    elif wrong:
        found.append(f"{safe(run.name)}: {', '.join(wrong)} not finite in its last commit {run.last.short}")
    if run.nonfinite:
        held = f"{t.plural(run.nonfinite, 'commit holds', 'commits hold')} NaN or Inf"
        found.append(f"{safe(run.name)}: {held}; {_GATE[run.health_gate]}")
    if run.damaged:
        hit = t.plural(run.damaged, "commit is", "commits are")
        found.append(f"{safe(run.name)}: {hit} damaged; {_GATE[True]}")
    if run.last.status in TROUBLED:
        found.append(f"{safe(run.name)}: its last commit {run.last.short} says {run.last.status}")
    return found


def next_command(status: Status) -> str | None:
    """The command that shows most of what needs attention, None if nothing does that a command could show."""
    troubled = next((run for run in status.runs if _troubles(run)), None)
    if troubled is None:
        return None
    count = max(1 if troubled.activity is None else troubled.activity.commits, 1)
    return f"casckpt log -r {_word(troubled.name)} --graph -n {count}"


def _word(text: str) -> str:
    """A text as one word for a shell."""
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII) else "'" + safe(text).replace("'", "'\\''") + "'"
