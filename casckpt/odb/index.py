"""The index: the tables in LMDB, a view of the journal that may be lost or deleted at any time.

LMDB maps its file into memory and trusts every byte of it: a damaged file can end the process by a signal. So no file
is opened that was not checked. After every change, still under the index lock, the writer records length and BLAKE3
of the data file in `clean`; an opener compares them first. A file that differs (bit rot, a crash between the change
and the record) is rebuilt from the journal if it is small. A large one is first tried in a child process, so that
only the child can die; files over HASH_BYTES are recorded by length and time stamp alone.

Nothing here goes through the storage door, because nothing here must survive.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

import lmdb

from casckpt.format.ids import checksum_of
from casckpt.odb import tables as t
from casckpt.odb.index_files import allot_lock_file, private_file, remove

MAP_BYTES = 1 << 36
HASH_BYTES = 64 << 20
CHILD_CHECK_BYTES = 16 << 20
_OPTIONS = {"subdir": True, "max_dbs": len(t.TABLES), "map_size": MAP_BYTES, "mode": 0o600, "max_readers": 1024}
_CHILD = "import sys; from casckpt.odb.index import walk; walk(sys.argv[1])"


class _Shared:
    """One open environment of this process: LMDB allows each file to be open once."""

    def __init__(self, env: lmdb.Environment, identity: tuple[int, int], *, is_copy: bool = False) -> None:
        self.env = env
        self.identity = identity
        """Device and inode of the data file; of the one it was copied from if it is a copy."""
        self.is_copy = is_copy
        self.users = 1
        try:
            # Never made here: that would change a file that others compare with its hash. Without one of the tables
            # it is the index of another release, which is no index; it is built anew.
            self.tables = {table: env.open_db(table.encode(), create=False) for table in t.TABLES}
        except lmdb.Error:
            env.close()
            raise


_open: dict[tuple[int, int], _Shared] = {}
# Reentrant, since an index that nobody refers to any more closes itself, wherever the collector finds it.
_open_mutex = threading.RLock()


def _after_fork() -> None:
    """Forget inherited environments without closing them: LMDB forbids both use and close in a child.

    Nor does its binding let the child open the same file again, so it works on a copy (see `Index.open`).
    """
    global _open_mutex
    _inherited.update(_open)
    _open.clear()
    _open_mutex = threading.RLock()


_inherited: dict[tuple[int, int], _Shared] = {}
os.register_at_fork(after_in_child=_after_fork)


class Index:
    """The tables of one store in LMDB. Reads are safe from several threads; writers hold the index lock.

    An index is bound to the process that opened it: after a fork, open another. A copy cannot be changed.
    """

    def __init__(self, folder: str, shared: _Shared) -> None:
        self._folder = folder
        self._shared = shared
        self.pid = os.getpid()
        self.is_copy = shared.is_copy
        self._closed = False

    @classmethod
    def open(cls, folder: str, *, is_locked: bool = False) -> Index | None:
        """The index in a folder, None if there is none that can be trusted.

        Where this process was forked from one that has the index open, a private copy of it as it is now: another
        file, so none of LMDB's rules about forks is touched, and nothing needs to be done before a fork, when other
        threads may be reading. The copy is read-only; what the journal gains later is replayed on top of it.

        Args:
            is_locked: whether the caller holds the index lock.
        """
        if cls.is_inherited(folder):
            return cls._copy(folder, is_locked=is_locked)
        return cls._attach(folder) if is_clean(folder) else None

    @staticmethod
    def is_inherited(folder: str) -> bool:
        """Whether this process was forked from one that has the index open: then it can only be copied here."""
        try:
            status = os.stat(_data(folder))
        except OSError:
            return False
        return (status.st_dev, status.st_ino) in _inherited

    @classmethod
    def _attach(cls, folder: str) -> Index | None:
        try:
            status = os.stat(_data(folder))
        except FileNotFoundError:
            return None
        identity = (status.st_dev, status.st_ino)
        with _open_mutex:
            shared = _open.get(identity)
            if shared is not None:
                shared.users += 1
                return cls(folder, shared)
            try:
                # Readers take a slot in the lock file too, else a writer could reuse the pages they are looking at.
                # Writable where that is possible, since all handles of this process share one environment.
                is_writable = os.access(folder, os.W_OK)
                if is_writable:
                    allot_lock_file(folder)
                env = lmdb.open(folder, readonly=not is_writable, metasync=False, **_OPTIONS)
                env.reader_check()
                shared = _open[identity] = _Shared(env, identity)
            except (lmdb.Error, OSError):
                return None
        return cls(folder, shared)

    @classmethod
    def _copy(cls, folder: str, *, is_locked: bool) -> Index | None:
        try:
            with (
                open(_clean(folder), "rb") as note,
                open(_data(folder), "rb") as source,
                private_file() as (copy, path),
            ):
                noted, status = note.read(256).decode("ascii", "replace"), os.fstat(source.fileno())
                if status.st_size > HASH_BYTES:
                    # No hash tells whether a writer was at it during the copy; only the lock does.
                    whole = is_locked and noted == _fingerprint(_data(folder))
                    for block in _blocks(source) if whole else ():
                        copy.write(block)
                else:
                    digest = checksum_of(block for block in _blocks(source) if copy.write(block))
                    whole = noted == _by_hash(copy.tell(), digest)
                copy.flush()
                if not whole:
                    return None
                options = {**_OPTIONS, "subdir": False}
                env = lmdb.open(path, readonly=True, lock=False, **options)
                return cls(folder, _Shared(env, (status.st_dev, status.st_ino), is_copy=True))
        except (lmdb.Error, OSError):
            return None

    @classmethod
    def build(cls, folder: str, fill: Callable[[t.WritableTables], None]) -> Index | None:
        """A new index filled by `fill`, put in place of whatever was there. The caller holds the index lock.

        None if LMDB cannot work here (then the tables live in memory).
        """
        fresh = _unfinished(folder)
        try:
            os.makedirs(fresh, mode=0o700)
            allot_lock_file(fresh)
            with lmdb.open(fresh, sync=False, **_OPTIONS) as env:
                databases = {table: env.open_db(table.encode()) for table in t.TABLES}
                with env.begin(write=True) as transaction:
                    fill(_Transaction(transaction, databases))
                env.sync(True)
            record_clean(fresh)
            if os.path.lexists(folder):
                old = _unfinished(folder)
                os.rename(folder, old)
                remove(old)
            os.rename(fresh, folder)
        except (lmdb.Error, OSError):
            remove(fresh)
            return None
        return cls._attach(folder)

    @staticmethod
    def remove_unfinished(folder: str) -> None:
        """Remove what builders that died left in tmp/. The caller holds the index lock."""
        below = os.path.dirname(_unfinished(folder))
        for name in os.listdir(below) if os.path.isdir(below) else ():
            if name.startswith("index-"):
                remove(os.path.join(below, name))

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the environment; it closes with its last user in this process.

        Where other threads may be reading, drop the reference instead: the last of them closes.
        """
        if self.pid != os.getpid() or self._closed:
            return
        self._closed = True
        with _open_mutex:
            self._shared.users -= 1
            if self._shared.users == 0 and (self.is_copy or _open.pop(self._shared.identity, None) is not None):
                self._shared.env.close()

    def discard(self) -> None:
        """Make every opener build the index anew. The caller holds the index lock."""
        for name in ("clean", "data.mdb", "lock.mdb"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, name))

    def is_current(self) -> bool:
        """Whether this is still the index in its folder, and of this process."""
        try:
            status = os.stat(_data(self._folder))
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._shared.identity and self.pid == os.getpid()

    def get(self, table: str, key: bytes) -> bytes | None:
        with self._shared.env.begin(db=self._shared.tables[table]) as transaction:
            return transaction.get(key)  # type: ignore[no-any-return]

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        # Batches, so that no read transaction stays open while the caller works on what it got.
        start, batch = prefix, 1000
        while True:
            with self._shared.env.begin(db=self._shared.tables[table]) as transaction:
                found = _from(transaction, start, prefix, batch)
            yield from found
            if len(found) < batch:
                return
            start = found[-1][0] + b"\0"

    def count(self, table: str) -> int:
        with self._shared.env.begin() as transaction:
            return int(transaction.stat(self._shared.tables[table])["entries"])

    def update(self, change: Callable[[t.WritableTables], None]) -> None:
        """Run `change` in one durable transaction. The caller holds the index lock.

        Raises:
            lmdb.Error: the index could not be changed; it is as before.
        """
        assert not self.is_copy, "a copy cannot be changed"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_clean(self._folder))
        with self._shared.env.begin(write=True) as transaction:
            change(_Transaction(transaction, self._shared.tables))
        record_clean(self._folder)


class _Transaction:
    """Writable tables of one LMDB transaction."""

    def __init__(self, transaction: lmdb.Transaction, tables: dict[str, object]) -> None:
        self._transaction = transaction
        self._tables = tables

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._transaction.get(key, db=self._tables[table])  # type: ignore[no-any-return]

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor(self._tables[table]) as cursor:
            if not cursor.set_range(prefix):
                return
            for key, value in cursor:
                if not key.startswith(prefix):
                    return
                yield key, value

    def count(self, table: str) -> int:
        return int(self._transaction.stat(self._tables[table])["entries"])

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._tables[table])

    def delete(self, table: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._tables[table])


def _from(transaction: lmdb.Transaction, start: bytes, prefix: bytes, most: int) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    with transaction.cursor() as cursor:
        if not cursor.set_range(start):
            return found
        for key, value in cursor:
            if not key.startswith(prefix) or len(found) == most:
                break
            found.append((key, value))
    return found


def _data(folder: str) -> str:
    return os.path.join(folder, "data.mdb")


def _clean(folder: str) -> str:
    return os.path.join(folder, "clean")


def _unfinished(folder: str) -> str:
    """A fresh name beside the index, in tmp/."""
    return os.path.join(os.path.dirname(folder), "tmp", f"index-{os.getpid()}-{os.urandom(4).hex()}")


def _fingerprint(data: str) -> str:
    """Length and content of the data file: by hash, or by time stamp where hashing would take too long."""
    status = os.stat(data)
    if status.st_size > HASH_BYTES:
        return f"{status.st_size} time {status.st_mtime_ns}"
    with open(data, "rb") as file:
        return _by_hash(status.st_size, checksum_of(_blocks(file)))


def _by_hash(size: int, digest: bytes) -> str:
    return f"{size} hash {digest.hex()}"


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 20), b"")


def record_clean(folder: str) -> None:
    """Note that the data file is as its writer left it."""
    text = _fingerprint(_data(folder))
    fresh = os.path.join(folder, f"clean-{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    os.rename(fresh, _clean(folder))


def is_clean(folder: str) -> bool:
    """Whether the data file is as its last writer left it, or a large one survives a walk in a child process."""
    try:
        with open(_clean(folder), "rb") as file:
            noted = file.read(256).decode("ascii", "replace")
        return noted == _fingerprint(_data(folder))
    except OSError:
        pass
    try:
        size = os.stat(_data(folder)).st_size
    except OSError:
        return False
    return size >= CHILD_CHECK_BYTES and _survives_walk(folder)


def _survives_walk(folder: str) -> bool:
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", _CHILD, folder], check=False, capture_output=True, timeout=600)
    return done.returncode == 0


def walk(folder: str) -> None:
    """Read every row of an index of unknown condition; raises or dies if that is not possible."""
    with lmdb.open(folder, readonly=True, lock=False, max_dbs=len(t.TABLES), map_size=MAP_BYTES) as env:
        for table in t.TABLES:
            database = env.open_db(table.encode(), create=False)
            with env.begin(db=database) as transaction, transaction.cursor() as cursor:
                for key, value in cursor:
                    if table == t.ROWS and t.Row.decode(key, value) is None:
                        raise ValueError("a row does not match its check")
