"""The journal read back: its entries from the newest to the oldest, and what they say of refs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from casckpt.format.entry import Entry
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.odb.notices import warn

if TYPE_CHECKING:
    from casckpt.ops.reports import RefChange


def entries_back(database: Database) -> Iterator[tuple[int, Entry]]:
    """(number, entry) of every entry, newest first. Of snapshots only those of the oldest file say anything new.

    Cost: reads the journal file by file from its end, as far as is asked for. Memory: one journal file.
    """
    numbers = database.journal.files()
    for number in reversed(numbers):
        tail = database.journal.read_file(number)
        if tail.gaps:
            warn("frames of %s are damaged, and what they changed is not known", file_name(number))
        for placed in reversed(tail.frames):
            entry = Entry.decode(placed.frame.payload)
            if entry.op != "snapshot" or number - 1 not in numbers:
                yield placed.frame.seq, entry


def changes(database: Database, names: Collection[str] | None) -> Iterator[RefChange]:
    """Changes of the refs of these full names, or of all, newest first.

    Cost: as of `entries_back`.
    """
    for number, entry in entries_back(database):
        yield from (change for change in changes_of(number, entry) if names is None or change.ref in names)


def changes_of(number: int, entry: Entry) -> Iterator[RefChange]:
    """The refs that an entry changed; it may also write down what was so before."""
    from casckpt.ops.reports import RefChange  # slow to import, and whoever only may need a change starts without it

    for name, old, new in entry.refs:
        if old != new:
            before, after = (None if one is None else one.hex() for one in (old, new))
            yield RefChange(name, before, after, entry.time_ns, entry.op, entry.note, entry.by, number)
