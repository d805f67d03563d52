"""The journal as the reflog: what refs named before, read from its newest frame back to its oldest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from casckpt.errors import UsageError
from casckpt.format.entry import Entry
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.odb.notices import warn
from casckpt.ops.history import no_such_ref, refs_named
from casckpt.ops.reports import RefChange


def reflog(database: Database, ref: str | None = None, limit: int | None = None) -> Iterator[RefChange]:
    """Changes of a ref or of all, newest first.

    Raises:
        RevisionNotFound: no ref has or had that name.

    Cost: reads the journal file by file from its end, as far as is asked for. Memory: one journal file.
    """
    if limit is not None and limit < 0:
        raise UsageError(problem=f"limit must be 0 or more, not {limit}")
    database.refresh()
    names = None if ref is None else refs_named(database, ref)
    found = _found(database, names)
    first = next(found, None)
    if first is None:
        if ref is not None:
            raise no_such_ref(database, ref)
        return
    yield from islice(_chained(first, found), limit)


def _chained(first: RefChange, rest: Iterator[RefChange]) -> Iterator[RefChange]:
    yield first
    yield from rest


def _found(database: Database, names: tuple[str, ...] | None) -> Iterator[RefChange]:
    numbers = database.journal.files()
    for number in reversed(numbers):
        yield from _changes_in(database, number, names, is_oldest=number - 1 not in numbers)


def _changes_in(
    database: Database, number: int, names: tuple[str, ...] | None, *, is_oldest: bool
) -> Iterator[RefChange]:
    """The changes in one journal file, newest first.

    Args:
        is_oldest: whether the file before it is not there, so that its snapshot says what is known of that.
    """
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
