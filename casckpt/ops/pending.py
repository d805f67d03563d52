"""A commit in the background, from its two sides: the outcome that is written once, and what the caller sees of it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from casckpt.errors import CommitElsewhere, NotDurableYet
from casckpt.ops.values import CommitInfo


class Outcome:
    """What becomes of one commit. Thread-safe: written once by whoever ends it, then only read.

    Attributes:
        blocked_s: seconds that the caller was held up.
        skipped: it was not made and never will be.
        seen: its error has been shown to the caller.
    """

    __slots__ = ("_ended", "_error", "_info", "_pid", "blocked_s", "seen", "skipped")

    def __init__(self) -> None:
        self.blocked_s = 0.0
        self.skipped = False
        self.seen = False
        self._pid = os.getpid()
        self._ended = threading.Event()
        self._info: CommitInfo | None = None
        self._error: BaseException | None = None

    def end(self, info: CommitInfo | None, error: BaseException | None = None) -> None:
        """It is durable (`info`), has failed (`error`), or was skipped (neither)."""
        self._info, self._error, self.skipped = info, error, info is None and error is None
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self, timeout_s: float | None) -> None:
        """Return when it has ended.

        Raises:
            NotDurableYet: it has not within `timeout_s` seconds.
            CommitElsewhere: it goes on in the process that this one was forked from, and cannot be seen from here.
        """
        if not self.ended and self._pid != os.getpid():
            raise CommitElsewhere(pid=self._pid)
        if not self._ended.wait(timeout_s):
            raise NotDurableYet(wait_s=timeout_s)

    def info(self) -> CommitInfo | None:
        """The commit, None if it was skipped; raises its error. Only when it has ended."""
        error = self.error()
        if error is not None:
            raise error
        return self._info

    def error(self) -> BaseException | None:
        """Why it failed; from now on the caller knows. Only when it has ended."""
        self.seen = True
        return self._error


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PendingCommit:
    """A commit that was handed over and is made durable in the background. Safe to use from several threads."""

    _outcome: Outcome = field()

    def __repr__(self) -> str:
        state = "skipped" if self.skipped else "ended" if self.done() else "not ended"
        return f"<casckpt.PendingCommit {state}>"

    @property
    def blocked_s(self) -> float:
        """Seconds that `commit` held up its caller: waiting for a turn, and copying the state."""
        return self._outcome.blocked_s

    @property
    def skipped(self) -> bool:
        """Whether it was left out since the store was busy; with `coalesce` a newer one may still take its place."""
        return self._outcome.skipped

    def done(self) -> bool:
        """Whether it has ended: durable, failed or skipped."""
        return self._outcome.ended

    def result(self, timeout_s: float | None = None) -> CommitInfo | None:
        """The commit, once it is durable; None if it was skipped.

        Args:
            timeout_s: the longest to wait, in seconds; None waits to the end.

        Raises:
            NotDurableYet: it has not ended in that time. It goes on.
            CommitElsewhere: it was handed over before a fork, and this is the child.
            CasckptError: why it failed, as `commit` raises it; the store does not raise that again.
        """
        self._outcome.wait(timeout_s)
        return self._outcome.info()

    def exception(self, timeout_s: float | None = None) -> BaseException | None:
        """Why it failed, None if it did not; waits and counts as seen like `result`."""
        self._outcome.wait(timeout_s)
        return self._outcome.error()
