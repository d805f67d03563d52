"""What a repack did, in lines."""

from __future__ import annotations

from collections.abc import Iterator

from casckpt.ops.repack_reports import RepackedWindow, RepackReport
from casckpt.units import format_bytes, format_count
from casckpt.view import text as t
from casckpt.view.text import Cell, Look, safe

_REASONS = {
    "limit": "left, as the time was over",
    "few": "left until more of their run wait",
    "space": "left, as the disk has too little room for what they become",
    "busy": "whose old packs are still there, as somebody was committing; the next collection removes them",
}


def repack_lines(report: RepackReport, look: Look) -> Iterator[str]:
    """A line a window, what it saved, and what was left."""
    yield from t.columns((_cells(window, look) for window in report.windows), look)
    commits = sum(window.commits for window in report.windows)
    if not report.windows and not report.written:
        yield "nothing to pack"
    elif report.dry_run:
        yield f"{t.plural(commits, 'commit')} would be packed: {format_bytes(report.nbytes)} of states"
    else:
        saved = report.before - report.after
        said = "smaller" if saved >= 0 else look.paint(t.CHANGED, "larger")
        sizes = f"{format_bytes(report.before)} {look.arrow} {format_bytes(report.after)}"
        yield f"{t.plural(commits, 'commit')} packed: {sizes}, {format_bytes(abs(saved))} {said}"
        groups = ", ".join(f"{format_count(count)} of {size}" for size, count in report.groups.items())
        yield look.paint(
            t.MUTED,
            f"{t.plural(report.deltas, 'chunk')} as deltas, {format_count(report.plain)} plain"
            + (f"; groups: {groups}" if groups else ""),
        )
    for reason, count in report.left.items():
        what = "window" if reason == "busy" else "commit"
        yield look.paint(t.MUTED, f"{t.plural(count, what)} {_REASONS[reason]}")


def _cells(window: RepackedWindow, look: Look) -> list[Cell]:
    first, last = window.first_step, window.last_step
    steps = "" if first is None or last is None else f"steps {format_count(first)} to {format_count(last)}"
    return [
        Cell(safe(window.run), t.REF, cut=True),
        Cell(steps),
        Cell(t.plural(window.commits, "commit"), right=True),
        Cell(t.plural(window.packs, "pack"), right=True),
        Cell(f"{format_bytes(window.stored)} stored", right=True),
    ]
