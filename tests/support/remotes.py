"""Remotes for tests: what is asked of one, and what may go wrong on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from casckpt.storage.objects import Buffer, Listed, Objects, Outcome


class Wrapping:
    """A remote over another one; `before` and `after` see each request, as `list root/` or `create packs/...`."""

    def __init__(self, inner: Objects) -> None:
        self.inner = inner
        self.url = inner.url
        self.read_only = inner.read_only

    def before(self, request: str) -> None:
        """Called before a request has any effect."""

    def after(self, request: str) -> None:
        """Called when it has had its effect."""

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        self.before(f"get {key}")
        found = self.inner.get(key, start, stop, limit=limit)
        self.after(f"get {key}")
        return found

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.before(f"ranges {key}")
        found = self.inner.get_ranges(key, ranges)
        self.after(f"ranges {key}")
        return found

    def create(self, key: str, data: Buffer) -> Outcome:
        self.before(f"create {key}")
        outcome = self.inner.create(key, data)
        self.after(f"create {key}")
        return outcome

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self.before(f"list {prefix}")
        found = list(self.inner.list(prefix, after))
        self.after(f"list {prefix}")
        return iter(found)

    def delete(self, keys: Sequence[str]) -> None:
        self.before(f"delete {len(keys)}")
        self.inner.delete(keys)
        self.after(f"delete {len(keys)}")

    def size(self, key: str) -> int | None:
        self.before(f"size {key}")
        found = self.inner.size(key)
        self.after(f"size {key}")
        return found


class Counting(Wrapping):
    """A remote that notes every request."""

    def __init__(self, inner: Objects) -> None:
        super().__init__(inner)
        self.requests: list[str] = []

    def before(self, request: str) -> None:
        self.requests.append(request)


class Crash(BaseException):
    """The process ends here: nothing catches it, as nothing catches a SIGKILL."""


class Crashing(Wrapping):
    """A remote whose client dies at request number `at`, counted from 0: before or after it took effect."""

    def __init__(self, inner: Objects, at: int, *, is_late: bool, die: Callable[[], None] | None = None) -> None:
        super().__init__(inner)
        self._left = at
        self._is_late = is_late
        self._mutex = threading.Lock()
        self._dying = threading.local()
        self._die = die

    def before(self, request: str) -> None:
        with self._mutex:
            self._dying.now = self._left == 0
            self._left -= 1
            is_dead = self._left < -1
        if is_dead or (self._dying.now and not self._is_late):
            self._end()

    def after(self, request: str) -> None:
        if self._dying.now:
            self._end()

    def _end(self) -> None:
        if self._die is not None:
            self._die()
        raise Crash
