"""Exports and imports as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from casckpt.units import format_bytes, format_count
from casckpt.view import text as t
from casckpt.view.text import Cell, Look, safe

if TYPE_CHECKING:
    from casckpt.ops.reports import ExportReport, ImportedCheckpoint, ImportReport


def export_lines(report: ExportReport, look: Look) -> Iterator[str]:
    """What was written where."""
    source = f"{report.commit[:12]}:{report.part}" if report.part else report.commit[:12]
    what = f"{report.format}, {t.plural(report.leaves, 'leaf', 'leaves')}, {format_bytes(report.nbytes)}"
    yield f"{look.paint(t.ID, safe(source))} {look.arrow} {safe(report.path)} ({what}){t.would(report.dry_run)}"


def import_lines(report: ImportReport, look: Look) -> Iterator[str]:
    """A line a checkpoint, then how many there are of each kind."""
    yield from t.columns((_cells(one) for one in report.checkpoints), look)
    failed = [one for one in report.checkpoints if one.problem is not None]
    skipped = sum(1 for one in report.checkpoints if one.skipped)
    done = len(report.checkpoints) - len(failed) - skipped
    verb = "would be imported" if report.dry_run else "imported"
    parts = [f"{t.plural(done, 'checkpoint')} {verb} into {safe(report.run)}"]
    parts += [f"{format_count(skipped)} already there"] if skipped else []
    parts += [look.paint(t.BAD, f"{format_count(len(failed))} failed")] if failed else []
    yield ", ".join(parts)
    for one in report.checkpoints:
        if one.opaque:
            yield look.paint(
                t.MUTED, f"- {safe(one.name)}: as bytes, for they are pickles: {safe(', '.join(one.opaque))}"
            )
    for one in failed:
        yield look.paint(t.BAD, f"! {safe(one.name)}: {safe(one.problem or '')}")


def _cells(one: ImportedCheckpoint) -> list[Cell]:
    words = [f"step {format_count(one.step)}"] if one.step is not None else []
    words += [f"epoch {t.number(one.epoch)}"] if one.epoch is not None else []
    state = "failed" if one.problem is not None else "already there" if one.skipped else ""
    return [
        Cell("" if one.commit is None else one.commit[:12], t.ID),
        Cell(safe(one.name)),
        Cell(", ".join(words)),
        Cell(t.metrics(one.metrics)),
        Cell(format_bytes(one.nbytes), right=True),
        Cell("" if one.added is None else f"+{format_bytes(one.added)}", right=True),
        Cell(state, t.BAD if one.problem is not None else t.MUTED),
    ]
