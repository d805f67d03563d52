"""File descriptors that carry a flock: waited for within a bound, named when busy, never kept alive by a fork.

The kernel ends a flock when the last copy of its descriptor is closed, so no lock outlives its process and a crash
leaves nothing to unlock. The copies are the trap: a child forked while any thread holds a lock inherits one, and the
lock would live on for as long as the child does. Every descriptor that will be locked is therefore registered at
birth, and a fork closes the child's copies. Programs started by `exec` get none (close-on-exec).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable
from weakref import WeakSet

# The journal lock is held for a flush or less, so the first polls come soon; 20 ms bounds the cost of long waits.
_FIRST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.02
_COMMAND_CHARS = 80


class Descriptor:
    """A file descriptor with one owner; closed once, at the latest when the object is collected."""

    __slots__ = ("__weakref__", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it; -1 stands in its place, so that a second close cannot hit a number used anew."""
        # A fork between the two steps would leave the child a copy that it knows nothing of.
        with _birth:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                # What an error here would report is lost unsynced data, which was never promised.
                with contextlib.suppress(OSError):
                    os.close(fd)

    def __del__(self) -> None:
        self.close()


_lockable: WeakSet[Descriptor] = WeakSet()
# Held while a descriptor is born or closed and while the process forks: a fork between `os.open` and the registration
# would hand the child a copy nobody closes. Reentrant because a signal handler may fork.
_birth = threading.RLock()


def _close_copies_in_child() -> None:
    for descriptor in list(_lockable):
        descriptor.close()
    _birth.release()


os.register_at_fork(before=_birth.acquire, after_in_parent=_birth.release, after_in_child=_close_copies_in_child)


def open_lockable(open_fd: Callable[[], int]) -> Descriptor:
    """The descriptor made by `open_fd`, fit to be locked: a forked child will not share it."""
    with _birth:
        descriptor = Descriptor(open_fd())
        _lockable.add(descriptor)
    return descriptor


def try_lock(descriptor: Descriptor, *, exclusive: bool) -> bool:
    """Take the flock if it is free now."""
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor.fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_until(descriptor: Descriptor, deadline: float, *, exclusive: bool) -> bool:
    """Take the flock, trying again until `deadline` on the monotonic clock; False if it never was free.

    Polled: a blocking flock has no timeout, and an alarm signal would be seen by the program around us.
    """
    pause_s = _FIRST_PAUSE_S
    while not try_lock(descriptor, exclusive=exclusive):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    return True


def holder_of(descriptor: Descriptor) -> str:
    """Who holds a flock on this file, for a message: `process 4121 (python train.py)`."""
    seen = holders_of(descriptor.fd)
    if not seen:
        return "another process"
    more = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
    return f"process {seen[0]}{_command_of(seen[0])}{more}"


def holders_of(fd: int) -> list[int]:
    """The processes that hold a flock on an open file, as far as the system tells; ascending."""
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        rows = [line.split() for line in _read("/proc/locks").decode().splitlines()]
    except OSError:
        return []
    # `7: FLOCK ADVISORY WRITE 4121 fd:00:1835 0 EOF`; waiters have `->` in the second column. The process id is 0
    # or negative for a holder in another pid namespace.
    pids = [int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == device]
    return sorted({pid for pid in pids if pid > 0})


def _command_of(pid: int) -> str:
    try:
        words = _read(f"/proc/{pid}/cmdline").split(b"\0")
    except OSError:
        return ""
    text = " ".join(word.decode(errors="replace") for word in words if word)
    shown = "".join(char if char.isprintable() else "?" for char in text)
    if len(shown) > _COMMAND_CHARS:
        shown = shown[: _COMMAND_CHARS - 3] + "..."
    return f" ({shown})" if shown else ""


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
