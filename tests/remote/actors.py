"""Actors that take turns: each is a thread that stops before every request to a remote until it is let go on.

So which requests of whom come in which order is a matter of who is stepped, and the same steps give the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from casckpt.errors import RemoteUnavailable
from casckpt.storage.objects import Buffer, Listed, Objects, Outcome

WAIT_S = 30.0
"""A turn takes milliseconds; after so long it hangs."""


class Fault(Enum):
    """What becomes of a request."""

    NONE = "it arrives, and so does its answer"
    LOST = "it arrives, its answer does not"
    NEVER = "it never arrives"
    LATE = "it arrives later"
    TWICE = "it arrives twice; the answer is to the second"
    CRASH = "whoever makes it is killed"


class Killed(BaseException):
    """The actor ends here, as by SIGKILL."""


class Actor:
    """Somebody who works in a thread of its own, in turns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._fault = Fault.NONE
        self._is_dead = False

    @property
    def is_busy(self) -> bool:
        return self._thread is not None

    def begin(self, work: Callable[[], object]) -> None:
        """Start work, up to its first request."""
        self._is_dead, self.error = False, None
        self._thread = threading.Thread(target=self._run, args=(work,), name=self.name, daemon=True)
        self._thread.start()
        self._wait()

    def step(self, fault: Fault = Fault.NONE) -> None:
        """Let its request happen, and all that it does up to the next one."""
        self._fault = fault
        self._go.release()
        self._wait()

    def request(self) -> Fault:
        """Called before every request: what becomes of it."""
        if self._is_dead:
            raise Killed
        self._back.release()
        assert self._go.acquire(timeout=WAIT_S)
        if self._fault is Fault.CRASH:
            self._is_dead = True
            raise Killed
        return self._fault

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self.error = error
        finally:
            self._thread = None
            self._back.release()

    def _wait(self) -> None:
        assert self._back.acquire(timeout=WAIT_S), f"{self.name} hangs"


class TurnTaking:
    """A remote as an actor has it.

    Args:
        late: takes what is to happen later.
    """

    read_only = False

    def __init__(self, actor: Actor, inner: Objects, late: list[Callable[[], object]]) -> None:
        self._actor = actor
        self._inner = inner
        self._late = late
        self.url = inner.url

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        self._read(f"get {key}")
        return self._inner.get(key, start, stop, limit=limit)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self._read(f"get {key}")
        return self._inner.get_ranges(key, ranges)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self._read(f"list {prefix}")
        return self._inner.list(prefix, after)

    def size(self, key: str) -> int | None:
        self._read(f"size {key}")
        return self._inner.size(key)

    def create(self, key: str, data: Buffer) -> Outcome:
        kept = bytes(data)
        fault = self._actor.request()
        if fault is Fault.LATE:
            self._late.append(lambda: self._inner.create(key, kept))
        if fault in (Fault.NEVER, Fault.LATE):
            return Outcome.UNKNOWN
        outcome = self._inner.create(key, kept)
        if fault is Fault.TWICE:
            outcome = self._inner.create(key, kept)
        return Outcome.UNKNOWN if fault is Fault.LOST else outcome

    def delete(self, keys: Sequence[str]) -> None:
        fault = self._actor.request()
        if fault is Fault.LATE:
            self._late.append(lambda: self._inner.delete(keys))
        elif fault is not Fault.NEVER:
            self._inner.delete(keys)
        if fault in (Fault.LOST, Fault.NEVER, Fault.LATE):
            raise self._unavailable(f"remove {len(keys)} files")

    def _read(self, what: str) -> None:
        if self._actor.request() in (Fault.LOST, Fault.NEVER):
            raise self._unavailable(what)

    def _unavailable(self, operation: str) -> RemoteUnavailable:
        return RemoteUnavailable(remote=self.url, operation=operation, problem="no answer")
