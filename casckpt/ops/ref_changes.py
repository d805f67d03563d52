"""The journal as the reflog: what refs named before, read from its newest frame back to its oldest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from casckpt.format.entry import Entry
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.odb.notices import warn

if TYPE_CHECKING:
    from casckpt.ops.reports import RefChange


def changes(database: Database, names: Collection[str] | None) -> Iterator[RefChange]:
    """Changes of the refs of these full names, or of all, newest first.

    Cost: reads the journal file by file from its end, as far as is asked for. Memory: one journal file.
    """
    numbers = database.journal.files()
    for number in reversed(numbers):
        yield from _changes_in(database, number, names, is_oldest=number - 1 not in numbers)


def _changes_in(
    database: Database, number: int, names: Collection[str] | None, *, is_oldest: bool
) -> Iterator[RefChange]:
    """The changes in one journal file, newest first.

    Args:
        is_oldest: whether the file before it is not there, so that its snapshot says what is known of that.
    """
    from casckpt.ops.reports import RefChange  # slow to import, and whoever only may need a change starts without it

    tail = database.journal.read_file(number)
    if tail.gaps:
        warn("frames of %s are damaged, and what refs they changed is not known", file_name(number))
    for placed in reversed(tail.frames):
        entry = Entry.decode(placed.frame.payload)
        if entry.op == "snapshot" and not is_oldest:
            continue
        for name, old, new in entry.refs:
            # A tag that is given again is written down, and changes nothing.
            if old != new and (names is None or name in names):
                before, after = (None if one is None else one.hex() for one in (old, new))
                yield RefChange(name, before, after, entry.time_ns, entry.op, entry.note, entry.by)
