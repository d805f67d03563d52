"""One change of names or facts: settled under the journal lock, published as one entry, or only tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, NamedTuple

from casckpt.format.entry import Entry
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.fold import fold
from casckpt.odb.repository import Repository


def publish(
    repository: Repository,
    settle: Callable[[], Entry],
    *,
    dry_run: bool,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[int, Entry]:
    """The entry that `settle` makes of what is there at that moment, and its number; durable unless it is a dry run.

    Args:
        prepare: called before, while nothing can be freed any more and others can still commit: for long looks.
    """
    made: list[Entry] = []

    def settled() -> tuple[Entry, list[Any]]:
        made.append(settle())
        return made[-1], []

    with repository.session(dry_run=dry_run) as session:
        prepare()
        number = session.publish(settled)
    return number, made[-1]


def as_if(database: Database, entry: Entry) -> Database:
    """The database as an entry of refs, settings and marks would leave it; for a look, not to be kept."""
    view = copy(database)
    view.tables = t.MemoryTables(database.tables)
    fold(view.tables, entry, 0, 0, database)
    return view


class Settings(NamedTuple):
    """The fields `runs` and `before` of an entry that changes settings of runs."""

    runs: dict[str, dict[str, Any]]
    before: dict[str, dict[str, Any]]


def settings_changed(database: Database, wanted: Mapping[str, Mapping[str, Any]]) -> Settings:
    """What gives runs these settings, None for none. What is so already stays out."""
    found = Settings({}, {})
    for run, settings in wanted.items():
        known = database.run_settings(run)
        fresh = {key: value for key, value in settings.items() if value != known.get(key)}
        if fresh:
            found.runs[run] = fresh
            found.before[run] = {key: known[key] for key in fresh if key in known}
    return found
