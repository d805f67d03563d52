"""Memory for a checkout: few large mappings instead of one allocation per leaf.

First touch of fresh memory costs more than hashing it, unless it lies on huge pages; these need large mappings. A
mapping lives as long as any leaf in it, so each holds the blobs of one component only, and at most 64 MiB of them:
who keeps the weights and drops the optimizer state gets the memory of that back.
"""

from __future__ import annotations

from collections.abc import Iterable

from casckpt.storage.pages import pages

SLAB_BYTES = 64 << 20
ALIGNED_FROM = 256 << 10
"""Blobs of this length and more start and end on 4 KiB, so that cold reads can bypass the page cache."""
PAGE = 4096
_LINE = 64


class Slabs:
    """Hands out writable memory for blobs whose lengths are known before. One thread.

    Args:
        lengths: of the blobs, in the order of `slot` calls.
    """

    def __init__(self, lengths: Iterable[int]) -> None:
        self._left = sum(_room(length) for length in lengths)
        self._slab = memoryview(b"")
        self._at = 0

    def slot(self, nbytes: int) -> memoryview:
        """Fresh memory of `nbytes` bytes and what pads it to the next slot; aligned to 64 bytes, large ones to 4 KiB.

        The memory is the caller's, and lives as long as any view of it.
        """
        room = _room(nbytes)
        if nbytes >= ALIGNED_FROM:
            self._at += -self._at % PAGE
        if self._at + room > len(self._slab):
            size = max(room, min(SLAB_BYTES, self._left))
            self._slab, self._at = memoryview(pages(size + -size % PAGE)), 0
        slot = self._slab[self._at : self._at + room]
        self._at += room
        self._left -= room
        return slot


def _room(nbytes: int) -> int:
    unit = PAGE if nbytes >= ALIGNED_FROM else _LINE
    return nbytes + -nbytes % unit
