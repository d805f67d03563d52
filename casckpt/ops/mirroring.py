"""Mirroring behind a training: what is committed goes to the remotes that are set so, without anybody waiting for it.

A thread pushes the runs that this process has committed to, and rests as long as that took, so that it takes half of
the time at most; `remote.NAME.limit_rate` bounds the line. Nothing of it is a promise while a training goes on: a
failure is a warning, and the next turn tries again. At the end, closing the store pushes what is left, within a bounded
time; what is not there then goes with the next push.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from casckpt.errors import CasckptError
from casckpt.odb.notices import warn
from casckpt.odb.repository import Repository
from casckpt.plan.names import head_ref

if TYPE_CHECKING:
    from casckpt.ops.push_refs import Policy
    from casckpt.ops.remotes import Remote
    from casckpt.plan.settings import Value

PAUSE_S = 2.0
LONGEST_PAUSE_S = 600.0
"""Between tries that fail."""
CLOSE_S = 30.0
"""For so long closing a store goes on pushing."""
_GRACE_S = 5.0


class _Over(Exception):
    """The time is up."""


class Mirroring:
    """The pushes of one open store.

    Args:
        said: settings of remotes from stronger places than the store's file.
    """

    def __init__(self, repository: Repository, said: Mapping[str, Value]) -> None:
        self._repository = repository
        self._said = said
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._remotes: list[Remote] | None = None
        self._runs: set[str] = set()
        """All that this process has committed to."""
        self._waiting = False
        """Whether there may be something to push."""
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._end_s = float("inf")

    def after_commit(self, run: str) -> None:
        """See that a run is pushed. Cost: nothing without a remote that is set so."""
        if self._pid != os.getpid():
            # A child of fork has no thread, whatever its copy says, and what held the mutex may not be there either.
            self._pid, self._mutex = os.getpid(), threading.Lock()
            self._begin()
        with self._mutex:
            if not self._mirrors():
                return
            self._runs.add(run)
            self._waiting = True
            self._start()

    def close(self) -> None:
        """Push what is left, for at most half a minute."""
        if self._pid != os.getpid():
            return
        with self._mutex:
            if not self._runs:
                return
            # Also what was handed over and is committed only now.
            self._waiting = True
            self._end_s = time.monotonic() + CLOSE_S
            self._start()
            thread = self._thread
            self._closing.set()
        if thread is not None:
            thread.join(CLOSE_S + _GRACE_S)
            if thread.is_alive():
                warn("a push behind the training did not end in time; the next one goes on with it")
        with self._mutex:
            self._begin()

    def _mirrors(self) -> list[Remote]:
        """The remotes to push to, looked up once."""
        if self._remotes is None:
            from casckpt.ops.remotes import remotes

            try:
                known = remotes(self._repository.storage, self._said).values()
                self._remotes = [remote for remote in known if remote.mirror]
            except CasckptError as error:
                warn("nothing is pushed behind the training: %s", error)
                self._remotes = []
        return self._remotes

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="casckpt-mirror", daemon=True)
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:  # no thread can be had: another time
                pass

    def _work(self) -> None:
        failures = 0
        while True:
            with self._mutex:
                if not self._waiting or time.monotonic() >= self._end_s:
                    self._thread = None
                    return
                self._waiting = False
                runs, mirrors = sorted(self._runs), list(self._remotes or ())
            start = time.monotonic()
            failed = sum(not self._push(remote, runs) for remote in mirrors)
            failures = failures + 1 if failed else 0
            if failed and not self._closing.is_set():
                self._waiting = True
            pause_s = max(PAUSE_S, time.monotonic() - start) * 2**failures
            self._closing.wait(min(pause_s, LONGEST_PAUSE_S))

    def _push(self, remote: Remote, runs: list[str]) -> bool:
        """Push to one remote; whether that succeeded."""
        from casckpt.ops.connecting import connect
        from casckpt.ops.push import push

        def go_on(done: int, total: int) -> None:
            if time.monotonic() >= self._end_s:
                raise _Over

        database = self._repository.database
        try:
            database.refresh()
            names = [name for name in (head_ref(run, "last") for run in runs) if database.ref(name) is not None]
            if names:
                at = connect(remote)
                push(
                    self._repository, at.objects, remote.name, names,
                    policy=cast("Policy", remote.policy), concurrency=remote.concurrency, note="mirror", progress=go_on,
                )  # fmt: skip
        except _Over:
            warn("the push to %s was ended with the store; the next one goes on with it", remote.name)
        except Exception as error:  # whatever it is, no training ends for it
            warn("the push to %s behind the training: %s", remote.name, error)
            return False
        return True
