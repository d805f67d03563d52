"""Bundles as text: what went into one, and what one holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casckpt.ops.bundle_reports import BundledCommit, BundleInfo, BundleReport
from casckpt.units import format_bytes, format_count
from casckpt.view import text as t
from casckpt.view.text import Cell, Look, safe

NEEDS_SHOWN = 3


def created_lines(report: BundleReport, look: Look) -> Iterator[str]:
    """What is in a new bundle, or would be."""
    for name in report.refs:
        yield f"  {look.paint(t.REF, safe(name))}"
    verb = "would hold" if report.dry_run else "holds"
    what = f"{t.plural(report.commits, 'commit')}, {t.plural(report.objects, 'object')}, {format_bytes(report.nbytes)}"
    yield f"{safe(report.path)} {verb} {what}"
    yield from _needs_lines(report.needs, look)


def bundle_lines(found: BundleInfo, look: Look) -> Iterator[str]:
    """What a bundle holds: its refs, its commits, and what is wrong with it."""
    yield from t.fields(
        [
            ("bundle", safe(found.path)),
            ("made", f"{look.when(found.time_ns)} by {safe(found.by)}"),
            ("holds", f"{t.plural(found.objects, 'object')}, {format_bytes(found.nbytes)}"),
        ],
        look,
    )
    yield from _needs_lines(found.needs, look)
    rows = ([Cell(safe(ref.name), t.REF), Cell(look.id(ref.commit), t.ID)] for ref in found.refs)
    yield from t.columns(rows, look, indent="  ")
    yield from t.columns((_commit_cells(commit, look) for commit in found.commits), look)
    for problem in found.problems:
        yield look.paint(t.BAD, safe(problem))
    if found.verified:
        yield "damaged" if found.problems else "every object was compared with its id"


def _needs_lines(needs: Sequence[str], look: Look) -> Iterator[str]:
    if needs:
        shown = ", ".join(map(look.id, needs[:NEEDS_SHOWN]))
        more = f" and {len(needs) - NEEDS_SHOWN} more" if len(needs) > NEEDS_SHOWN else ""
        yield f"for stores that have {shown}{more}"


def _commit_cells(commit: BundledCommit, look: Look) -> list[Cell]:
    role = {"whole": t.GOOD, "thinned": t.CHANGED}.get(commit.content, t.MUTED)
    return [
        Cell(look.id(commit.id), t.ID),
        Cell(safe(commit.run), cut=True),
        Cell("" if commit.step is None else f"step {format_count(commit.step)}"),
        Cell(format_bytes(commit.nbytes)),
        Cell(look.when(commit.time_ns), t.MUTED),
        Cell(commit.content, role),
    ]
