"""One more entry: appended to the journal under its lock, durable when it returns, and taken into the tables."""

from __future__ import annotations

from casckpt.errors import StorageError
from casckpt.format.entry import Entry
from casckpt.odb.database import Database
from casckpt.odb.journal import Position, Tail, file_name
from casckpt.odb.notices import warn
from casckpt.odb.seal import seal


def append(database: Database, uuid: bytes, entry: Entry) -> int:
    """Append an entry; the number of its frame. The caller holds the journal lock and has refreshed.

    A full journal file is sealed before.

    Raises:
        StorageError: the disk failed or is full; the entry is not there.
    """
    if database.journal.is_full(database.tail.position):
        _seal(database, uuid, entry)
    payload = entry.encode()
    # A frame that no reader accepts would lock everybody out for good: read it as one before it is written.
    Entry.decode(payload)
    placed = database.journal.append(database.tail, payload)
    end = Position(placed.file, placed.frame.end, placed.frame.seq + 1, placed.frame.hash)
    database.take_in(Tail([placed], end, [], "clean"))
    return placed.frame.seq


def _seal(database: Database, uuid: bytes, entry: Entry) -> None:
    file = database.tail.position.file
    try:
        seal(database, uuid=uuid, time_ns=entry.time_ns, by=entry.by)
    except StorageError as error:
        # A longer journal file is no harm and the entry may well fit; but where the next file kept its name, readers
        # have gone on to it, and a frame in this one would be lost.
        if database.storage.size(file_name(file + 1)) is not None:
            raise
        warn("the journal file was not sealed: %s", error)
