"""Another try for what failed and may go well the next time.

Everything here may be repeated: reads have no effect, deleting twice is deleting once, and a create of the same bytes
under the same key cannot do harm, since it never replaces. It can only find its key taken, perhaps by its own earlier
try, and then says so: EXISTS always means "look".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from casckpt.errors import RemoteUnavailable
from casckpt.storage.around import Around
from casckpt.storage.objects import Buffer, Listed, Objects, Outcome

TRIES = 6
_FIRST_S = 0.2
_LONGEST_S = 15.0
_T = TypeVar("_T")


class Retrying(Around):
    """Repeats with growing pauses of random length, so that many who failed together do not come back together.

    Args:
        objects: what is asked.
        tries: how often in all, at least 1.
        sleep: takes seconds.
        chance: gives numbers from 0 up to 1.
    """

    def __init__(
        self,
        objects: Objects,
        tries: int = TRIES,
        *,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(objects)
        self._tries = tries
        self._sleep = sleep
        self._chance = chance

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        return self._again(lambda: self.objects.get(key, start, stop, limit=limit))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        return self._again(lambda: self.objects.get_ranges(key, ranges))

    def create(self, key: str, data: Buffer) -> Outcome:
        unanswered = False
        for attempt in range(self._tries):
            self._pause(attempt)
            try:
                outcome = self.objects.create(key, data)
            except RemoteUnavailable:
                if attempt + 1 == self._tries and not unanswered:
                    raise
                continue
            if outcome is not Outcome.UNKNOWN:
                return outcome
            unanswered = True
        return Outcome.UNKNOWN

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        failed = 0
        while True:
            self._pause(failed)
            try:
                for one in self.objects.list(prefix, after):
                    yield one
                    after, failed = one.key, 0
                return
            except RemoteUnavailable:
                failed += 1
                if failed == self._tries:
                    raise

    def delete(self, keys: Sequence[str]) -> None:
        self._again(lambda: self.objects.delete(keys))

    def size(self, key: str) -> int | None:
        return self._again(lambda: self.objects.size(key))

    def _again(self, ask: Callable[[], _T]) -> _T:
        for attempt in range(self._tries - 1):
            self._pause(attempt)
            try:
                return ask()
            except RemoteUnavailable:
                pass
        self._pause(self._tries - 1)
        return ask()

    def _pause(self, failed: int) -> None:
        if failed:
            self._sleep(min(_LONGEST_S, _FIRST_S * 2 ** (failed - 1)) * (0.5 + self._chance() / 2))
