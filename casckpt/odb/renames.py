"""Renames of runs: a commit object says the name its run had then; these say the name the run has now.

The setting `renamed` of the former name lists (time, new name): commits made under that name at or before that time
belong to the new one. Later commits under the former name are a run of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from casckpt.errors import IntegrityError
from casckpt.format.canonical import decode
from casckpt.format.commit import Commit
from casckpt.format.limits import MAX_NAME_BYTES
from casckpt.odb import tables as t

KEY = b"renamed"
Renames = Mapping[str, list[tuple[int, str]]]


def renames_of(tables: t.Tables) -> Renames:
    """All renames by former name. Cost: one look-up."""
    value = tables.get(t.META, KEY)
    try:
        found = {} if value is None else decode(value, "the renames of runs")
    except IntegrityError:  # a damaged index too large to be hashed: the names of then are better than none
        return {}
    return {run: listed(renames) for run, renames in found.items()} if type(found) is dict else {}


def listed(value: Any) -> list[tuple[int, str]]:
    """The (time, new name) of a setting `renamed`; whatever else is in it means nothing here."""
    found = [item for item in value if type(item) is list and len(item) == 2] if type(value) is list else []
    pairs = [(item[0], item[1]) for item in found if [type(part) for part in item] == [int, str]]
    return [pair for pair in pairs if 0 < len(pair[1].encode()) <= MAX_NAME_BYTES]


def present(commit: Commit, renames: Renames) -> Commit:
    """A commit with the name that its run has now.

    Names may go round (a to b, then b to a), so each step takes only a rename that is later than the one before.
    """
    run = name_now(commit.run, commit.time_ns, renames)
    return commit if run == commit.run else replace(commit, run=run)


def name_now(run: str, at: int, renames: Renames) -> str:
    """The name that a run has now which had this one at a moment."""
    while True:
        later = [rename for rename in renames.get(run, ()) if rename[0] >= at]
        if not later:
            return run
        time_ns, run = min(later)
        at = time_ns + 1
