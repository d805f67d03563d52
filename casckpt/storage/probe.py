"""What a file system can do, tried out on files of a folder that are gone again when the trial ends.

Each trial is what the store relies on: that a lock one opening holds is refused to another, that O_DIRECT works or is
refused cleanly, that a flush succeeds, that a rename replaces a file, that a file can be mapped, that its clock is
ours. A trial that fails says why in the words of the operating system.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from casckpt.storage.posix import OPEN_FLAGS, sync_folder

PAGE = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)


class Trial(NamedTuple):
    """One trial: whether it went well, what to say of it, how long it took."""

    name: str
    ok: bool
    says: str = ""
    seconds: float = 0.0


def trials(folder: str) -> Iterator[Trial]:
    """Try everything out in a folder that can be written; leaves nothing behind.

    Raises:
        OSError: not even an empty file can be made.
    """
    with _file(folder) as (path, descriptor):
        yield _tried("flock", lambda: _flock(path, descriptor))
        yield _tried("clock", lambda: _clock(path))
        yield _tried("flush", lambda: _flush(descriptor, folder))
        yield _tried("direct", lambda: _direct(path))
        yield _tried("mmap", lambda: _mmap(descriptor))
    yield _tried("rename", lambda: _rename(folder))


def _tried(name: str, trial: Callable[[], str]) -> Trial:
    start = time.perf_counter()
    try:
        says = trial()
    except OSError as error:
        return Trial(name, False, os.strerror(error.errno) if error.errno else str(error))
    return Trial(name, not says, says, time.perf_counter() - start)


@contextlib.contextmanager
def _file(folder: str) -> Iterator[tuple[str, int]]:
    path = os.path.join(folder, f"doctor-{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600)
    try:
        # Locked like every unfinished file, so that no writer takes it for one that a dead process left.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _flock(path: str, keeper: int) -> str:
    fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other = os.open(path, os.O_RDWR | OPEN_FLAGS)
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    finally:
        os.close(other)
    return "a lock that one process holds is given to another too"


def _clock(path: str) -> str:
    before = time.time()
    os.utime(path)
    apart = os.stat(path).st_mtime - before
    return "" if -2 < apart < 2 else f"its clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this one"


def _flush(descriptor: int, folder: str) -> str:
    os.pwrite(descriptor, bytes(PAGE), 0)
    getattr(os, "fdatasync", os.fsync)(descriptor)
    sync_folder(folder)
    return ""


def _direct(path: str) -> str:
    if not _O_DIRECT:
        return "this system has no O_DIRECT"
    descriptor = os.open(path, os.O_RDWR | OPEN_FLAGS | _O_DIRECT)
    try:
        with mmap.mmap(-1, PAGE) as page:
            os.pwrite(descriptor, page, 0)
    finally:
        os.close(descriptor)
    return ""


def _mmap(descriptor: int) -> str:
    os.pwrite(descriptor, b"casckpt", 0)
    with mmap.mmap(descriptor, PAGE, prot=mmap.PROT_READ) as mapped:
        return "" if mapped[:7] == b"casckpt" else "what was mapped is not what was written"


def _rename(folder: str) -> str:
    with _file(folder) as (old, _), _file(folder) as (new, _):
        os.replace(old, new)
        return "" if os.path.exists(new) and not os.path.lexists(old) else "the old name is still there"
