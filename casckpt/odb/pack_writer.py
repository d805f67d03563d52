"""Writing one pack: payloads in the order they come, extents closed behind them, footer and trailer last.

The file grows in tmp/ and gets its name in packs/ only when it is durable. Writes leave in blocks of up to 8 MiB
from one page-aligned staging buffer, so that they can bypass the page cache; memory is that buffer plus 64 bytes a
record, whatever the size of the pack.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any

from casckpt.errors import CasckptError
from casckpt.format import pack as p
from casckpt.format.entry import PackRef
from casckpt.storage.base import Storage, write_all

STAGING_BYTES = 8 << 20
_Data = bytes | bytearray | memoryview


def temporary_name(what: str) -> str:
    """A fresh name in tmp/ for an unfinished file."""
    return f"tmp/{what}-{os.getpid()}-{os.urandom(6).hex()}"


def pack_name(identity: bytes) -> str:
    """Name of a pack file."""
    return f"packs/{identity.hex()}.pack"


class PackWriter:
    """One pack being written. One thread; end with `finish` or `abandon`.

    Records are numbered in the order of `add`. `offset` is where the next payload goes before alignment.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._name = temporary_name("pack")
        self._file = storage.create(self._name, direct=True)
        # Private anonymous memory: Python's default mapping is shared, which costs page faults and huge pages.
        self._staging = mmap.mmap(-1, STAGING_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._staging)
        self._filled = 0
        self._written = 0
        self._header = p.encode_header()
        self._extent: list[p.Record] = []
        self._extent_start = p.BLOCK
        self._last_table = 0
        self.records: list[p.Record] = []
        try:
            self._append(self._header)
        except BaseException:
            self.abandon()
            raise

    @property
    def offset(self) -> int:
        """Bytes so far, everything included."""
        return self._written + self._filled

    def add(self, record: p.Record, stored: _Data) -> None:
        """Append the stored bytes of a record; its `offset` is set here."""
        self._align(p.BLOCK if len(stored) >= p.ALIGNED_FROM else p.UNIT)
        if not self._extent:
            self._extent_start = self.offset
        placed = record._replace(offset=self.offset)
        self._append(stored)
        self.records.append(placed)
        self._extent.append(placed)

    def end_leaf(self) -> bool:
        """Say that a leaf ends here: the extent is closed if it is full. True if the pack is full too."""
        if len(self._extent) >= p.EXTENT_RECORDS or self.offset - self._extent_start >= p.EXTENT_BYTES:
            self._close_extent()
        return self.offset >= p.PACK_BYTES

    def finish(self, hints: dict[str, Any]) -> PackRef:
        """Make the pack durable under its name, and return that with its length.

        Raises:
            StorageError: the disk failed or is full; the unfinished file is removed.
        """
        try:
            self._close_extent()
            self._align(p.BLOCK)
            identity, end = p.encode_end(self._header, self.records, hints, self.offset)
            self._append(end)
            self._flush()
            self._file.sync()
            self._storage.rename(self._name, pack_name(identity))
        except BaseException:
            self.abandon()
            raise
        self._release()
        self._storage.sync_dir("packs")
        return PackRef(identity, self._written)

    def abandon(self) -> None:
        """Remove the unfinished file; what it held is gone."""
        with contextlib.suppress(CasckptError, FileNotFoundError):
            self._storage.unlink(self._name)
        self._release()

    def _release(self) -> None:
        self._file.close()
        # While an error is on its way, its frames may still hold views; the memory goes with the last of them.
        with contextlib.suppress(BufferError):
            self._view.release()
            self._staging.close()

    def _close_extent(self) -> None:
        if not self._extent:
            return
        self._align(p.BLOCK)
        table = p.encode_extent(self._extent, self._extent_start, self._last_table)
        self._last_table = self.offset
        self._append(table)
        self._extent = []

    def _align(self, unit: int) -> None:
        gap = p.pad(self.offset, unit)
        if gap:
            self._append(bytes(gap))

    def _append(self, data: _Data) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            count = min(len(view), STAGING_BYTES - self._filled)
            self._view[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == STAGING_BYTES:
                self._flush()

    def _flush(self) -> None:
        """Write what is staged: a multiple of 4 KiB, since only a full buffer or the end of the pack comes here."""
        if self._filled:
            with self._view[: self._filled] as part:
                write_all(self._file, part, self._written)
            self._written += self._filled
            self._filled = 0
