"""reflog: what refs named before, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from casckpt.errors import UsageError
from casckpt.odb.database import Database
from casckpt.ops.journal_reports import RefChange
from casckpt.ops.ref_changes import changes
from casckpt.ops.resolve import no_such_ref, refs_named


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
    found = changes(database, names)
    first = next(found, None)
    if first is None:
        if ref is not None:
            raise no_such_ref(database, ref)
        return
    yield from islice(_chained(first, found), limit)


def _chained(first: RefChange, rest: Iterator[RefChange]) -> Iterator[RefChange]:
    yield first
    yield from rest
