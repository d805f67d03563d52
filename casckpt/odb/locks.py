"""The locks of a store and how long anybody waits for them. All are flock: none outlives its process.

gate     turnstile: a committer passes through it shared; a collector holds it exclusively for at most 2 s
commit   shared by committers from their first look-up to their frame; exclusive for a collector's re-mark
journal  exclusive while parents and refs are settled and the frame is appended: milliseconds
index    exclusive while the index is changed or rebuilt
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from casckpt.storage.base import Storage

COMMIT_WAIT_S = 60.0
JOURNAL_WAIT_S = 60.0


@contextmanager
def committing(storage: Storage) -> Iterator[None]:
    """Hold the commit lock, shared; a collector that waits goes first."""
    with storage.lock("gate", exclusive=False, wait_s=COMMIT_WAIT_S):
        pass
    with storage.lock("commit", exclusive=False, wait_s=COMMIT_WAIT_S):
        yield


@contextmanager
def journaling(storage: Storage) -> Iterator[None]:
    """Hold the journal lock."""
    with storage.lock("journal", exclusive=True, wait_s=JOURNAL_WAIT_S):
        yield
