"""Files, folders and links below an open folder, made so that nothing can lead a write out of it.

Every folder on the way is opened by its own name, in the one that was opened before, and never through a symbolic
link; what is made must be new. So it does not matter which links are in the folder, or come into it meanwhile.
Names are bytes, since those of a commit may not be text here; that they are plain is the caller's to check.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from casckpt.storage.flock import Descriptor
from casckpt.storage.posix import OPEN_FLAGS, sync_open_folder

Names = tuple[bytes, ...]

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_MAX = 64


def new_folder(parent: int, name: bytes) -> int:
    """The descriptor of a new folder that is its owner's alone, whatever the umask."""
    os.mkdir(name, 0o700, dir_fd=parent)
    try:
        fd = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except PermissionError:  # the umask denies its owner, and what cannot be opened takes its mode by a detour
        handle = Descriptor(os.open(name, _FOLDER_FLAGS | getattr(os, "O_PATH", 0), dir_fd=parent))
        os.chmod(f"/proc/self/fd/{handle.fd}", 0o700)
        handle.close()
        fd = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    _set_mode(fd, 0o700)
    return fd


def new_file(parent: int, name: bytes) -> int:
    """The descriptor of a new empty file that is its owner's alone, whatever the umask."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600, dir_fd=parent)
    _set_mode(fd, 0o600)
    return fd


def make_executable(fd: int) -> None:
    """Let the owner of a file execute it."""
    _set_mode(fd, 0o700)


def _set_mode(fd: int, mode: int) -> None:
    if os.fstat(fd).st_mode & 0o777 != mode:
        os.fchmod(fd, mode)


class Below:
    """One thread. A context manager that closes what it holds open; `top` stays the caller's.

    Every call raises FileExistsError if the last name is taken: on a file system that takes some names for equal,
    that may be so although they differ.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._open: OrderedDict[Names, Descriptor] = OrderedDict()

    def __enter__(self) -> Below:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def make_folder(self, names: Names) -> None:
        """A new folder in one that is there."""
        self._keep(names, new_folder(self._folder(names[:-1]), names[-1]))

    def create(self, names: Names, *, executable: bool) -> Descriptor:
        """A new empty file in a folder that is there."""
        file = Descriptor(new_file(self._folder(names[:-1]), names[-1]))
        if executable:
            make_executable(file.fd)
        return file

    def link(self, names: Names, target: bytes) -> None:
        """A new symbolic link in a folder that is there."""
        os.symlink(target, names[-1], dir_fd=self._folder(names[:-1]))

    def sync_folder(self, names: Names) -> None:
        """Make the names in a folder durable."""
        sync_open_folder(self._folder(names))

    def _folder(self, names: Names) -> int:
        if not names:
            return self._top
        known = self._open.get(names)
        if known is not None:
            self._open.move_to_end(names)
            return known.fd
        return self._keep(names, os.open(names[-1], _FOLDER_FLAGS, dir_fd=self._folder(names[:-1])))

    def _keep(self, names: Names, fd: int) -> int:
        self._open[names] = Descriptor(fd)
        if len(self._open) > _OPEN_MAX:
            self._open.popitem(last=False)[1].close()
        return fd
