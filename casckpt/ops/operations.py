"""operations: what was done to a store, newest first, from the entries of its journal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from casckpt.errors import UsageError
from casckpt.format.entry import Entry
from casckpt.odb.database import Database
from casckpt.ops.journal_reports import DropChange, FactChange, Operation
from casckpt.ops.ref_changes import changes_of, entries_back

_INNER = ("snapshot", "keep")
"""What the journal writes down for itself: a restatement, and packs of a commit that was refused."""


def operations(database: Database, limit: int | None = None) -> Iterator[Operation]:
    """What was done, newest first.

    Raises:
        UsageError: a limit below 0.

    Cost: as of `entries_back`.
    """
    if limit is not None and limit < 0:
        raise UsageError(problem=f"limit must be 0 or more, not {limit}")
    database.refresh()
    return (operation for operation, _ in islice(done(database), limit))


def done(database: Database) -> Iterator[tuple[Operation, Entry]]:
    """Operations with their entries, newest first."""
    undone_by: dict[int, int] = {}
    for number, entry in entries_back(database):
        # Whoever undoes is newer, so it was seen before; an undo that was itself taken back has taken nothing back.
        if entry.undoes is not None and number not in undone_by:
            undone_by[entry.undoes] = number
        if entry.op not in _INNER:
            yield operation_of(number, entry, undone_by.get(number)), entry


def operation_of(number: int, entry: Entry, undone_by: int | None = None) -> Operation:
    """An entry as users see it."""
    settings = (
        FactChange(run, key, entry.before.get(run, {}).get(key), new)
        for run, changed in entry.runs.items()
        for key, new in changed.items()
    )
    return Operation(
        number=number,
        op=entry.op,
        time_ns=entry.time_ns,
        by=entry.by,
        note=entry.note,
        refs=tuple(changes_of(number, entry)),
        marks=tuple(FactChange(mark.commit.hex(), *mark[1:]) for mark in entry.marks if mark.old != mark.new),
        settings=tuple(change for change in settings if change.old != change.new),
        drops=tuple(
            DropChange(drop.commit.hex(), drop.parts, drop.rule, drop.cancelled)
            # Of a record that replaces another one only what is so from then on.
            for drop in {drop.commit: drop for drop in entry.drops}.values()
        ),
        undoes=entry.undoes,
        undone_by=undone_by,
    )
