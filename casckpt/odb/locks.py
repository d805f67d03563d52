"""The locks of a store and how long anybody waits for them. All are flock: none outlives its process.

gc       exclusive for the one collector of a store
repack   exclusive for the one repack of a store
gate     turnstile: a committer passes through it shared; a collector holds it exclusively for at most 2 s
commit   shared by committers from their first look-up to their frame, and by checks; exclusive for a collector's
         re-mark
journal  exclusive while parents and refs are settled and the frame is appended: milliseconds
index    exclusive while the index is changed or rebuilt
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from casckpt.errors import BusyError
from casckpt.storage.base import Storage

COMMIT_WAIT_S = 60.0
GATE_HOLD_S = 2.0
"""For so long a collector may keep committers out while it waits for those that are in."""
STEP_BACK_S = 0.2
JOURNAL_WAIT_S = 60.0


@contextmanager
def committing(storage: Storage) -> Iterator[None]:
    """Hold the commit lock, shared; a collector that waits goes first."""
    with storage.lock("gate", exclusive=False, wait_s=COMMIT_WAIT_S):
        pass
    with storage.lock("commit", exclusive=False, wait_s=COMMIT_WAIT_S):
        yield


@contextmanager
def repacking(storage: Storage) -> Iterator[None]:
    """Hold the lock of those who repack: two would do the same work twice. BusyError at once if somebody does."""
    with storage.lock("repack", exclusive=True, wait_s=0):
        yield


@contextmanager
def journaling(storage: Storage) -> Iterator[None]:
    """Hold the journal lock."""
    with storage.lock("journal", exclusive=True, wait_s=JOURNAL_WAIT_S):
        yield


@contextmanager
def collecting(storage: Storage) -> Iterator[None]:
    """Be the one who collects; raises BusyError at once if another is at it."""
    with storage.lock("gc", exclusive=True, wait_s=0):
        yield


@contextmanager
def alone(storage: Storage, wait_s: float) -> Iterator[None]:
    """Hold the commit lock, exclusive: nothing is in flight.

    The gate is held for at most 2 s at a time, so that a committer that does not end, or was stopped, delays nobody
    but the collector.

    Raises:
        BusyError: a committer did not end within `wait_s` seconds; names it.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with ExitStack() as stack:
            left_s = max(deadline - time.monotonic(), 0)
            try:
                stack.enter_context(storage.lock("gate", exclusive=True, wait_s=min(GATE_HOLD_S, left_s)))
                stack.enter_context(storage.lock("commit", exclusive=True, wait_s=min(GATE_HOLD_S, left_s)))
            except BusyError as busy:
                if time.monotonic() >= deadline:
                    raise BusyError(**{**busy.facts, "wait_s": wait_s}) from None
            else:
                yield
                return
        time.sleep(min(STEP_BACK_S, max(deadline - time.monotonic(), 0)))
