"""Open files and folders of a POSIX file system, with its errors turned into casckpt's.

The one place where an OSError is translated: every call of `local` and of the files here runs inside `OsErrors`.
Files are 0600 and folders 0700 from the moment they exist, whatever the umask.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from types import TracebackType
from typing import TYPE_CHECKING

from casckpt.errors import CasckptError, ReadOnlyStore, StorageError, StoreFull
from casckpt.storage.base import Buffer
from casckpt.storage.flock import Descriptor

if TYPE_CHECKING:
    from casckpt.storage.cold import ColdReads
    from casckpt.storage.mapping import Mapping

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DENIED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_READING = frozenset({"open", "read", "map", "list", "measure"})

# No symbolic link at the last step of a name; and since a hostile store may hold a FIFO where a pack belongs,
# O_NONBLOCK, which regular files ignore, keeps its open from hanging.
OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
# Below this, one direct read after the other is slower than the kernel's read-ahead.
_COLD_FROM = 256 << 10
# macOS: fsync leaves the data in the drive's cache, only this command flushes it.
_F_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


class OsErrors:
    """Turns the OSErrors of its block into casckpt's; a class, since it sits in the path of every read."""

    __slots__ = ("_names_pass", "_operation", "_path")

    def __init__(self, operation: str, path: str, *, names_pass: bool = True) -> None:
        self._operation = operation
        self._path = path
        self._names_pass = names_pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not isinstance(error, OSError) or isinstance(error, CasckptError):
            return
        if self._names_pass and isinstance(error, FileNotFoundError | FileExistsError):
            return
        cls: type[StorageError] = StorageError
        if error.errno in _FULL:
            cls = StoreFull
        elif error.errno in DENIED and self._operation not in _READING:
            cls = ReadOnlyStore
        problem = os.strerror(error.errno) if error.errno else str(error)
        raise cls(operation=self._operation, path=self._path, problem=problem, errno=error.errno) from error


class PosixReadFile:
    """A file open for reading; any number of threads may read it at once."""

    def __init__(self, descriptor: Descriptor, path: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._cold: ColdReads | None = None
        self._cold_known = False

    def fileno(self) -> int:
        """The descriptor, -1 once closed; it stays this object's."""
        return self._descriptor.fd

    def size(self) -> int:
        with OsErrors("measure", self._path):
            return os.fstat(self._descriptor.fd).st_size

    def read_into(self, target: memoryview, offset: int) -> int:
        done, wanted = 0, len(target)
        with OsErrors("read", self._path):
            if wanted >= _COLD_FROM and (cold := self._cold_reads()) is not None:
                done = cold.read_into(target, offset)
            while done < wanted:  # one call stops at 2 GiB, and network file systems stop earlier
                count = os.preadv(self._descriptor.fd, [target[done:]], offset + done)
                if count == 0:
                    break
                done += count
        return done

    def _cold_reads(self) -> ColdReads | None:
        """Opened by the first large read. No lock: of two threads' the later one stays, and both are right."""
        if not self._cold_known:
            from casckpt.storage.cold import open_cold

            self._cold = open_cold(self._descriptor)
            self._cold_known = True
        return self._cold

    def expect_scattered(self, on: bool) -> None:
        if hasattr(os, "posix_fadvise"):  # macOS has none
            with contextlib.suppress(OSError):  # without it reads are slower, and no less right
                os.posix_fadvise(self._descriptor.fd, 0, 0, os.POSIX_FADV_RANDOM if on else os.POSIX_FADV_NORMAL)

    def map_into(self, mapping: Mapping, offset: int, nbytes: int, at: int) -> bool:
        with OsErrors("map", self._path):
            return mapping.lay(self._descriptor.fd, offset, nbytes, at)

    def close(self) -> None:
        cold, self._cold = self._cold, None
        if cold is not None:
            cold.close()
        self._descriptor.close()


class PosixWriteFile:
    """A file open for writing, bypassing the page cache if `direct`."""

    def __init__(self, descriptor: Descriptor, path: str, *, direct: bool = False) -> None:
        self._descriptor = descriptor
        self._path = path
        self._direct = direct and _set_direct(descriptor.fd, True)
        self._sync_failed = False

    def fileno(self) -> int:
        """The descriptor, -1 once closed; it stays this object's."""
        return self._descriptor.fd

    def size(self) -> int:
        with OsErrors("measure", self._path):
            return os.fstat(self._descriptor.fd).st_size

    def write_at(self, data: Buffer, offset: int) -> int:
        with OsErrors("write", self._path):
            try:
                return os.pwrite(self._descriptor.fd, data, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
            # Misaligned, or a device that wants more than 4 KiB: the page cache takes what O_DIRECT refuses.
            _set_direct(self._descriptor.fd, False)
            self._direct = False
            return os.pwrite(self._descriptor.fd, data, offset)

    def truncate(self, size: int) -> None:
        with OsErrors("truncate", self._path):
            os.ftruncate(self._descriptor.fd, size)

    def sync(self) -> None:
        with OsErrors("flush", self._path):
            # After a failed flush Linux marks the pages clean, and the next one would succeed without their bytes.
            if self._sync_failed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            try:
                _flush(self._descriptor.fd)
            except OSError:
                self._sync_failed = True
                raise

    def close(self) -> None:
        self._descriptor.close()


def _set_direct(fd: int, on: bool) -> bool:
    """Switch O_DIRECT on or off; False if the file system has none.

    Not asked for in `open`: there a file system without O_DIRECT may refuse after it created the file.
    """
    if not _O_DIRECT:
        return False
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | _O_DIRECT if on else flags & ~_O_DIRECT)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
        return False
    return True


def _flush(fd: int) -> None:
    if _F_FULLFSYNC is not None:
        fcntl.fcntl(fd, _F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)  # enough: it flushes the size with the bytes, and times may be lost
    else:
        os.fsync(fd)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_open_folder(fd)
    finally:
        os.close(fd)


def sync_open_folder(fd: int) -> None:
    """Make the names in an open folder durable."""
    try:
        os.fsync(fd)
    except OSError as error:
        # Some FUSE and SMB mounts cannot flush a folder at all; to fail there would make them unusable, not safer.
        if error.errno != errno.EINVAL:
            raise


def open_new(path: str) -> int:
    """The descriptor of a new empty file that is its owner's alone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600)
    if os.fstat(fd).st_mode & 0o777 != 0o600:  # a umask can only take bits away
        os.fchmod(fd, 0o600)
    return fd


def open_regular(path: str, flags: int) -> Descriptor:
    """An existing file, opened; anything else that has the name is refused."""
    descriptor = Descriptor(os.open(path, flags | OPEN_FLAGS))
    mode = os.fstat(descriptor.fd).st_mode
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code))
    return descriptor


def make_folder(path: str) -> bool:
    """Create a folder that is its owner's alone; False if it was there already."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        return False
    if os.stat(path).st_mode & 0o777 != 0o700:
        os.chmod(path, 0o700)
    return True
