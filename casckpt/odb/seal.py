"""Sealing a journal file: its objects move into a pack, and the next file starts with a snapshot.

    pack durable -> next file durable -> its name durable

A crash before the last step leaves the old file active and at most an unreferenced pack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from casckpt.format.canonical import decode
from casckpt.format.entry import Entry, Mark, PackRef, RefMove
from casckpt.format.ids import Kind, ObjectId
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.fold import all_marks
from casckpt.odb.forgotten import is_forgotten
from casckpt.odb.pack_writer import PackWriter

SNAPSHOT_ITEMS = 20_000
"""Refs, packs or records in one entry of a snapshot, so that frames stay small."""
SNAPSHOT_RUNS = 1_000
"""Settings of runs in one entry of a snapshot: with the longest policies each, some 4 MiB."""
SNAPSHOT_DROPS = 1_000
"""Drops in one entry of a snapshot: of 64 components with the longest names each, half a frame."""
SNAPSHOT_MARKS = 200
"""Marks in one entry of a snapshot: of the longest notes, less than half a frame."""


def seal(database: Database, *, uuid: bytes, time_ns: int, by: str) -> None:
    """Seal the active journal file. The caller holds the journal lock and has refreshed.

    Raises:
        StorageError: the disk failed or is full; the file stays active and the store as it was.
    """
    file = database.tail.position.file
    packs = _pack_objects(database, file)
    payloads = [entry.encode() for entry in _snapshot(database, packs, uuid, time_ns, by)]
    database.journal.end_file(database.tail)
    tail = database.journal.start_file(database.tail.position, payloads)
    database.take_in(tail)


def _pack_objects(database: Database, file: int) -> list[PackRef]:
    """Pack what lies in this file only; what a pack holds already stays there."""
    writer: PackWriter | None = None
    added: list[list[Any]] = []
    done: set[ObjectId] = set()
    try:
        for placed in database.journal.read_file(file).frames:
            entry = Entry.decode(placed.frame.payload)
            for record, stored in entry.objects:
                row = database.row(record.id)
                if record.id in done or (row is not None and row.pack != t.IN_JOURNAL | file):
                    continue
                if record.kind == Kind.COMMIT and is_forgotten(database.tables, record.id):
                    continue
                done.add(record.id)
                writer = writer or PackWriter(database.storage)
                writer.add(record, stored)
                writer.end_leaf()
                if entry.added is not None and database.tables.get(t.COMMITS, record.id) is not None:
                    added.append([record.id, entry.added])
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    return [] if writer is None else [writer.finish({"sealed": file, "added": added})]


def _snapshot(database: Database, sealed: list[PackRef], uuid: bytes, time_ns: int, by: str) -> Iterator[Entry]:
    tables = database.tables
    yield Entry("snapshot", time_ns, reset=uuid, by=by, packs=tuple(sealed))
    for packs in _slices(list(database.pack_set())):
        yield Entry("snapshot", time_ns, packs=tuple(packs))
    for refs in _slices(list(database.refs().items())):
        yield Entry("snapshot", time_ns, refs=tuple(RefMove(name, None, commit) for name, commit in refs))
    for runs in _slices(list(tables.scan(t.RUNS)), SNAPSHOT_RUNS):
        yield Entry("snapshot", time_ns, runs={run.decode(): decode(value, "run settings") for run, value in runs})
    for drops in _slices(list(database.drops().values()), SNAPSHOT_DROPS):
        yield Entry("snapshot", time_ns, drops=tuple(drops))
    for marks in _slices(list(all_marks(tables)), SNAPSHOT_MARKS):
        yield Entry("snapshot", time_ns, marks=tuple(Mark(commit, key, None, value) for commit, key, value in marks))


def _slices(items: list[Any], most: int | None = None) -> Iterator[list[Any]]:
    count = SNAPSHOT_ITEMS if most is None else most
    for start in range(0, len(items), count):
        yield items[start : start + count]
