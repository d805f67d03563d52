"""Writing one pack: payloads in the order they come, extents closed behind them, footer and trailer last.

The file grows in tmp/ and gets its name in packs/ only when it is durable. Payloads come in two ways: small ones are
copied into buffers of the writer (`add`), runs of chunks lie in staging buffers that were filled elsewhere and are
written out of these (`add_run`). All writes are whole blocks of page-aligned memory, so that they can bypass the page
cache. Memory is two buffers plus 64 bytes a record, whatever the size of the pack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from casckpt.errors import CasckptError
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.entry import PackRef
from casckpt.odb.staging import BlockWriter, Pool, Staging
from casckpt.odb.temporary import create_temporary
from casckpt.storage.base import Storage

STAGING_BYTES = 2 << 20
_Data = bytes | bytearray | memoryview


def pack_name(identity: bytes) -> str:
    """Name of a pack file."""
    return f"packs/{identity.hex()}.pack"


class PackWriter:
    """One pack being written. One thread; end with `finish` or `abandon`.

    Records are numbered in the order they are added. `offset` is where the next payload goes before alignment.

    Args:
        deltas: whether records may have bases, which the header must say. Encoded records then start on any unit: they
            are read aside in any case, and room is what such a pack is for.
    """

    def __init__(self, storage: Storage, *, deltas: bool = False) -> None:
        self._storage = storage
        self._pool = Pool(2, STAGING_BYTES)
        self._own: Staging | None = None
        self._filled = 0
        self._run: tuple[Staging, int, int] | None = None
        self.offset = 0
        """Bytes so far, everything included."""
        self._submitted = 0
        self._deltas = deltas
        self._header = p.encode_header(p.HAS_DELTAS if deltas else 0)
        self._extent: list[p.Record] = []
        self._extent_start = p.BLOCK
        self._last_table = 0
        self.records: list[p.Record] = []
        self._name, self._file = create_temporary(storage, "pack", direct=True)
        self._blocks = BlockWriter(self._file)
        try:
            self._append(self._header)
        except BaseException:
            self.abandon()
            raise

    def add(self, record: p.Record, stored: _Data) -> None:
        """Append the stored bytes of a record; its `offset` is set here."""
        is_tight = self._deltas and record.codec != Codec.RAW
        self._align(p.BLOCK if len(stored) >= p.ALIGNED_FROM and not is_tight else p.UNIT)
        self._place(record._replace(offset=self.offset))
        self._append(stored)

    def add_run(self, staging: Staging, start: int, stop: int, records: Sequence[p.Record]) -> None:
        """Append the records that lie in [start, stop) of a staging buffer, as they lie there.

        Args:
            staging: must stay as it is until `release`, or the end of the pack.
            start, stop: multiples of 4 KiB.
            records: of the run; their offsets are those in the buffer.
        """
        self._align(p.BLOCK)
        self._submit_own()
        base = self.offset - start
        for record in records:
            self._place(record._replace(offset=record.offset + base))
        if self._run is not None and self._run[0] is staging and self._run[2] == start:
            start = self._run[1]
        else:
            self._submit_run()
        self._run = staging, start, stop
        self.offset = base + stop

    def release(self, staging: Staging) -> None:
        """Say that nothing more comes out of a staging buffer: it is given back as soon as it is written."""
        if self._run is not None and self._run[0] is staging:
            self._submit_run(staging.release)
        else:  # after what was submitted of it before
            self._blocks.submit(memoryview(b""), self.offset, staging.release)

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
        self._file.close()
        self._storage.sync_dir("packs")
        return PackRef(identity, self.offset)

    def abandon(self) -> None:
        """Remove the unfinished file; what it held is gone."""
        self._blocks.stop()
        with contextlib.suppress(CasckptError, FileNotFoundError):
            self._storage.unlink(self._name)
        self._file.close()

    def _place(self, record: p.Record) -> None:
        if not self._extent:
            self._extent_start = record.offset
        self.records.append(record)
        self._extent.append(record)

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
            if self._own is None:
                self._submit_run()
                self._own = self._pool.take()
            count = min(len(view), STAGING_BYTES - self._filled)
            self._own.view[self._filled : self._filled + count] = view[:count]
            self._filled += count
            self.offset += count
            view = view[count:]
            if self._filled == STAGING_BYTES and len(view):
                self._submit_own()

    def _submit_own(self) -> None:
        """Send the writer's own buffer off: whole blocks, since a run or the rest of a full buffer follows."""
        if self._own is not None:
            own, filled = self._own, self._filled
            self._own, self._filled = None, 0
            self._blocks.submit(own.view[:filled], self._submitted, own.release)
            self._submitted += filled

    def _submit_run(self, release: Callable[[], None] | None = None) -> None:
        """Send off the run that was collected."""
        if self._run is not None:
            (staging, start, stop), self._run = self._run, None
            self._blocks.submit(staging.view[start:stop], self._submitted, release)
            self._submitted += stop - start

    def _flush(self) -> None:
        """Write everything there is, and wait for it; the last part without a detour, small packs as a whole."""
        self._submit_run()
        own, filled = self._own, self._filled
        if own is not None:
            self._own, self._filled = None, 0
            self._blocks.write(own.view[:filled], self._submitted)
            self._submitted += filled
        self._blocks.end()
