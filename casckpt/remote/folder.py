"""What a store remembers of a remote: `remotes/<name>/` in its folder. All of it can be had again, but for one thing.

seen                        number and hash of the newest root seen: the alarm that a remote was set back
root                        that root
about                       casckpt.json of the remote
index/<hash>.<nonce>        index segments
push                        journal of a push that was interrupted
locks                       locks that the store keeps, with their tokens
watched                     since when locks of others were seen unchanged
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from casckpt.errors import CasckptError
from casckpt.odb.temporary import create_temporary
from casckpt.storage.base import Storage, read_exact, write_all
from casckpt.storage.memory import MemoryStorage

WAIT_S = 10.0


class RemoteFolder:
    """The files of one remote in the folder of a store. Thread-safe.

    Args:
        storage: of the store; one that cannot be written is read, and what would be written is kept in memory.
        name: of the remote.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._path = f"remotes/{name}"
        self._aside = MemoryStorage() if storage.read_only else None
        self._is_made = False

    def read(self, name: str, limit: int) -> bytes | None:
        """The bytes of a file, None if there is none or it is longer than `limit`."""
        for storage in (self._aside, self._storage):
            if storage is None:
                continue
            try:
                file = storage.open_read(f"{self._path}/{name}")
            except FileNotFoundError:
                continue
            try:
                size = file.size()
                return read_exact(file, 0, size) if size <= limit else None
            finally:
                file.close()
        return None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Make `data` the content of a file: at once or not at all. What is not durable may be gone after a crash."""
        storage = self._aside or self._storage
        if not self._is_made:
            for folder in ("tmp", "remotes", self._path, f"{self._path}/index"):
                storage.make_dir(folder)
            if durable:
                for folder in ("", "remotes"):
                    storage.sync_dir(folder)
                self._is_made = True
        unfinished, file = create_temporary(storage, "remote")
        try:
            write_all(file, data, 0)
            if durable:
                file.sync()
            storage.rename(unfinished, f"{self._path}/{name}")
        except BaseException:
            with contextlib.suppress(CasckptError, FileNotFoundError):
                storage.unlink(unfinished)
            raise
        finally:
            file.close()
        if durable:
            storage.sync_dir(f"{self._path}/{name}".rpartition("/")[0])

    def append(self, name: str, data: bytes) -> None:
        """Add `data` to the end of a file that is there; durable when this returns."""
        file = (self._aside or self._storage).open_write(f"{self._path}/{name}")
        try:
            write_all(file, data, file.size())
            file.sync()
        finally:
            file.close()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            (self._aside or self._storage).unlink(f"{self._path}/{name}")

    def list(self, name: str) -> list[str]:
        """Sorted names of the files in a folder of it."""
        return (self._aside or self._storage).list(f"{self._path}/{name}")

    @contextlib.contextmanager
    def locked(self, what: str = "remotes", wait_s: float = WAIT_S) -> Iterator[None]:
        """Keep other processes from changing what is remembered of remotes.

        Raises:
            BusyError: somebody else is at it, and was not done in time.
        """
        storage = self._aside or self._storage
        storage.make_dir("lock")
        with storage.lock(what, exclusive=True, wait_s=wait_s):
            yield
