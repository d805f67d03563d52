"""Where the bytes are, and what drops would free, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casckpt.ops.du_reports import DROPPED, THINNED, WAITING, DropCost, DropPlan, UsageReport, UsageRow
from casckpt.units import format_bytes, format_count, format_ratio
from casckpt.view import text as t
from casckpt.view.charts import bar
from casckpt.view.text import Cell, Look, safe

BAR_WIDTH = 10
_STATES = {THINNED: t.CHANGED, WAITING: t.MUTED, DROPPED: t.REMOVED}


def usage_lines(report: UsageReport, look: Look, limit: int | None = None) -> Iterator[str]:
    """The store as a whole, then a row for each run, commit, component or dtype, the largest first.

    Args:
        limit: at most this many rows; one line more tells what the others have.
    """
    yield from t.columns(_totals(report), look)
    if not report.rows:
        return
    yield ""
    shown = report.rows[:limit]
    largest = max(1, *(row.reached for row in report.rows))
    rows = [_row_cells(row, report, largest, look) for row in shown]
    yield from t.columns(rows, look)
    hidden = report.rows[len(shown) :]
    if hidden:
        unique = sum(row.unique for row in hidden)
        yield look.paint(t.MUTED, f"and {format_count(len(hidden))} more with {format_bytes(unique)} of their own")
    chosen = "" if report.commits == report.all_commits else f", of {t.plural(report.commits, 'chosen commit')}"
    yield f"{format_bytes(report.unique)} unique and {format_bytes(report.shared)} shared in all{chosen}"
    if report.unreadable:
        packs = t.plural(report.unreadable, "pack")
        yield look.paint(t.BAD, f"{packs} without a table of contents that can be read: casckpt fsck names them")


def _totals(report: UsageReport) -> Iterator[list[Cell]]:
    """What the files of the store are made of."""
    chosen = " chosen" if report.commits < report.all_commits else ""
    ratio = "" if chosen else f" ({format_ratio(report.logical, report.stored + report.waiting)})"
    commits = t.plural(report.commits, f"{chosen} commit".lstrip())
    yield _total("logical", report.logical, f"plain bytes of {commits}{ratio}")
    yield _total("stored", report.stored, f"that commits need, in {t.plural(report.packs, 'pack')} and the journal")
    if report.waiting:
        yield _total("waiting", report.waiting, "of dropped commits, which undo brings back")
    if report.dead:
        yield _total("dead", report.dead, "that nothing needs; casckpt gc removes packs of nothing else")
    yield _total("overhead", report.overhead, "tables, padding, journal, index")
    yield _total("files", report.files.total, "on the disk")


def _total(name: str, nbytes: int, what: str) -> list[Cell]:
    return [Cell(name, t.LABEL), Cell(format_bytes(nbytes), right=True), Cell(what, t.MUTED, cut=True)]


def _row_cells(row: UsageRow, report: UsageReport, largest: int, look: Look) -> list[Cell]:
    return [
        *_name_cells(row, report.by, look),
        Cell("" if report.by == "commit" else t.plural(row.commits, "commit"), right=True),
        Cell(f"{format_bytes(row.logical)} logical", right=True),
        Cell(f"{format_bytes(row.unique)} unique", right=True),
        Cell(f"{format_bytes(row.shared)} shared", right=True),
        Cell(bar(row.unique / largest, BAR_WIDTH, ascii=look.ascii), t.GOOD),
        Cell(_codecs(row), t.MUTED, cut=True),
    ]


def _codecs(row: UsageRow) -> str:
    """How the records of a dtype are stored. Of metadata nobody needs to know: nothing packs it better."""
    found = () if row.name is None else row.codecs
    return ", ".join(f"{codec.codec} {format_bytes(codec.stored)}" for codec in found)


def _name_cells(row: UsageRow, by: str, look: Look) -> list[Cell]:
    if row.name is None:
        return [Cell("(metadata)", t.MUTED)]
    if by != "commit":
        return [Cell(safe(row.name) or "(root)", cut=True)]
    return [
        Cell(look.id(row.name), t.ID),
        Cell(safe(row.run or ""), cut=True),
        Cell("" if row.step is None else f"step {format_count(row.step)}"),
        Cell(row.state if row.state in _STATES else "", _STATES.get(row.state or "", t.PLAIN)),
    ]


def drop_plan_lines(plan: DropPlan, look: Look) -> Iterator[str]:
    """What each commit would free, and what all of them."""
    yield from t.columns((_cost_cells(commit, look) for commit in plan.commits), look)
    if plan.already:
        yield f"{t.plural(len(plan.already), 'commit')} dropped before"
    what = t.plural(len(plan.commits), "commit")
    yield f"{format_bytes(plan.freed)} would be freed by dropping {what} and casckpt gc after the grace"
    yield f"{format_bytes(plan.pack_bytes)} by removing {t.plural(plan.packs, 'pack')} as a whole"
    held = [commit for commit in plan.commits if commit.held]
    if held:
        yield f"{t.plural(len(held), 'commit')} cannot be dropped, as a name or a pin holds {_them(held)}"


def _them(held: Sequence[DropCost]) -> str:
    return "it" if len(held) == 1 else "them"


def _cost_cells(commit: DropCost, look: Look) -> list[Cell]:
    return [
        Cell(look.id(commit.id), t.ID),
        Cell(safe(commit.run), cut=True),
        Cell("" if commit.step is None else f"step {format_count(commit.step)}"),
        Cell(f"{format_bytes(commit.alone)} alone", right=True),
        Cell(f"{format_bytes(commit.together)} with those before", right=True),
        Cell(safe(", ".join(commit.held)), t.REF, cut=True),
    ]
