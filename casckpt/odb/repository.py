"""A repository: a folder that holds a store, opened. Creation, version fence, forks."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from casckpt.errors import (
    BusyError,
    CasckptError,
    FolderNotEmpty,
    ReadOnlyStore,
    StoreExists,
    StoreNotFound,
    UsageError,
)
from casckpt.format.config import StoreFormat
from casckpt.format.entry import Entry
from casckpt.format.frame import NO_HASH
from casckpt.odb.database import Database
from casckpt.odb.journal import Journal, Position, file_name
from casckpt.odb.removing import RESERVE, write_reserve
from casckpt.odb.temporary import write_whole
from casckpt.storage.base import Storage, read_exact

if TYPE_CHECKING:
    from casckpt.odb.elsewhere import Elsewhere
    from casckpt.odb.session import Session

FOLDERS = ("journal", "packs", "tmp", "lock", "trash")
_OWN_NAMES = frozenset((*FOLDERS, "index", "format", RESERVE))
MAX_FORMAT_BYTES = 64 << 10
THREADS_MAX = 8


def initialize(storage: Storage, *, time_ns: int, by: str) -> None:
    """Make an empty store. It exists from the moment its `format` file has its name, and then wholly.

    Raises:
        StoreExists: there is one already.
        FolderNotEmpty: the folder holds other files.
        StorageError: the disk failed. What was made is no store yet and initialising again works, unless the very last
            flush failed: then there is one.
    """
    check_initializable(storage)
    storage.make_root()
    storage.make_dir("lock")
    with storage.lock("init", exclusive=True, wait_s=10):
        if storage.size("format") is not None:
            raise StoreExists(path=str(storage.path or "the folder"))
        for folder in FOLDERS:
            storage.make_dir(folder)
        uuid = os.urandom(16)
        journal = Journal(storage, uuid)
        # What an interrupted init left is not part of a store yet.
        for number in journal.files():
            storage.unlink(file_name(number))
        entry = Entry("init", time_ns, reset=uuid, by=by)
        journal.start_file(Position(-1, 0, 0, NO_HASH), [entry.encode()])
        write_reserve(storage)
        write_whole(storage, "format", StoreFormat(uuid).encode())


def check_initializable(storage: Storage) -> None:
    """Raise what `initialize` would of a folder as it is now; changes nothing."""
    if storage.read_only:
        raise ReadOnlyStore(path=str(storage.path or "the store"), problem="it is opened read-only")
    names = storage.list("")
    if "format" in names:
        raise StoreExists(path=str(storage.path or "the folder"))
    foreign = [name for name in names if name not in _OWN_NAMES]
    if foreign:
        raise FolderNotEmpty(path=str(storage.path or "the folder"), name=foreign[0])


class Repository:
    """An open store: its storage, its format and its database. Usable from threads and in forked children.

    A child of fork gets a database of its own at its first use, over a copy of the index if its parent has that open;
    sessions must not be carried over a fork.

    Args:
        threads: cores that one operation keeps busy; None for as many as this process may use, at most 8.
        run: the current run; None for the one committed to last.
        health_gate: as of `Database`.
    """

    def __init__(
        self, storage: Storage, *, threads: int | None = None, run: str | None = None, health_gate: bool = True
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(problem=f"threads must be 1 or more, not {threads}")
        self.storage = storage
        self.threads = threads or min(_cores(), THREADS_MAX)
        self.format = read_format(storage)
        self.format.require("read")
        self._pid = os.getpid()
        self._cleaned = False
        self._run = run
        self._health_gate = health_gate
        self._elsewhere: Elsewhere | None = None
        self._database = self._opened()

    @property
    def database(self) -> Database:
        """The database of this process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._database = self._opened()
        return self._database

    def _opened(self) -> Database:
        database = Database(self.storage, self.format.uuid, current_run=self._run, health_gate=self._health_gate)
        database.elsewhere = self._elsewhere
        return database

    def ask(self, elsewhere: Elsewhere) -> None:
        """Ask there from now on for what commits of this store lack."""
        self._elsewhere = self._database.elsewhere = elsewhere

    def session(self, *, dry_run: bool = False) -> Session:
        """A new write session.

        Args:
            dry_run: it stores nothing, and tells what would be stored.

        Raises:
            ReadOnlyStore: the store cannot be written.
            NewerFormat: a feature this release does not know forbids writing.
        """
        if self.storage.read_only:
            raise ReadOnlyStore(path=str(self.storage.path or "the store"), problem="it is opened read-only")
        self.format.require("write")
        from casckpt.odb.session import Session  # what only reads need not pay for it

        if dry_run:
            from casckpt.odb.rehearsal import Rehearsal

            return Rehearsal(self.database, self.format.uuid)
        if not self._cleaned:
            # Whoever made the store may have been killed before the name of its `format` file was durable.
            self.storage.sync_dir("")
            self.remove_abandoned()
            self._cleaned = True
        return Session(self.database, self.format.uuid)

    def remove_abandoned(self) -> None:
        """Remove unfinished files of writers that died; those of live ones stay."""
        for folder in FOLDERS:
            self.storage.make_dir(folder)
        for name in self.storage.list("tmp"):
            if not name.startswith("index-"):
                with contextlib.suppress(CasckptError, FileNotFoundError):
                    self.storage.unlink_abandoned(f"tmp/{name}")

    def rebuild_index(self) -> None:
        """Build the index anew from the journal and the packs."""
        self.database.rebuild_index()

    def close(self) -> None:
        """Bring the index up to date and let go of all files."""
        with contextlib.suppress(BusyError):
            self.database.close()


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def writer_name() -> str:
    """Who writes a journal entry: host and process."""
    return f"{os.uname().nodename}:{os.getpid()}"


def read_format(storage: Storage) -> StoreFormat:
    """The `format` file of a store.

    Raises:
        StoreNotFound: there is none, so this is no store.
        DamagedFile, NewerFormat: it cannot be read.
    """
    where = str(storage.path or "this storage")
    try:
        file = storage.open_read("format")
    except FileNotFoundError as error:
        raise StoreNotFound(path=where, problem="it holds no `format` file") from error
    try:
        return StoreFormat.decode(read_exact(file, 0, min(file.size(), MAX_FORMAT_BYTES)))
    finally:
        file.close()
