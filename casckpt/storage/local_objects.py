"""A remote that is a folder which several machines share: of a disk, NFS, sshfs, SMB.

An object is written beside its place, under `tmp/`, flushed, and then linked to its name: `link(2)` fails if the
name is taken, on network file systems too, and there is no moment at which a part of it is there. A file system
without hard links gets `renameat2(RENAME_NOREPLACE)`; one that has neither cannot be a remote, since of two writers
each would believe to be the first.

A name is there before it is durable, and its writer may end between the two. So nobody is told that something is there
before its folder was flushed once more: whoever acts on a root must not see it go with the power of another machine.

Files have the modes that the umask of their writer gives, unlike those of a store: others are to read them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence

from casckpt.errors import (
    CasckptError,
    RemoteDenied,
    RemoteNotFound,
    RemoteUnavailable,
    RemoteUnfit,
    RemoteUntrusted,
)
from casckpt.storage.base import check_name
from casckpt.storage.flock import Descriptor
from casckpt.storage.objects import Buffer, Listed, Outcome
from casckpt.storage.posix import DENIED, OPEN_FLAGS, open_regular, sync_folder

_TMP = "tmp"
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK})
_ABANDONED_NS = 24 * 3600 * 10**9
"""An unfinished file of this age, by the clock of the file system, is nobody's any more."""


class FolderObjects:
    """The objects of a folder, which must exist: an empty place where a share is not mounted must not become one.

    Args:
        path: the folder.
        read_only: refuse every change, even where the file system would allow it.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._root = os.path.abspath(os.fspath(path))
        self.url = self._root
        self.read_only = read_only
        self._known: set[str] = set()
        self._mutex = threading.Lock()
        self._is_swept = False

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        with self._open(key) as (fd, size):
            end = size if stop is None else min(stop, size)
            if end - start > limit:
                raise RemoteUntrusted(remote=self.url, problem=f"{key} has more than the {limit} bytes it may have")
            return _read(fd, start, end)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._open(key) as (fd, size):
            found = [_read(fd, start, min(stop, size)) for start, stop in ranges]
        if any(len(piece) != max(0, stop - start) for piece, (start, stop) in zip(found, ranges, strict=True)):
            raise RemoteUntrusted(remote=self.url, problem=f"{key} is shorter than the remote's index says")
        return found

    def create(self, key: str, data: Buffer) -> Outcome:
        if self.read_only:
            raise RemoteDenied(remote=self.url, operation=f"store {key}", problem="it is read-only here")
        path = self._at(key)
        with self._errors("store", key):
            if os.path.lexists(path):  # spares the bytes; the link decides
                return self._flushed(path, Outcome.EXISTS)
            self._make_folder(os.path.dirname(path))
            self._make_folder(f"{self._root}/{_TMP}")
            self._sweep()
            aside = f"{self._root}/{_TMP}/{os.getpid()}-{os.urandom(8).hex()}"
            try:
                _write(aside, data)
                outcome = Outcome.CREATED if self._place(aside, path) else Outcome.EXISTS
            except FileNotFoundError:  # somebody removed the folders, which the next try makes again
                self._known.clear()
                problem = "its folder was removed meanwhile"
                raise RemoteUnavailable(remote=self.url, operation=f"store {key}", problem=problem) from None
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(aside)
        return self._flushed(path, outcome)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Only names in the folder itself are durable: of those in folders below it nobody but a collector asks."""
        with self._errors("list", prefix):
            found = self._walk(prefix, after)
            for first in found:
                self._flush(f"{self._root}/{prefix}")
                yield first
                yield from found

    def delete(self, keys: Sequence[str]) -> None:
        if self.read_only:
            raise RemoteDenied(remote=self.url, operation="delete", problem="it is read-only here")
        folders = set()
        for key in keys:
            path = self._at(key)
            with self._errors("delete", key), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                folders.add(os.path.dirname(path))
        for folder in sorted(folders):
            with self._errors("delete", keys[0]):
                sync_folder(folder)

    def size(self, key: str) -> int | None:
        with self._errors("look at", key):
            try:
                status = os.lstat(self._at(key))
                self._flush(os.path.dirname(self._at(key)))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _flushed(self, path: str, outcome: Outcome) -> Outcome:
        """What to say of a name that is there: a crash may take it away again if its folder could not be flushed."""
        try:
            sync_folder(os.path.dirname(path))
        except OSError:
            return Outcome.UNKNOWN
        return outcome

    def _flush(self, folder: str) -> None:
        """Make the names in a folder durable for who only looks, as far as he may."""
        try:
            sync_folder(folder)
        except OSError as error:
            if self.read_only or error.errno in DENIED:
                return
            raise

    def _at(self, key: str) -> str:
        return f"{self._root}/{check_name(key)}"

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[tuple[int, int]]:
        with self._errors("read", key):
            try:
                descriptor = open_regular(self._at(key), os.O_RDONLY)
            except (FileNotFoundError, NotADirectoryError):
                raise FileNotFoundError(key) from None
            try:
                yield descriptor.fd, os.fstat(descriptor.fd).st_size
            finally:
                descriptor.close()

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (CasckptError, FileNotFoundError):
            raise
        except OSError as error:
            problem = os.strerror(error.errno) if error.errno else str(error)
            cls = RemoteDenied if error.errno in DENIED else RemoteUnavailable
            raise cls(remote=self.url, operation=f"{operation} {key}", problem=problem) from error

    def _make_folder(self, path: str) -> None:
        """Make a folder and those above it, durably, but never the root."""
        if path in self._known:
            return
        if path == self._root:
            if not os.path.isdir(path):
                problem = "the folder does not exist, or what it is on is not mounted"
                raise RemoteNotFound(remote=self.url, problem=problem)
            return
        self._make_folder(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        # Also above a folder that is there: whoever made it may have been killed before this.
        sync_folder(os.path.dirname(path))
        self._known.add(path)

    def _place(self, aside: str, path: str) -> bool:
        """Give a flushed file its name if nothing has it."""
        try:
            os.link(aside, path, follow_symlinks=False)
        except FileExistsError:
            # A network file system may have lost the answer and asked again: then the name is that of our own file.
            return os.path.samestat(os.lstat(aside), os.lstat(path))
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            return self._rename(aside, path)
        return True

    def _rename(self, aside: str, path: str) -> bool:
        from casckpt.storage.libc import RENAME_NOREPLACE, rename_with

        below = len(self._root) + 1
        root = Descriptor(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            rename_with(RENAME_NOREPLACE, root.fd, os.fsencode(aside[below:]), os.fsencode(path[below:]))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            raise RemoteUnfit(
                remote=self.url,
                problem="its file system has neither hard links nor a rename that spares what is there",
                way_out="use another file system, or a service that has conditional writes",
            ) from error
        finally:
            root.close()
        return True

    def _walk(self, folder: str, after: str) -> Iterator[Listed]:
        """What is below a folder (`` or with `/` at its end), ascending by key."""
        try:
            with os.scandir(self._root + "/" + check_name(folder[:-1]) if folder else self._root) as found:
                entries = [(entry.name + "/" * entry.is_dir(follow_symlinks=False), entry) for entry in found]
        except FileNotFoundError:
            if not os.path.isdir(self._root):
                problem = "the folder does not exist, or what it is on is not mounted"
                raise RemoteNotFound(remote=self.url, problem=problem) from None
            return
        for name, entry in sorted(entries, key=lambda one: one[0]):
            key = folder + name
            if key == f"{_TMP}/":
                continue
            if name.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = entry.stat(follow_symlinks=False)
                    yield Listed(key, status.st_size, status.st_mtime_ns)

    def _sweep(self) -> None:
        """Once: remove what writers left unfinished that were killed long ago."""
        with self._mutex:
            if self._is_swept:
                return
            self._is_swept = True
        folder = f"{self._root}/{_TMP}"
        with contextlib.suppress(OSError):  # another user's, or just being removed by somebody else
            clock = f"{folder}/{os.getpid()}-{os.urandom(8).hex()}"
            _write(clock, b"")
            now = os.stat(clock).st_mtime_ns
            os.unlink(clock)
            with os.scandir(folder) as found:
                old = [one.path for one in found if now - one.stat(follow_symlinks=False).st_mtime_ns > _ABANDONED_NS]
            for path in old:
                os.unlink(path)


def _read(fd: int, start: int, stop: int) -> bytes:
    """The bytes of a file between two places; fewer where it ends."""
    pieces = []
    while start < stop and (piece := os.pread(fd, stop - start, start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write(path: str, data: Buffer) -> None:
    """A new flushed file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o666)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
