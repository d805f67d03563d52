"""A share of the line: so many bytes a second on average, up and down together, over all threads that use it.

A token bucket that may run into debt: who comes takes what he needs at once and waits until the debt of those before
him is paid. So a request larger than a second's share is not cut, and none waits for ever behind smaller ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from casckpt.storage.around import Around
from casckpt.storage.objects import Buffer, Objects, Outcome

_SAVED_S = 1.0
"""Seconds of silence that may be made up for."""


class Bucket:
    """Thread-safe.

    Args:
        rate: bytes a second, more than 0.
        sleep: takes seconds.
        clock: gives seconds.
    """

    def __init__(
        self,
        rate: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._sleep = sleep
        self._clock = clock
        self._free_at = clock()
        self._mutex = threading.Lock()

    def take(self, nbytes: int) -> None:
        """Wait until what was taken before has had its time; then these bytes may pass."""
        with self._mutex:
            now = self._clock()
            wait = self._free_at - now
            self._free_at = max(self._free_at, now - _SAVED_S) + nbytes / self._rate
        if wait > 0:
            self._sleep(wait)


class Limited(Around):
    """Bytes of objects pass at most at the rate of a bucket.

    Those that come down are counted as asked for; where an object's end is not known, as they came.
    """

    def __init__(self, objects: Objects, bucket: Bucket) -> None:
        super().__init__(objects)
        self._bucket = bucket

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        known = 0 if stop is None else max(0, stop - start)
        self._bucket.take(known)
        data = self.objects.get(key, start, stop, limit=limit)
        if len(data) > known:
            self._bucket.take(len(data) - known)
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        self._bucket.take(sum(stop - start for start, stop in ranges))
        return self.objects.get_ranges(key, ranges)

    def create(self, key: str, data: Buffer) -> Outcome:
        self._bucket.take(memoryview(data).nbytes)
        return self.objects.create(key, data)
