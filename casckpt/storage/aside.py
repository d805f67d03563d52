"""A file or folder that is built beside its place and put there in one step.

What is built has the name `.NAME.PID-RANDOM.part` in the folder of its place and is flocked by its builder, so it is
known for abandoned once nobody holds the lock: the next one that is built for the same place removes it.

One rename puts it there. Where something is replaced, the two swap their names, and what was there is removed under
the name of the new: at every moment the place holds the whole old or the whole new. A file system that cannot swap
gets two renames, of the old to `.NAME.PID-RANDOM.old` and of the new to its place. A crash between the two leaves
both, whole, beside an empty place; an `.old` is removed by nobody but its builder.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from types import TracebackType
from typing import Self

from casckpt.errors import TargetExists, UnsafePath, UsageError
from casckpt.storage.below import new_file, new_folder
from casckpt.storage.flock import Descriptor, open_lockable, try_lock
from casckpt.storage.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, rename_with
from casckpt.storage.posix import OPEN_FLAGS, OsErrors, sync_open_folder

# Of the name, so that what is put around it fits into the 255 bytes that names may have.
_STEM_BYTES = 200
_TRIES = 16
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})
_OCCUPIED = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})


def check_place(path: str | os.PathLike[str], *, is_folder: bool, replace: bool) -> None:
    """Find out early whether `Aside.place` would refuse.

    Raises:
        TargetExists: something is there, other than an empty folder in the way of a folder, and is not to be replaced.
        UnsafePath: it is to be replaced, and is neither a regular file nor a folder.
        UsageError: the working folder is or lies in what would be replaced.
    """
    place = os.path.abspath(path)
    with OsErrors("replace" if replace else "write", place):
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return
        if replace:
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UnsafePath(path=place, problem="only a regular file or a folder is replaced")
        elif not (is_folder and stat.S_ISDIR(mode) and not os.listdir(place)):
            raise TargetExists(path=os.fspath(path))
    with suppress(FileNotFoundError):
        here, real = os.getcwd(), os.path.realpath(place)
        if os.path.commonpath([here, real]) == real:
            raise UsageError(problem=f"{place} is not replaced while it is, or holds, the working folder")


class Aside:
    """A context manager: makes the new file or folder, and leaves nothing behind but what was put in its place.

    One thread. Files are 0600 and folders 0700, whatever the umask.

    Args:
        path: the place.
        is_folder: what to build.

    Attributes:
        descriptor: of what is built, locked; a file's can be written to.
        leftover: path of what could not be removed; None if nothing.
    """

    def __init__(self, path: str | os.PathLike[str], *, is_folder: bool) -> None:
        self.path = os.path.abspath(path)
        self.descriptor = Descriptor(-1)
        self.leftover: str | None = None
        self._is_folder = is_folder
        self._name = os.fsencode(os.path.basename(self.path))
        self._aside = self._old = b""
        self._parent = Descriptor(-1)

    def __enter__(self) -> Self:
        parent = os.path.dirname(self.path)
        if not self._name:
            raise UsageError(problem=f"{self.path} cannot be replaced")
        try:
            self._parent = Descriptor(os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(problem=f"the folder {parent} does not exist") from error
        try:
            self._remove_abandoned()
            self._create()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def place(self, *, replace: bool) -> None:
        """Put what was built, which must be durable, in its place, durably.

        Raises:
            TargetExists: something is there, other than an empty folder in the way of a folder.
            OSError: as the system says; what was there is there again.
        """
        if replace and self._exchange():
            return
        try:
            self._move()
        except OSError as error:
            if error.errno in _OCCUPIED:
                raise TargetExists(path=self.path) from error
            raise
        try:
            sync_open_folder(self._parent.fd)
        except OSError:
            self._move_back()
            raise

    def _move(self) -> None:
        if self._is_folder:
            self._rename(self._aside, self._name)  # fails if a folder is there that is not empty
            return
        try:
            rename_with(RENAME_NOREPLACE, self._parent.fd, self._aside, self._name)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            # Its other name is removed with all that is aside.
            os.link(self._aside, self._name, src_dir_fd=self._parent.fd, dst_dir_fd=self._parent.fd)

    def _move_back(self) -> None:
        if self._exists(self._aside):  # a second name of the same file, and to rename one to the other does nothing
            os.unlink(self._name, dir_fd=self._parent.fd)
        else:
            self._rename(self._name, self._aside)

    def _exchange(self) -> bool:
        """Swap the new and what is there, durably; False if nothing is there."""
        try:
            rename_with(RENAME_EXCHANGE, self._parent.fd, self._aside, self._name)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            return self._rename_both()
        try:
            sync_open_folder(self._parent.fd)
        except BaseException:
            rename_with(RENAME_EXCHANGE, self._parent.fd, self._aside, self._name)
            raise
        return True

    def _rename_both(self) -> bool:
        """As `_exchange`, where the system has none; whatever fails or interrupts this, `_clean` puts right."""
        self._old = self._aside.removesuffix(b".part") + b".old"
        try:
            self._rename(self._name, self._old)
        except FileNotFoundError:
            return False
        self._move()
        try:
            sync_open_folder(self._parent.fd)
        except BaseException:
            self._move_back()
            raise
        return True

    def _remove_abandoned(self) -> None:
        """Remove what builders of the same thing left who are dead."""
        pattern = re.compile(re.escape(self._prefix()) + rb"\d+-[0-9a-f]{12}\.part")
        for name in map(os.fsencode, os.listdir(self._parent.fd)):
            if not pattern.fullmatch(name):
                continue
            # What is another user's, or just being removed by somebody else, is none of our business.
            with suppress(OSError):
                found = open_lockable(lambda name=name: self._open(name))  # type: ignore[misc]
                try:
                    if try_lock(found, exclusive=True) and self._is(name, found):
                        self._remove(name)
                finally:
                    found.close()

    def _create(self) -> None:
        for _ in range(_TRIES):
            self._aside = self._prefix() + f"{os.getpid()}-{os.urandom(6).hex()}.part".encode()
            try:
                self.descriptor = open_lockable(self._make)
                with suppress(OSError):  # a file system without locks: then nobody there removes anything
                    if not try_lock(self.descriptor, exclusive=True):
                        continue
                if self._is(self._aside, self.descriptor):
                    return
            except FileNotFoundError:
                pass
            # Before it was locked, somebody who removes what is abandoned took it for that.
            self.descriptor.close()
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _make(self) -> int:
        return (new_folder if self._is_folder else new_file)(self._parent.fd, self._aside)

    def _end(self) -> None:
        try:
            self._clean()
        except BaseException:  # an interrupt must not leave anything; a second one may
            self._clean()
            raise
        finally:
            self.descriptor.close()
            self._parent.close()

    def _clean(self) -> None:
        """Remove the new if it is not in its place, else the old; by what is there, since interrupts come anywhere."""
        if self._old and self._exists(self._old):
            if self._is(self._name, self.descriptor):
                self._remove(self._aside)  # by now at most a second name of the new
                with suppress(OSError):  # under that name others remove it if this is killed meanwhile
                    self._rename(self._old, self._aside)
                self._remove(self._old)
            elif not self._exists(self._name):
                self._rename(self._old, self._name)
        if self._aside:
            self._remove(self._aside)

    def _remove(self, name: bytes) -> None:
        try:
            if stat.S_ISDIR(os.lstat(name, dir_fd=self._parent.fd).st_mode):
                shutil.rmtree(name, dir_fd=self._parent.fd)
            else:
                os.unlink(name, dir_fd=self._parent.fd)
        except FileNotFoundError:
            pass
        except OSError:
            self.leftover = os.path.join(os.path.dirname(self.path), os.fsdecode(name))

    def _prefix(self) -> bytes:
        return b"." + self._name[:_STEM_BYTES] + b"."

    def _open(self, name: bytes) -> int:
        return os.open(name, os.O_RDONLY | OPEN_FLAGS, dir_fd=self._parent.fd)

    def _rename(self, source: bytes, target: bytes) -> None:
        os.rename(source, target, src_dir_fd=self._parent.fd, dst_dir_fd=self._parent.fd)

    def _exists(self, name: bytes) -> bool:
        try:
            os.lstat(name, dir_fd=self._parent.fd)
        except FileNotFoundError:
            return False
        return True

    def _is(self, name: bytes, descriptor: Descriptor) -> bool:
        return self._exists(name) and os.path.samestat(os.fstat(descriptor.fd), os.lstat(name, dir_fd=self._parent.fd))
