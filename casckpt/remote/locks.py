"""Locks of a remote, for those who agree to use them: one at a time makes a checkpoint, say.

A lock is an entry of the root, so it is taken as everything is: by creating the next root. Its token is new with every
renewal. Who pushes under a lock looks for the token in the root that is replaced, so that a holder who was stopped for
long, and whose lock somebody else took, changes nothing any more. No two clocks are compared: a lock is taken over only
by who has watched the same token for the whole time that it may live, on a clock of its own. A holder counts that time
from before its token was seen, so that his has run out when somebody takes over.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from casckpt.errors import CasckptError, LockHeld, LockLost, OutcomeUnknown
from casckpt.format.remote import Lock, RemoteRoot
from casckpt.odb.notices import warn
from casckpt.remote.lock_notes import LockNotes
from casckpt.remote.lock_watch import LockWatch
from casckpt.remote.roots import append_root, new_push_id, pusher
from casckpt.remote.view import RemoteView

TOKEN_BYTES = 16
POLL_S = 2.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Seconds of a clock that also goes on while the machine sleeps, since a lock's time does."""
    return time.clock_gettime(_CLOCK)


class RemoteLock:
    """A lock of a remote that was taken. Thread-safe; a context manager that lets go of it, unless the store keeps it.

    Args:
        view: of the remote; the lock's own, since it is looked at while others push.
        notes: where its tokens are noted.
        is_kept: whether the store keeps it for later processes.
        clock: in seconds.
    """

    def __init__(
        self,
        view: RemoteView,
        name: str,
        ttl_s: int,
        notes: LockNotes | None = None,
        *,
        is_kept: bool = False,
        clock: Callable[[], float] = seconds,
    ) -> None:
        self._view = view
        self._notes = notes or LockNotes()
        self._clock = clock
        self._mutex = threading.RLock()
        self._end_s: float | None = None
        """When nobody else can have it before, by the clock; None if that is not known."""
        self.name = name
        self.ttl_s = ttl_s
        self.is_kept = is_kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_kept:
            return
        try:
            self.release()
        except CasckptError as problem:
            # What was done under it is done, or has failed for a reason of its own.
            warn("the lock %s stays for up to %s s: %s", self.name, self.ttl_s, problem)

    @property
    def url(self) -> str:
        """The remote that it is a lock of."""
        return self._view.objects.url

    def check(self, root: RemoteRoot | None) -> None:
        """Raise LockLost unless a root says that the lock is still this one's."""
        lock = None if root is None else root.locks.get(self.name)
        if lock is None:
            raise self._lost("it was taken away")
        noted = self._notes.find(self.name)
        if noted is None or lock.token not in noted.tokens:
            raise self._lost(f"it is held by {lock.owner!a}")

    def hold(self) -> None:
        """See on the remote that it is still held, and renew it if less than half of its time is left.

        Raises:
            LockLost: it is not.
            RemoteUnavailable: nobody answers.
        """
        with self._mutex:
            self.check(self._view.refresh())
            self._renew_if_due()

    def check_time(self) -> None:
        """Raise LockLost if somebody else can have taken it over by now; asks nobody."""
        if self._left_s() <= 0:
            raise self._lost("its time has run out")

    def renewing(self, progress: Callable[[int, int], object] | None) -> Callable[[int, int], object]:
        """A progress that also renews the lock, for work that may take longer than its time."""

        def advance(done: int, total: int) -> None:
            self._renew_if_due()
            if progress is not None:
                progress(done, total)

        return advance

    def renew(self) -> None:
        """Live on for the whole time from now.

        Raises:
            LockLost: somebody else has it.
        """
        with self._mutex:
            began_s = self._clock()
            token = os.urandom(TOKEN_BYTES)
            self._notes.add(self.name, self.ttl_s, token)
            self._replace(Lock(pusher(), token, self.ttl_s))
            self._end_s = began_s + self.ttl_s

    def release(self) -> None:
        """Let go of it; nothing if it is lost."""
        with self._mutex:
            with contextlib.suppress(LockLost):
                self._replace(None)
            self._notes.remove(self.name)

    def take(self, seen: Lock | None) -> bool:
        """Become the holder of what was free, or held so, when it was looked at; False if that is so no more."""
        began_s = self._clock()
        lock = Lock(pusher(), os.urandom(TOKEN_BYTES), self.ttl_s)
        self._notes.add(self.name, self.ttl_s, lock.token)
        try:
            append_root(self._view, partial(_taken, self.name, seen, lock), new_push_id(), note=f"lock {self.name}")
        except _Changed:
            self._notes.remove(self.name)
            return False
        except KeyboardInterrupt:
            with contextlib.suppress(CasckptError):
                self.release()  # the request may have come through
            raise
        except CasckptError as error:
            if not isinstance(error, OutcomeUnknown):
                self._notes.remove(self.name)
            raise
        self._end_s = began_s + self.ttl_s
        return True

    def _left_s(self) -> float:
        return 0.0 if self._end_s is None else self._end_s - self._clock()

    def _renew_if_due(self) -> None:
        with self._mutex:
            if self._left_s() < self.ttl_s / 2:
                self.renew()

    def _replace(self, lock: Lock | None) -> None:
        def change(root: RemoteRoot) -> RemoteRoot:
            mine = root.locks.get(self.name)
            if mine is not None and lock is not None and mine.token == lock.token:
                return root  # it came through before, and the answer was lost
            self.check(root)
            return _with(root, self.name, lock)

        self._view.refresh()
        append_root(self._view, change, new_push_id(), note=f"{'unlock' if lock is None else 'lock'} {self.name}")

    def _lost(self, problem: str) -> LockLost:
        return LockLost(lock=self.name, remote=self.url, problem=problem)


def lock_remote(
    view: RemoteView,
    name: str,
    *,
    ttl_s: int,
    wait_s: float = 0.0,
    notes: LockNotes | None = None,
    clock: Callable[[], float] = seconds,
    sleep: Callable[[float], None] = time.sleep,
) -> RemoteLock:
    """Take a lock of a remote.

    Args:
        ttl_s: so many seconds after its last renewal others may take it over.
        wait_s: how long to wait for it. A dead holder's is taken once it was seen unchanged for as long as it lives:
            by this call, or since an earlier one of the same store on the same machine.
        notes: those of the store, which keeps it then.

    Raises:
        LockHeld: somebody holds it; names who.
    """
    lock = RemoteLock(view, name, ttl_s, notes, is_kept=notes is not None, clock=clock)
    watch = LockWatch(view.folder, name, clock)
    end = clock() + wait_s
    while True:
        root = view.refresh()
        there = None if root is None else root.locks.get(name)
        left_s = watch.left_s(root)
        if left_s <= 0:
            if lock.take(there):
                return lock
            continue
        if there is not None and clock() >= end:
            raise held(view, name, there, left_s, wait_s)
        sleep(min(POLL_S, left_s, max(end - clock(), 0)))


def break_lock(view: RemoteView, name: str) -> Lock | None:
    """Take a lock from whoever holds it; what it was, None if there was none."""
    found: list[Lock | None] = [None]

    def change(root: RemoteRoot) -> RemoteRoot:
        found[0] = root.locks.get(name, found[0])
        return _with(root, name, None) if name in root.locks else root

    view.refresh()
    append_root(view, change, new_push_id(), note=f"break lock {name}")
    return found[0]


def held(view: RemoteView, name: str, lock: Lock, left_s: float, wait_s: float = 0.0) -> LockHeld:
    """The error that says who holds a lock, and for how long it lives unless it is renewed."""
    left = math.ceil(left_s)
    return LockHeld(lock=name, remote=view.objects.url, holder=lock.owner, wait_s=wait_s, ttl_s=lock.ttl_s, left_s=left)


class _Changed(Exception):
    """Somebody was first."""


def _taken(name: str, seen: Lock | None, lock: Lock, root: RemoteRoot) -> RemoteRoot:
    there = root.locks.get(name)
    if there is not None and there.token == lock.token:
        return root
    if there != seen:
        raise _Changed
    return _with(root, name, lock)


def _with(root: RemoteRoot, name: str, lock: Lock | None) -> RemoteRoot:
    """A root in which a lock is this one, or none."""
    locks = {other: held for other, held in root.locks.items() if other != name}
    return replace(root, locks=locks if lock is None else {**locks, name: lock})
