"""What stands around any `Objects`, one concern each, and passes on what it does not change.

From the outside to the inside: `Retrying` (another try is another request), `Limited` (it takes its share of the
line too), `Metered` (and counts), then the backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casckpt.storage.objects import Buffer, Listed, Objects, Outcome


class Around:
    """Passes everything on."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.url = objects.url
        self.read_only = objects.read_only

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        return self.objects.get(key, start, stop, limit=limit)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        return self.objects.get_ranges(key, ranges)

    def create(self, key: str, data: Buffer) -> Outcome:
        return self.objects.create(key, data)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        return self.objects.list(prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        self.objects.delete(keys)

    def size(self, key: str) -> int | None:
        return self.objects.size(key)
