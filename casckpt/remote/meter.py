"""What a remote is asked and sent: requests by class and bytes, for reports and for what they cost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

from casckpt.storage.objects import Buffer, Listed, Objects, Outcome


class Metered:
    """A remote over another one that counts. Thread-safe."""

    def __init__(self, inner: Objects) -> None:
        self._inner = inner
        self.url = inner.url
        self.read_only = inner.read_only
        self._mutex = threading.Lock()
        self.requests: Counter[str] = Counter()
        """By class: `put`, `get`, `list`, `head`, `delete`."""
        self.up = self.down = 0
        """Bytes of objects that were sent, and that came."""

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        self._count("get")
        data = self._inner.get(key, start, stop, limit=limit)
        self._count(down=len(data))
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self._count("get", len(ranges))
        found = self._inner.get_ranges(key, ranges)
        self._count(down=sum(map(len, found)))
        return found

    def create(self, key: str, data: Buffer) -> Outcome:
        self._count("put", up=len(data))
        return self._inner.create(key, data)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self._count("list")
        return self._inner.list(prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        self._count("delete")
        self._inner.delete(keys)

    def size(self, key: str) -> int | None:
        self._count("head")
        return self._inner.size(key)

    def _count(self, kind: str = "", number: int = 1, *, up: int = 0, down: int = 0) -> None:
        with self._mutex:
            if kind:
                self.requests[kind] += number
            self.up += up
            self.down += down
