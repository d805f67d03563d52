"""A remote in memory, for tests and for models of what several machines do to one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from casckpt.errors import RemoteUntrusted
from casckpt.storage.objects import Buffer, Listed, Outcome


class MemoryObjects:
    """Objects in a dict that several clients may share."""

    url = "memory:"
    read_only = False

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._mutex = threading.Lock()

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        data = self._data(key)[start:stop]
        if len(data) > limit:
            raise RemoteUntrusted(remote=self.url, problem=f"{key} has more than the {limit} bytes it may have")
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        data = self._data(key)
        found = [data[start:stop] for start, stop in ranges]
        if any(len(piece) != stop - start for piece, (start, stop) in zip(found, ranges, strict=True)):
            raise RemoteUntrusted(remote=self.url, problem=f"{key} is shorter than the remote's index says")
        return found

    def create(self, key: str, data: Buffer) -> Outcome:
        with self._mutex:
            if key in self._objects:
                return Outcome.EXISTS
            self._objects[key] = bytes(data), time.time_ns()
        return Outcome.CREATED

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        with self._mutex:
            found = [
                Listed(key, len(data), time_ns)
                for key, (data, time_ns) in self._objects.items()
                if key.startswith(prefix) and key > after
            ]
        yield from sorted(found)

    def delete(self, keys: Sequence[str]) -> None:
        with self._mutex:
            for key in keys:
                self._objects.pop(key, None)

    def size(self, key: str) -> int | None:
        with self._mutex:
            found = self._objects.get(key)
        return None if found is None else len(found[0])

    def _data(self, key: str) -> bytes:
        with self._mutex:
            try:
                return self._objects[key][0]
            except KeyError:
                raise FileNotFoundError(key) from None
