"""A storage that is a folder of a POSIX file system.

Names, locks and who may remove what live here; the calls on open files and the translation of errors are in
`posix`. Locks and the liveness of unfinished files are flocks, see `flock`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from casckpt.errors import BusyError, ReadOnlyStore
from casckpt.storage.base import Space, check_name
from casckpt.storage.flock import Descriptor, holder_of, lock_until, open_lockable, try_lock
from casckpt.storage.posix import (
    DENIED,
    OPEN_FLAGS,
    OsErrors,
    PosixReadFile,
    PosixWriteFile,
    make_folder,
    open_new,
    open_regular,
    sync_folder,
)


class LocalStorage:
    """The folder `path`. Thread-safe; a forked child may go on using it, but shares no lock and no unfinished file.

    Args:
        path: the root; need not exist before `make_root`.
        read_only: refuse every change, even where the file system would allow it.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._root = os.path.abspath(os.fspath(path))
        self.path: str | None = self._root
        denied = os.path.exists(self._root) and not os.access(self._root, os.W_OK)
        self.read_only = read_only or denied
        self._refusal = "no permission to write there" if denied else "it was opened read-only"

    def _at(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def _folder_at(self, name: str) -> str:
        return self._at(name) if name else self._root

    def _change(self, operation: str, path: str) -> OsErrors:
        if self.read_only:
            raise ReadOnlyStore(operation=operation, path=path, problem=self._refusal)
        return OsErrors(operation, path)

    def make_root(self) -> None:
        with self._change("create", self._root):
            missing = [self._root]
            while not os.path.lexists(parent := os.path.dirname(missing[-1])):
                missing.append(parent)
            for path in reversed(missing):
                make_folder(path)
                # Also above a folder that is there: whoever made it may have been killed before this.
                sync_folder(os.path.dirname(path))

    def make_dir(self, name: str) -> None:
        path = self._at(name)
        with self._change("create", path):
            make_folder(path)

    def create(self, name: str, *, direct: bool = False) -> PosixWriteFile:
        path = self._at(name)
        with self._change("create", path):
            descriptor = open_lockable(lambda: open_new(path))
            # A cleaner may have taken the file for abandoned before we locked it. Then the name is as good as taken.
            if not try_lock(descriptor, exclusive=True) or os.fstat(descriptor.fd).st_nlink == 0:
                descriptor.close()
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            return PosixWriteFile(descriptor, path, direct=direct)

    def open_write(self, name: str) -> PosixWriteFile:
        path = self._at(name)
        with self._change("write", path):
            return PosixWriteFile(open_regular(path, os.O_RDWR), path)

    def open_read(self, name: str) -> PosixReadFile:
        path = self._at(name)
        with OsErrors("open", path):
            return PosixReadFile(open_regular(path, os.O_RDONLY), path)

    def rename(self, source: str, target: str) -> None:
        old, new = self._at(source), self._at(target)
        with self._change("rename", old):
            os.replace(old, new)

    def unlink(self, name: str) -> None:
        path = self._at(name)
        with self._change("remove", path):
            os.unlink(path)

    def sync_dir(self, name: str) -> None:
        path = self._folder_at(name)
        with self._change("flush", path):
            sync_folder(path)

    def list(self, name: str) -> list[str]:
        path = self._folder_at(name)
        with OsErrors("list", path):
            try:
                return sorted(os.listdir(path))
            except FileNotFoundError:
                return []

    def size(self, name: str) -> int | None:
        path = self._at(name)
        with OsErrors("measure", path):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return None
        return None if stat.S_ISDIR(status.st_mode) else status.st_size

    def space(self) -> Space | None:
        with OsErrors("measure", self._root):
            status = os.statvfs(self._root)
        return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)

    def unlink_abandoned(self, name: str) -> bool:
        path = self._at(name)
        with self._change("remove", path):
            try:
                descriptor = open_lockable(lambda: os.open(path, os.O_RDWR | OPEN_FLAGS))
            except FileNotFoundError:
                return True
            try:
                if not try_lock(descriptor, exclusive=True):
                    return False
                # The name may have passed to another file since we opened it: only the locked one may be removed.
                if os.path.samestat(os.fstat(descriptor.fd), os.lstat(path)):
                    os.unlink(path)
            except FileNotFoundError:
                pass
            finally:
                descriptor.close()
            return True

    @contextmanager
    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> Iterator[None]:
        path = self._at(f"lock/{name}")
        with OsErrors("lock", path, names_pass=False):
            descriptor = self._take_lock(path, name, exclusive=exclusive, wait_s=wait_s)
        try:
            yield
        finally:
            if descriptor is not None:
                descriptor.close()

    def _take_lock(self, path: str, name: str, *, exclusive: bool, wait_s: float) -> Descriptor | None:
        deadline = time.monotonic() + wait_s
        while (descriptor := self._open_lock(path, exclusive=exclusive)) is not None:
            if not lock_until(descriptor, deadline, exclusive=exclusive):
                holder = holder_of(descriptor)
                descriptor.close()
                raise BusyError(lock=name, wait_s=wait_s, holder=holder)
            if os.fstat(descriptor.fd).st_nlink:
                return descriptor
            # Somebody removed the file while we waited: the next comer locks a new one, so must we.
            descriptor.close()
        return None

    def _open_lock(self, path: str, *, exclusive: bool) -> Descriptor | None:
        """The open lock file; None if there is none and none can be made, so nobody who writes can hold it."""
        problem = self._refusal
        if not self.read_only:
            try:
                return open_lockable(lambda: _open_or_make_lock(path))
            except OSError as error:
                if error.errno not in DENIED:
                    raise
                problem = os.strerror(error.errno)
        if exclusive:
            raise ReadOnlyStore(operation="lock", path=path, problem=problem)
        try:
            return open_lockable(lambda: os.open(path, os.O_RDONLY | OPEN_FLAGS))
        except FileNotFoundError:
            return None


def _open_or_make_lock(path: str) -> int:
    while True:
        try:
            return os.open(path, os.O_RDWR | OPEN_FLAGS)
        except FileNotFoundError:
            make_folder(os.path.dirname(path))
        try:
            return open_new(path)
        except FileExistsError:
            continue  # another process made it first
