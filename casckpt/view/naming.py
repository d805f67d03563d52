"""Names, pins, notes, runs and operations as text: what a change of them did, and what was done to a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from casckpt.ops.values import CommitInfo, RunInfo
from casckpt.view import text as t
from casckpt.view.history import commit_cells, named, one_line, pin_end, text_lines
from casckpt.view.json import plain
from casckpt.view.text import Cell, Look, safe

if TYPE_CHECKING:
    from casckpt.ops.journal_reports import DropChange, FactChange, Operation, RefChange, UndoReport

CHANGES_SHOWN = 1
VALUE_WIDTH = 40


def tag_line(name: str, commit: CommitInfo, look: Look, *, removed: bool, dry_run: bool) -> str:
    """What became, or would become, of a tag."""
    if removed:
        return f"{'would remove' if dry_run else 'removed'} tag {safe(name)} of {one_line(commit, look)}"
    return f"{safe(name)} {'would name' if dry_run else 'names'} {one_line(commit, look)}"


def pin_line(commit: CommitInfo, look: Look, *, dry_run: bool) -> str:
    """What became, or would become, of a pin."""
    would = "would be " if dry_run else "is "
    if not commit.pinned:
        return f"{named(commit)} {would}pinned no more"
    return f"{named(commit)} {would}pinned {pin_end(commit, look)}"


def pins_lines(commits: Sequence[CommitInfo], look: Look) -> Iterator[str]:
    """The pinned commits, and until when."""
    yield from t.columns(([*commit_cells(commit, look)[:4], Cell(pin_end(commit, look))] for commit in commits), look)


def note_lines(commit: CommitInfo, look: Look, *, dry_run: bool | None = None) -> Iterator[str]:
    """The note of a commit; with `dry_run` that it was made, or would be."""
    if dry_run is None:
        yield from text_lines(commit.note) if commit.note else ()
        return
    would = "would have" if dry_run else "has"
    if commit.note is None:
        yield f"{named(commit)} {would} no note"
        return
    yield f"{named(commit)} {would} the note"
    yield from (f"    {line}".rstrip() for line in text_lines(commit.note))


def run_line(action: str, run: RunInfo, look: Look, *, old: str = "", dry_run: bool = False) -> str:
    """What became, or would become, of a run that was forked, renamed (from `old`) or finished."""
    would = "would be " if dry_run else "is "
    if action == "fork":
        rule = f"; best is {safe(run.rule)}" if run.rule else ""
        return f"{safe(run.name)} {'would begin' if dry_run else 'begins'} at {named(run.last)}{rule}"
    if action == "rename":
        name = f"{safe(old)} {'would be' if dry_run else 'is now'} {safe(run.name)}"
        return f"{name}, {t.plural(run.commits, 'commit')}: {one_line(run.last, look)}"
    return f"{safe(run.name)} {would}finished: {safe(str(run.finished))}, at {named(run.last)}"


def operations_lines(operations: Sequence[Operation], look: Look) -> Iterator[str]:
    """A line an operation: its number, what it was, since when, what it changed, and whether it was taken back."""
    yield from t.columns((_operation_cells(operation, look) for operation in operations), look)


def _operation_cells(operation: Operation, look: Look) -> list[Cell]:
    texts = change_texts(operation, look)
    hidden = len(texts) - CHANGES_SHOWN
    shown = ", ".join([*texts[:CHANGES_SHOWN], *([f"+{hidden} more"] if hidden > 0 else [])])
    undone = f"taken back by {operation.undone_by}" if operation.undone_by is not None else ""
    undoes = f"{operation.op} {operation.undoes}" if operation.undoes is not None else operation.op
    return [
        Cell(str(operation.number), t.ID, right=True),
        Cell(safe(undoes)),
        Cell(look.when(operation.time_ns), t.MUTED),
        Cell(shown, cut=True),
        Cell(undone, t.REMOVED),
    ]


def undo_lines(report: UndoReport, look: Look) -> Iterator[str]:
    """What an undo took back, and what is now, or would be."""
    undone = report.undone
    verb = "would take back" if report.dry_run else "took back"
    yield f"{verb} operation {undone.number}, {safe(undone.op)}, {look.when(undone.time_ns)}"
    yield from (f"  {text}" for text in change_texts(report.operation, look))


def change_texts(operation: Operation, look: Look) -> list[str]:
    """Each change of an operation in words; that a run has another name before what follows from it."""
    renames = [_setting_text(change, look) for change in operation.settings if change.key == "renamed"]
    settings = [_setting_text(change, look) for change in operation.settings if change.key != "renamed"]
    refs = [_ref_text(change, look) for change in operation.refs]
    marks = [_mark_text(change, look) for change in operation.marks]
    return [*renames, *refs, *marks, *settings, *_drop_texts(operation.drops, look)]


def _drop_texts(drops: Sequence[DropChange], look: Look) -> Iterator[str]:
    """What commits lost or got back, alike ones in one text."""
    alike: dict[tuple[bool, tuple[str, ...] | None, str], list[str]] = {}
    for drop in drops:
        alike.setdefault((drop.restored, drop.parts, drop.rule), []).append(drop.commit)
    for (restored, parts, rule), commits in alike.items():
        what = "" if parts is None else f" {safe(', '.join(parts))} of"
        which = look.id(commits[0]) if len(commits) == 1 else t.plural(len(commits), "commit")
        yield f"restored{what} {which}" if restored else f"dropped{what} {which} by rule {safe(rule)}"


def _ref_text(change: RefChange, look: Look) -> str:
    tag = change.ref.removeprefix("tags/")
    name = safe(change.ref.removeprefix("runs/") if tag == change.ref else f"tag {tag}")
    old, new = ("nothing" if one is None else look.id(one) for one in (change.old, change.new))
    return f"{name} {look.arrow} {new}" if change.old is None else f"{name} {old} {look.arrow} {new}"


def _mark_text(change: FactChange, look: Look) -> str:
    place = f"{safe(change.key)} of {look.id(change.of)}"
    if change.new is None:
        return f"{place} removed"
    return f"{place}: {_value(change.new)}" if change.key == "note" else place


def _setting_text(change: FactChange, look: Look) -> str:
    run = safe(change.of)
    if change.key == "renamed":
        old, new = (one[-1][1] if one else "" for one in (change.old, change.new))
        return f"run {run} {look.arrow} {safe(new)}" if new and new != old else f"run {run} not {safe(old)} any more"
    value = change.new
    if change.key == "finished" and isinstance(value, dict):
        value = value.get("status")
    if change.key == "retention":
        return f"{run} keeps no policy" if value is None else f"{run} keeps by {_value(', '.join(value))}"
    if change.key == "best" and isinstance(value, list):
        value = ":".join(map(str, value))
    return f"{run} not {safe(change.key)} any more" if value is None else f"{run} {safe(change.key)} {_value(value)}"


def _value(value: Any) -> str:
    shown = safe(value.strip().partition("\n")[0] if isinstance(value, str) else str(plain(value)))
    return shown if len(shown) <= VALUE_WIDTH else shown[: VALUE_WIDTH - 3] + "..."
