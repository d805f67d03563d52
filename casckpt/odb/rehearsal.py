"""A write session that stores nothing: it looks up, hashes, encodes and counts as one that does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from casckpt.format.entry import Entry
from casckpt.format.finite import scan_of
from casckpt.format.ids import Kind, ObjectId
from casckpt.odb.session import Session, check_size

if TYPE_CHECKING:
    from casckpt.format import pack as p
    from casckpt.odb.pipeline import Staged

_Data = bytes | bytearray | memoryview


class Rehearsal(Session):
    """Raises what the session would, but for what the disk does; what `settle` decides holds for this moment.

    The number that `publish` gives is the one that the frame would have.
    """

    def take_staged(self, staged: Staged) -> None:
        self.added += sum(record.stored for run in staged.runs for record in run.records)
        staged.staging.release()

    def _add(self, record: p.Record, stored: _Data) -> None:
        self._known[record.id] = scan_of(record.element, record.flags)
        self.added += len(stored)

    def publish(self, settle: Callable[[], tuple[Entry, list[tuple[ObjectId, Kind, bytes]]]]) -> int:
        with self._database.mutex:
            self._database.refresh()
            number = self._database.tail.position.seq
            entry, riding = settle()
        for _, kind, data in riding:
            check_size(kind, data)
        Entry.decode(entry.encode())
        return number
