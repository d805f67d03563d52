"""Commits in the background: they take turns, in the order in which they were handed over.

    caller   flatten -> wait, skip or replace -> stage into an arena -> hand over -> goes on
    worker   commit from the arena -> durable -> arena free -> next, or end

At most one commit is running and one is waiting; each holds an arena. The worker is a thread that is started when
there is work and ends when there is none, and no daemon: the interpreter waits for it before it exits, so what was
handed over is made durable by every end of the process but a kill and `os._exit`. A forked child has none of its
parent's work. A failure is kept until the caller has seen it; what nobody saw is logged at exit.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from casckpt.errors import NotDurableYet, UsageError
from casckpt.odb.notices import warn
from casckpt.ops.pending import Outcome, PendingCommit
from casckpt.ops.values import CommitInfo, WhenBusy

if TYPE_CHECKING:
    from casckpt.ops.staging import Arena
    from casckpt.state.flat import FlatState

Work = Callable[["FlatState"], CommitInfo]


class _Job:
    """One commit on its way: its outcome, and what it needs until it has ended."""

    def __init__(self, work: Work) -> None:
        self.outcome = Outcome()
        self.thread = threading.get_ident()
        self.work: Work | None = work
        self.flat: FlatState | None = None
        self.arena: Arena | None = None

    def run(self) -> tuple[CommitInfo | None, BaseException | None]:
        assert self.work is not None and self.flat is not None
        try:
            return self.work(self.flat), None
        except BaseException as error:  # whatever it is, the caller must hear of it
            return None, error
        finally:
            self.work = self.flat = None


class Background:
    """The background work of one open store. Thread-safe; empty again in a forked child."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.forget()
        _everyone.add(self)

    def forget(self) -> None:
        """Begin anew, without any work: what a forked child does before anything else runs in it."""
        # Reentrant, since a signal may call for a commit while its own thread holds it for a moment.
        self._changed = threading.Condition(threading.RLock())
        self._staging: _Job | None = None
        self._running: _Job | None = None
        self._queued: _Job | None = None
        self._worker: threading.Thread | None = None
        self._free: list[Arena] = []
        self._failed: list[Outcome] = []
        self._watching = 0
        self._closing = threading.Event()

    def watch(self, look: Callable[[Callable[[], bool]], None]) -> None:
        """Let a daemon thread look at something; what it raises is raised by the next call, like a failed commit.

        Args:
            look: told how to ask whether the store is being closed; it should return soon then.
        """

        def run() -> None:
            outcome, error = Outcome(), None
            try:
                look(self._closing.is_set)
            except BaseException as found:  # whatever it is, the caller must hear of it
                error = found
            with self._changed:
                self._watching -= 1
                if error is not None and not self._closing.is_set():
                    self._failed.append(outcome)
                    _unseen.add(outcome)
                outcome.end(None, error)
                self._changed.notify_all()

        with self._changed:
            self._watching += 1
        try:
            threading.Thread(target=run, name="casckpt-verify", daemon=True).start()
        except RuntimeError:  # no thread can be had: the caller looks himself
            run()

    def submit(self, flatten: Callable[[], FlatState], work: Work, when_busy: WhenBusy) -> PendingCommit:
        """Stage a state and hand it over; when this returns the caller may change the state.

        Args:
            flatten: takes the caller's state apart.
            work: commits the staged state; called in another thread.
            when_busy: wait until earlier work has ended; skip this commit; or coalesce: take the place of the commit
                that waits for the running one, if there is one.

        Raises:
            CasckptError: an earlier commit failed and nobody has seen it; nothing else was done.
        """
        start = time.perf_counter()
        self.raise_failure()
        if when_busy not in get_args(WhenBusy):
            raise UsageError(problem=f"when_busy is one of {', '.join(get_args(WhenBusy))}, not {when_busy!r}")
        # Taken apart before another commit gives way to it: a state that cannot be stored changes nothing.
        flat = None if when_busy == "skip" and not self._is_idle() else flatten()
        job = _Job(work)
        try:
            if flat is not None and self._enter(job, when_busy):
                self._stage(job, flat)
                self._hand_over(job)
            else:
                job.outcome.end(None)
        finally:
            self._leave(job)
        job.outcome.blocked_s = time.perf_counter() - start
        return PendingCommit(job.outcome)

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when all that was handed over has ended.

        Raises:
            CasckptError: the first failure that nobody has seen.
            NotDurableYet: work is left after `timeout_s` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_idle() and not self._watching, timeout_s):
                raise NotDurableYet(wait_s=timeout_s)
        self.raise_failure()

    def turn(self) -> None:
        """Wait for the turn of a step that the caller makes himself.

        Raises:
            CasckptError: an earlier commit failed and nobody has seen it.
        """
        self.raise_failure()
        with self._changed:
            self._changed.wait_for(self._is_idle)
        self.raise_failure()

    def close(self) -> None:
        """Wait for all work and release the arenas; raises the first unseen failure and logs the others."""
        self._closing.set()
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle() and not self._watching)
            for arena in self._free:
                arena.release()
            self._free = []
        try:
            self.raise_failure()
        finally:
            with self._changed:
                rest, self._failed = self._failed, []
            for outcome in rest:
                _log(outcome)

    def raise_failure(self) -> None:
        """Raise the first failure that nobody has seen, if there is one."""
        with self._changed:
            while self._failed:
                outcome = self._failed.pop(0)
                _unseen.discard(outcome)
                if not outcome.seen:
                    outcome.info()

    def _is_idle(self) -> bool:
        return self._running is None and self._queued is None

    def _enter(self, job: _Job, when_busy: WhenBusy) -> bool:
        """Become the one that stages and take an arena; False if the commit is to be skipped."""
        with self._changed:
            while self._staging is not None or (when_busy == "wait" and not self._is_idle()):
                if when_busy == "skip":
                    return False
                if self._staging is not None and self._staging.thread == job.thread:
                    problem = "commit was called again while it copies the state: by a signal, or by the state itself"
                    raise UsageError(problem=problem)
                self._changed.wait()
            if when_busy == "skip" and not self._is_idle():
                return False
            self.raise_failure()
            self._staging = job
            if self._queued is not None:
                old, self._queued = self._queued, None
                job.arena, old.arena, old.work, old.flat = old.arena, None, None, None
                old.outcome.end(None)
            elif self._free:
                job.arena = self._free.pop()
            return True

    def _stage(self, job: _Job, flat: FlatState) -> None:
        from casckpt.ops.staging import Arena, stage

        arena, job.arena = job.arena or Arena(), None
        try:
            job.flat = stage(flat, arena, self._threads)
        except BaseException:
            # Interrupted: the memory goes, lest a thread that still copies meets the next staging in it.
            arena.release()
            raise
        job.arena = arena

    def _hand_over(self, job: _Job) -> None:
        with self._changed:
            self._queued, self._staging = job, None
            self._changed.notify_all()
            if self._worker is not None:
                return
            # Said here, since a thread that a daemon starts is a daemon too.
            self._worker = threading.Thread(target=self._work, name="casckpt-commit", daemon=False)
            try:
                self._worker.start()
                return
            except RuntimeError:  # no thread can be had, as late in an exit: the caller does it himself
                self._worker = threading.current_thread()
        self._work()

    def _leave(self, job: _Job) -> None:
        with self._changed:
            if self._staging is job:
                self._staging = None
                if job.arena is not None:
                    self._free.append(job.arena)
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                job, self._queued = self._queued, None
                self._running = job
                if job is None:
                    self._worker = None
                    self._changed.notify_all()
                    return
            info, error = job.run()
            with self._changed:
                self._running = None
                if job.arena is not None:
                    self._free.append(job.arena)
                if error is not None:
                    self._failed.append(job.outcome)
                    _unseen.add(job.outcome)
                job.outcome.end(info, error)
                self._changed.notify_all()
            del job, info, error  # while this thread waits for nothing they would be kept alive


_everyone: weakref.WeakSet[Background] = weakref.WeakSet()
_unseen: set[Outcome] = set()
"""Failures that nobody has seen, whether or not their store is still there."""


def _log(outcome: Outcome) -> None:
    _unseen.discard(outcome)
    if not outcome.seen:
        warn("work in the background failed: %s", outcome.error())


def _log_unseen() -> None:
    for outcome in list(_unseen):
        _log(outcome)


def _forget_parent() -> None:
    _unseen.clear()
    for background in list(_everyone):
        background.forget()


atexit.register(_log_unseen)
os.register_at_fork(after_in_child=_forget_parent)
