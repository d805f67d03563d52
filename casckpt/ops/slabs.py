"""Memory for a checkout: few large mappings instead of one allocation per leaf.

First touch of fresh memory costs more than hashing it, unless it lies on huge pages; these need large mappings. A
mapping lives as long as any leaf in it, so each holds the blobs of one component only, and at most 64 MiB of them:
who keeps the weights and drops the optimizer state gets the memory of that back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        self._sizes = _plan(lengths)
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
            self._slab, self._at = memoryview(pages(next(self._sizes))), 0
        slot = self._slab[self._at : self._at + room]
        self._at += room
        return slot


def _plan(lengths: Iterable[int]) -> Iterator[int]:
    """Lengths of the slabs. Each ends with its last blob: behind that, a huge page would be memory for nothing."""
    filled = 0
    for length in lengths:
        at = filled + (-filled % PAGE if length >= ALIGNED_FROM else 0)
        if filled and at + _room(length) > SLAB_BYTES:
            yield filled + -filled % PAGE
            at = 0
        filled = at + _room(length)
    if filled:
        yield filled + -filled % PAGE


def _room(nbytes: int) -> int:
    unit = PAGE if nbytes >= ALIGNED_FROM else _LINE
    return nbytes + -nbytes % unit
