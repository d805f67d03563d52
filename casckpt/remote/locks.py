"""Locks of a remote, for those who agree to use them: one at a time makes a checkpoint, say.

A lock is an entry of the root, so it is taken as everything is: by creating the next root. Its token is new with every
renewal. Who pushes under a lock looks for the token in the root that is replaced, so that a holder who was stopped for
long, and whose lock somebody else took, changes nothing any more. No two clocks are compared: a lock is taken over only
by who has watched the same token for the whole time that it may live, on a clock of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from casckpt.errors import BusyError, LockLost
from casckpt.format.remote import Lock, RemoteRoot
from casckpt.remote.roots import append_root, new_push_id, pusher
from casckpt.remote.view import RemoteView

TOKEN_BYTES = 16
POLL_S = 2.0


class RemoteLock:
    """A lock that this process took. One thread at a time.

    Args:
        view: of the remote; the lock's own, since it is looked at while others push.
    """

    def __init__(self, view: RemoteView, name: str, token: bytes, ttl_s: int) -> None:
        self._view = view
        self.name = name
        self.token = token
        self._ttl_s = ttl_s

    def check(self, root: RemoteRoot) -> None:
        """Raise LockLost unless a root says that the lock is still this one's."""
        lock = root.locks.get(self.name)
        if lock is None or lock.token != self.token:
            problem = "it was taken away" if lock is None else f"it is held by {lock.owner!a}"
            raise LockLost(lock=self.name, remote=self._view.objects.url, problem=problem)

    def renew(self) -> None:
        """Live on for the whole time from now.

        Raises:
            LockLost: somebody else has it.
        """
        token = os.urandom(TOKEN_BYTES)
        self._replace(Lock(pusher(), token, self._ttl_s))
        self.token = token

    def release(self) -> None:
        """Let go of it; nothing if it is lost."""
        try:
            self._replace(None)
        except LockLost:
            return

    def _replace(self, lock: Lock | None) -> None:
        def change(root: RemoteRoot) -> RemoteRoot:
            mine = root.locks.get(self.name)
            if mine is not None and lock is not None and mine.token == lock.token:
                return root  # it came through before, and the answer was lost
            self.check(root)
            return _with(root, self.name, lock)

        self._view.refresh()
        append_root(self._view, change, new_push_id(), note=f"lock {self.name}")


def lock_remote(
    view: RemoteView,
    name: str,
    *,
    ttl_s: int,
    wait_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RemoteLock:
    """Take a lock of a remote.

    Args:
        ttl_s: so many seconds after its last renewal others may take it over.
        wait_s: how long to wait for it; for the whole time it may live without renewal, a dead holder's is taken.

    Raises:
        BusyError: somebody holds it; names who.
    """
    token, end = os.urandom(TOKEN_BYTES), clock() + wait_s
    watched: Lock | None = None
    since = clock()
    while True:
        root = view.refresh()
        there = None if root is None else root.locks.get(name)
        if there != watched:
            watched, since = there, clock()
        if there is None or clock() - since >= there.ttl_s:
            try:
                append_root(view, partial(_taken, name, there, token, ttl_s), new_push_id())
                return RemoteLock(view, name, token, ttl_s)
            except _Changed:
                continue
        if clock() >= end:
            raise BusyError(lock=f"{name} of {view.objects.url}", wait_s=wait_s, holder=there.owner)
        sleep(min(POLL_S, max(end - clock(), 0)))


def break_lock(view: RemoteView, name: str) -> Lock | None:
    """Take a lock from whoever holds it; what it was, None if there was none."""
    found: list[Lock | None] = [None]

    def change(root: RemoteRoot) -> RemoteRoot:
        found[0] = root.locks.get(name, found[0])
        return _with(root, name, None) if name in root.locks else root

    view.refresh()
    append_root(view, change, new_push_id(), note=f"break lock {name}")
    return found[0]


class _Changed(Exception):
    """Somebody was first."""


def _taken(name: str, seen: Lock | None, token: bytes, ttl_s: int, root: RemoteRoot) -> RemoteRoot:
    there = root.locks.get(name)
    if there is not None and there.token == token:
        return root
    if there != seen:
        raise _Changed
    return _with(root, name, Lock(pusher(), token, ttl_s))


def _with(root: RemoteRoot, name: str, lock: Lock | None) -> RemoteRoot:
    """A root in which a lock is this one, or none."""
    locks = {other: held for other, held in root.locks.items() if other != name}
    return replace(root, locks=locks if lock is None else {**locks, name: lock})
