"""Bytes of one file in another without a copy: both share the blocks on the disk until one of them is written to.

Btrfs, XFS and some others can; for all the rest the first call says so.
"""

from __future__ import annotations

import fcntl
import os
import struct

from casckpt.storage.base import ReadFile
from casckpt.storage.flock import Descriptor
from casckpt.storage.posix import PosixReadFile

# Number and argument of the call (`ioctl_ficlonerange(2)`), which Python does not name. Processors that number their
# calls otherwise have none of this number.
_FICLONERANGE = 0x4020940D
_ARGUMENT = struct.Struct("=qQQQ")


def duplicate(file: ReadFile) -> Descriptor | None:
    """A descriptor of an open file that stays open whoever closes the file; None if it is on no file system."""
    if not isinstance(file, PosixReadFile) or (fd := file.fileno()) < 0:
        return None
    copy = Descriptor(os.dup(fd))
    # Closed meanwhile, it may have been the number of another file by then.
    return copy if file.fileno() == fd else None


def clone_range(source: Descriptor, start: int, target: Descriptor, offset: int, nbytes: int) -> None:
    """Let `target` have `nbytes` of `source` from `start` on at `offset`; whole blocks of the file system only.

    Raises:
        OSError: as the system says; EOPNOTSUPP, EXDEV or EINVAL if it cannot be done here.
    """
    fcntl.ioctl(target.fd, _FICLONERANGE, _ARGUMENT.pack(source.fd, start, nbytes, offset))
