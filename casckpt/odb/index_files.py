"""Files beside the index: its lock file, private copies, and what is to go."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import BinaryIO, cast

LOCK_BYTES = 68 << 10
"""A little more than the lock file needs for all readers."""


def allot_lock_file(folder: str) -> None:
    """Make the lock file with all its blocks, unless it is there.

    LMDB would make it of holes and write to it as memory: on a full disk the process dies of that, by SIGBUS.

    Raises:
        OSError: there is no room.
    """
    name = os.path.join(folder, "lock.mdb")
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if os.write(descriptor, bytes(LOCK_BYTES)) < LOCK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    except OSError:
        os.unlink(name)
        raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def private_file() -> Iterator[tuple[BinaryIO, str]]:
    """An empty file that no other process opens, and a path by which this one can while the context lasts."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("casckpt-index"), "wb") as file:
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        import tempfile

        with tempfile.NamedTemporaryFile(prefix="casckpt-index-") as named:
            yield cast(BinaryIO, named), named.name


def remove(path: str) -> None:
    """Remove a folder or file, whatever is in it."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.unlink(path)
