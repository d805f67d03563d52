"""Upkeep that nobody asks for: after commits, policies that the store keeps are applied, and what may go is freed.

It takes at most a twentieth of the time: after a turn that took a second, the next comes 20 s later at the earliest,
and never more than one a minute. What processes that live for a moment leave undone, one of them does when it ends.
Nothing of it is a promise, so that no failure reaches whoever commits; `casckpt gc` does the same and says what is
wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from casckpt.errors import CasckptError
from casckpt.odb.notices import warn
from casckpt.odb.repository import Repository
from casckpt.odb.temporary import create_temporary
from casckpt.ops.mirroring import Mirroring
from casckpt.storage.base import Storage, read_exact, write_all
from casckpt.units import SECOND

if TYPE_CHECKING:
    from casckpt.plan.settings import Value

PAUSE_S = 60.0
SHARE = 20
LONGEST_S = 10.0
"""A turn ends after so long; what is left is for the next one."""
WORTH_PACKS = 16
"""With fewer packs, processes that live for a moment leave the store alone."""
_WAIT_S = 0.2
_NOTE = "upkeep"
_NOTE_BYTES = 200


class _Over(Exception):
    """The store is being closed."""


class Maintainer:
    """The turns of one open store, each in a thread of its own; and the pushes behind it, see `mirroring`.

    Args:
        said: settings of remotes from stronger places than the store's file.
        wanted: whether there are to be any turns.
    """

    def __init__(self, repository: Repository, said: Mapping[str, Value], *, wanted: bool) -> None:
        self._repository = repository
        self._mirroring = Mirroring(repository, said)
        self._wanted = wanted and not repository.storage.read_only
        self._has_commits = False
        self._next_s = time.monotonic() + PAUSE_S
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._packs = 0
        """How many packs there were after the last turn."""

    def after_commit(self, run: str) -> None:
        """Begin a turn if it is time for one, and let a run be pushed. Cost: a look at the clock."""
        self._mirroring.after_commit(run)
        self._has_commits = True
        if not self._wanted or time.monotonic() < self._next_s or self._is_busy():
            return
        self._pid, self._closing = os.getpid(), threading.Event()
        self._thread = threading.Thread(target=self._turn, name="casckpt-upkeep", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be had: another time
            self._thread.start()

    def close(self) -> None:
        """Push what is left; end a turn that is under way, or take one that is due, if this process has committed."""
        self._mirroring.close()
        if self._is_busy() and self._thread is not None:
            self._closing.set()
            self._thread.join()
        elif self._wanted and self._has_commits and self._is_due_for_store():
            self._turn()
        self._has_commits = False

    def _is_busy(self) -> bool:
        # The child of a fork has no thread, whatever its copy of the object says.
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    def _turn(self) -> None:
        start = time.monotonic()
        try:
            self._packs = _maintain(self._repository, start + LONGEST_S, self._closing.is_set, self._packs)
        except CasckptError as error:
            warn("upkeep after a commit: %s", error)
        took = time.monotonic() - start
        self._next_s = time.monotonic() + max(PAUSE_S, SHARE * took)
        _write_note(self._repository.storage, took)

    def _is_due_for_store(self) -> bool:
        """Whether the last turn of any process is long enough ago."""
        storage = self._repository.storage
        try:
            if len(list(islice(self._repository.database.pack_set(), WORTH_PACKS))) < WORTH_PACKS:
                return False
            at_ns, took = _read_note(storage)
        except CasckptError:
            return False
        if not at_ns:
            _write_note(storage, 0.0)
        return bool(at_ns) and time.time_ns() - at_ns >= int(max(PAUSE_S, SHARE * took) * SECOND)


def _maintain(repository: Repository, end_s: float, is_over: Callable[[], bool], known: int) -> int:
    """Do what is worth it, and tell how many packs there are then.

    Args:
        end_s: when to end, on the monotonic clock.
        is_over: whether to end at once.
        known: what the last turn told: with little more there is nothing to pack.
    """
    from casckpt.ops.gc import FEWEST, gc
    from casckpt.ops.kept_policy import kept_policies

    database = repository.database
    database.refresh()
    has_drops = next(iter(database.drops()), None) is not None
    packs = sum(1 for _ in database.pack_set())
    if not (has_drops or packs >= known + FEWEST or kept_policies(database).layers):
        return known

    def go_on(done: int, total: int) -> None:
        if is_over():
            raise _Over

    with contextlib.suppress(_Over):
        report = gc(repository, wait_s=_WAIT_S, limit_s=max(end_s - time.monotonic(), 0.0), progress=go_on)
        if report.plan.early:
            warn("the disk is nearly full: the graces of %d dropped commits ended early", len(report.plan.early))
    return sum(1 for _ in database.pack_set())


def _read_note(storage: Storage) -> tuple[int, float]:
    """When the last turn ended and how long it took; 0 if that is not known."""
    try:
        file = storage.open_read(_NOTE)
    except FileNotFoundError:
        return 0, 0.0
    try:
        found = json.loads(read_exact(file, 0, min(file.size(), _NOTE_BYTES)))
        return int(found["at"]), float(found["took"])
    except (ValueError, KeyError, TypeError):
        return 0, 0.0
    finally:
        file.close()


def _write_note(storage: Storage, took: float) -> None:
    """Note that a turn has ended. Not flushed: without it, one comes sooner or later than it should."""
    try:
        name, file = create_temporary(storage, _NOTE)
        try:
            write_all(file, json.dumps({"at": time.time_ns(), "took": took}).encode(), 0)
        finally:
            file.close()
        storage.rename(name, _NOTE)
    except CasckptError as error:
        warn("upkeep after a commit: %s", error)
