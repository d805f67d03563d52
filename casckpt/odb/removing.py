"""Taking packs out of a store: one frame says so, then their files leave packs/. Nothing else ever deletes data.

The caller holds the commit lock alone and knows that nothing needs the packs: nobody relies on them, and nobody can
write one of the same name until the lock is given back. Removing a file takes milliseconds on some disks, and there may
be thousands. So under the lock files only get other names, in tmp/, and are removed after it. A crash in between leaves
files that no frame names: those in packs/ the next collector removes, those in tmp/ whoever writes next.

A frame takes room, and the disk may have none left. Every store therefore keeps a file of 64 KiB in reserve, which
goes first then.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from casckpt.errors import CasckptError, StorageError, StoreFull
from casckpt.format.entry import Entry, PackRef
from casckpt.odb import locks
from casckpt.odb.appending import append
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.temporary import write_whole
from casckpt.storage.base import Storage

RESERVE = "reserve"
RESERVE_BYTES = 64 << 10
_FRAME_PACKS = 20_000
_SHORT_FRAME_PACKS = 256
"""Packs in one frame where the disk is full: it then fits what the reserve gave back, many times."""
_PACK_FILE = re.compile(r"[0-9a-f]{64}\.pack")


def take_out(
    database: Database, uuid: bytes, gone: Sequence[PackRef], copies: Sequence[PackRef], entry: Entry
) -> Iterator[tuple[PackRef, str]]:
    """Take packs out of the pack set, durably, and their files out of packs/; where each file is then.

    Args:
        gone: packs of the set that nothing needs.
        copies: packs of the set that hold what is needed of those: they are listed anew, so that the rows of these
            objects point to them.
        entry: what else the frames say: operation, time, writer.

    Raises:
        StorageError: the disk failed. Packs that were taken out before stay out.
    """
    step = _FRAME_PACKS
    waiting = list(gone)
    while waiting:
        batch = waiting[:step]
        said = replace(entry, gone=tuple(pack.id for pack in batch), packs=tuple(copies))
        with locks.journaling(database.storage), database.mutex:
            database.refresh()
            try:
                append(database, uuid, said)
            except StoreFull:
                if step == _SHORT_FRAME_PACKS or not give_up_reserve(database):
                    raise
                step = _SHORT_FRAME_PACKS
                continue
        for pack in batch:
            yield pack, put_aside(database.storage, pack_name(pack.id))
        waiting = waiting[len(batch) :]


def put_aside(storage: Storage, name: str) -> str:
    """Give a file of packs/ a name in tmp/, where it is removed by anybody; where that needs room, remove it at once.

    Returns:
        its name now, which may be of no file any more.
    """
    aside = f"tmp/gone-{os.getpid()}-{os.urandom(6).hex()}"
    try:
        storage.rename(name, aside)
    except FileNotFoundError:
        pass
    except StoreFull:
        with contextlib.suppress(FileNotFoundError):
            storage.unlink(name)
    return aside


def remove(storage: Storage, aside: str) -> None:
    """Remove a file that was put aside; absent is fine."""
    with contextlib.suppress(FileNotFoundError):
        storage.unlink(aside)


def unlisted(database: Database) -> list[str]:
    """Pack files that no frame names: what killed committers left, and collectors between frame and removal.

    Empty if a pack of the set is missing or has another length: a file that was renamed must not be taken for such.
    """
    sizes = {pack_name(pack.id): pack.nbytes for pack in database.pack_set()}
    if any(database.storage.size(name) != nbytes for name, nbytes in sizes.items()):
        return []
    names = (f"packs/{name}" for name in database.storage.list("packs") if _PACK_FILE.fullmatch(name))
    return [name for name in names if name not in sizes]


def keep_reserve(storage: Storage) -> None:
    """See that there is a reserve; on a disk that is full there will be one later."""
    if storage.size(RESERVE) != RESERVE_BYTES:
        with contextlib.suppress(StorageError):
            write_reserve(storage)


def write_reserve(storage: Storage) -> None:
    """Make the reserve. Random, since some file systems would store zeros as nothing."""
    write_whole(storage, RESERVE, os.urandom(RESERVE_BYTES))


def give_up_reserve(database: Database) -> bool:
    """Remove the reserve; False if there is none."""
    try:
        database.storage.unlink(RESERVE)
    except (CasckptError, FileNotFoundError):
        return False
    return True
