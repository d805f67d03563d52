"""How many requests a command made, how many bytes went up and down, and what that costs about."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from casckpt.storage.around import Around
from casckpt.storage.objects import Buffer, Listed, Objects, Outcome

PAGE = 1000
"""Objects in one answer to a listing, of all services."""

PRICES: Mapping[str, Mapping[str, float]] = {
    "s3": {"put": 0.005, "get": 0.0004, "egress": 0.09},
    "gs": {"put": 0.005, "get": 0.0004, "egress": 0.12},
    "az": {"put": 0.0065, "get": 0.0005, "egress": 0.087},
}
"""List prices of the usual class in one region, by kind of address, in US dollars: of 1000 uploads or listings (`put`),
of 1000 other questions (`get`), of one GB down (`egress`). Deleting is free. Every service has prices of its own."""
_PRICED = {"put": "put", "list": "put", "get": "get", "head": "get"}


@dataclass
class Traffic:
    """What went over the line.

    Attributes:
        requests: by class: `put`, `get`, `list`, `head`, `delete`.
        up, down: bytes of objects; what frames them is not counted.
    """

    requests: Counter[str] = field(default_factory=Counter)
    up: int = 0
    down: int = 0


def cost(requests: Mapping[str, int], down: int, prices: Mapping[str, float]) -> float:
    """About what requests and bytes cost in US dollars by a table like `PRICES`; what that does not name is free."""
    asked = sum(count * prices.get(_PRICED.get(kind, ""), 0.0) for kind, count in requests.items())
    return asked / 1000 + down / 1e9 * prices.get("egress", 0.0)


class Metered(Around):
    """Counts every request that is made, also those that fail; `traffic` may be read at any time."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self.traffic = Traffic()
        self._mutex = threading.Lock()

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        self._count("get")
        data = self.objects.get(key, start, stop, limit=limit)
        self._moved(down=len(data))
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        self._count("get", len(ranges))
        pieces = self.objects.get_ranges(key, ranges)
        self._moved(down=sum(map(len, pieces)))
        return pieces

    def create(self, key: str, data: Buffer) -> Outcome:
        self._count("put")
        self._moved(up=memoryview(data).nbytes)
        return self.objects.create(key, data)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self._count("list")
        for number, one in enumerate(self.objects.list(prefix, after)):
            if number and number % PAGE == 0:
                self._count("list")
            yield one

    def delete(self, keys: Sequence[str]) -> None:
        self._count("delete", -(-len(keys) // PAGE))
        self.objects.delete(keys)

    def size(self, key: str) -> int | None:
        self._count("head")
        return self.objects.size(key)

    def _count(self, name: str, count: int = 1) -> None:
        with self._mutex:
            self.traffic.requests[name] += count

    def _moved(self, up: int = 0, down: int = 0) -> None:
        with self._mutex:
            self.traffic.up += up
            self.traffic.down += down
