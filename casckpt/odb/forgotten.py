"""Forgotten commits: a mark says that one is known no more, and which parents it had, so that history goes on over it.

Its children are from then on children of its parents. The mark is all that is left, and stays for good: whatever brings
the commit again, an older journal file or pack, it is not taken in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from casckpt.errors import IntegrityError
from casckpt.format.canonical import decode
from casckpt.format.commit import Commit
from casckpt.format.entry import FORGOTTEN, Mark
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb import tables as t
from casckpt.odb.renames import present, renames_of

_KEY = FORGOTTEN.encode()
CHANGES = b"forgotten"
"""Key among the meta facts: how often anything was forgotten, so that nobody looks for it where nothing was."""


class Forgotten(NamedTuple):
    """What is left of a forgotten commit; `left` says whether bytes of it may be in files of the store."""

    parents: tuple[CommitId, ...]
    left: bool


def is_forgotten(tables: t.Tables, identity: bytes) -> bool:
    """Whether a commit was forgotten. Cost: one look-up."""
    return tables.get(t.MARKS, identity + _KEY) is not None


def forgotten(tables: t.Tables) -> dict[CommitId, Forgotten]:
    """All forgotten commits. Cost: looks at all marks."""
    found = ((key, value) for key, value in tables.scan(t.MARKS) if key[32:] == _KEY)
    return {CommitId(ObjectId(key[:32])): _decoded(value) for key, value in found}


def living(tables: t.Tables, parents: Iterable[CommitId]) -> tuple[CommitId, ...]:
    """Parents, with the parents of forgotten ones in their place, as far as it goes back. Cost: a look-up each."""
    found: dict[CommitId, None] = {}
    seen: set[CommitId] = set()
    waiting = list(parents)[::-1]
    while waiting:
        parent = waiting.pop()
        value = None if parent in seen else tables.get(t.MARKS, parent + _KEY)
        if value is not None:
            waiting += _decoded(value).parents[::-1]
        elif parent not in seen:
            found[parent] = None
        seen.add(parent)
    return tuple(found)


def forget(tables: t.WritableTables, mark: Mark) -> None:
    """Take a commit out of everything but the marks, which say by now that it is forgotten."""
    identity = mark.commit
    count = int.from_bytes(tables.get(t.META, CHANGES) or b"", "little") + 1
    tables.put(t.META, CHANGES, count.to_bytes(8, "little"))
    before = living(tables, mark.new["parents"])
    for key, _ in list(tables.scan(t.CHILDREN, identity)):
        tables.delete(t.CHILDREN, key)
        if not is_forgotten(tables, key[32:]):
            for parent in before:
                tables.put(t.CHILDREN, parent + key[32:], b"")
    for parent in (*before, *mark.new["parents"]):
        tables.delete(t.CHILDREN, parent + identity)
    value = tables.get(t.COMMITS, identity)
    for table in (t.ROWS, t.COMMITS, t.DROPS):
        tables.delete(table, identity)
    if value is not None:
        with contextlib.suppress(IntegrityError):  # a row of a damaged index too large to be hashed
            _uncount(tables, Commit.decode(t.decode_commit(value)[1]))


def _uncount(tables: t.WritableTables, commit: Commit) -> None:
    commit = present(commit, renames_of(tables))
    run = commit.run.encode()
    count, nbytes = t.decode_total(tables.get(t.TOTALS, run))
    if count > 1:
        tables.put(t.TOTALS, run, t.encode_total(count - 1, max(nbytes - commit.nbytes, 0)))
    else:
        tables.delete(t.TOTALS, run)


def _decoded(value: bytes) -> Forgotten:
    said = decode(value, "a mark")
    return Forgotten(tuple(said["parents"]), said["left"])
