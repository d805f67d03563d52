"""A write session: objects go in, one frame makes them part of the store, or nothing happened.

    packs durable -> journal frame durable -> acknowledge

New objects of up to 64 KiB in all ride in the frame itself (one flush, no file); more go into packs. A session holds
the commit lock, shared, from its first look-up to its frame, so that nothing it relied on can be collected meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from casckpt.errors import ConflictError, DamagedObject, StoreFull, TooLarge
from casckpt.format import pack as p
from casckpt.format.codec import Codec, compress
from casckpt.format.entry import Entry, PackRef
from casckpt.format.finite import UNKNOWN, UNSCANNED, Scan, is_sound, scan_of
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.format.limits import MAX_OBJECT_BYTES
from casckpt.odb import locks
from casckpt.odb.appending import append
from casckpt.odb.database import PENDING_FRAMES, Database
from casckpt.odb.locator import Locator
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.removing import give_up_reserve

if TYPE_CHECKING:
    from casckpt.odb.pipeline import Coder, Staged

FRAME_OBJECT_BYTES = 64 << 10
"""New stored bytes up to here ride in the frame."""
OWN_PACK_BYTES = 16 << 20
"""A part of the state that adds this much ends its pack, so that it can be dropped by itself."""
_Data = bytes | bytearray | memoryview


class Session:
    """One atomic step being prepared. One thread, but for `has` and `claim_chunk`, which the workers of a pipeline use.

    A context manager, without effect unless `publish` returned.
    """

    def __init__(self, database: Database, uuid: bytes) -> None:
        self._database = database
        self._uuid = uuid
        self._stack = ExitStack()
        self._known: dict[ObjectId, Scan] = {}
        """Objects of the session itself; a chunk that is claimed and not yet stored is unscanned."""
        self._claiming = threading.Lock()
        # No pack leaves the pack set while the session holds the commit lock, so places stay right.
        self._locator = Locator(database)
        self._small: list[tuple[p.Record, _Data]] = []
        self._small_bytes = 0
        self._writer: PackWriter | None = None
        self._packs: list[PackRef] = []
        self._relied: set[PackRef] = set()
        self._relied_frames: dict[ObjectId, tuple[Kind, int]] = {}
        self._part_start = 0
        self.added = 0
        """Stored bytes of new objects so far."""
        self.hints: dict[str, Any] = {}
        """What a salvager of the packs would like to know; written into their footers."""

    def __enter__(self) -> Self:
        self._stack.enter_context(locks.committing(self._database.storage))
        try:
            self._database.refresh()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.abandon()
        finally:
            self._stack.close()

    def has(self, identity: ObjectId, kind: Kind, length: int) -> bool:
        """Whether the store (or the session itself) has an object; from then on the session relies on its pack.

        Thread-safe.
        """
        return self.scan(identity, kind, length) is not None

    def scan(self, identity: ObjectId, kind: Kind, length: int) -> Scan | None:
        """What is known of the floats of an object that the store or the session has, None if neither has it."""
        known = self._known.get(identity)
        if known is not None:
            return known
        place = self._locator.find(identity, kind, length)
        if place is None:
            return None
        if place.pack is None:
            self._relied_frames[identity] = (kind, length)
        else:
            self._relied.add(place.pack)
        return scan_of(place.row.element, place.row.flags)

    def claim_chunk(self, identity: ObjectId, length: int) -> Scan | None:
        """None if a chunk is neither stored nor claimed by an earlier call: it is claimed then, to be stored.

        Else what is known of its floats. Thread-safe.
        """
        known = self.scan(identity, Kind.CHUNK, length)
        if known is None:
            with self._claiming:
                known = self._known.get(identity)
                if known is None:
                    self._known[identity] = UNKNOWN
        return known

    def take_staged(self, staged: Staged) -> None:
        """Store what a task of the pipeline found to be new, and release its buffer."""
        new = sum(record.stored for run in staged.runs for record in run.records)
        if self._writer is None and not self._packs and self._small_bytes + new <= FRAME_OBJECT_BYTES:
            for run in staged.runs:
                for record in run.records:
                    self._add(record, bytes(staged.staging.view[record.offset : record.offset + record.stored]))
            staged.staging.release()
            return
        self.added += new
        for run in staged.runs:
            for record in run.records:
                self._known[record.id] = scan_of(record.element, record.flags)
            if run.records:
                writer = self._writer or self._start_pack()
                writer.add_run(staged.staging, run.start, run.stop, run.records)
            if run.ends_leaf:
                self.end_leaf()
        if self._writer is not None:
            self._writer.release(staged.staging)
        else:
            staged.staging.release()

    def put(self, kind: Kind, data: bytes) -> ObjectId:
        """Store a metadata object unless the store has it.

        Raises:
            TooLarge: it is larger than a reader would accept.
        """
        check_size(kind, data)
        identity = object_id(kind, data)
        if not self.has(identity, kind, len(data)):
            codec, stored = compress(data)
            check = p.check_of(codec, identity, kind, stored)
            self._add(p.Record(identity, 0, len(data), len(stored), kind, codec, check=check), stored)
        return identity

    def put_chunk(self, data: bytes | memoryview, element: int, coder: Coder | None = None) -> tuple[ObjectId, bool]:
        """Store a chunk unless the store has it; for groups of small blobs, since large ones go by the pipeline.

        Args:
            data: 1 byte to 1 MiB that nobody writes to any more; kept until it is written.
            element: element type code.
            coder: encodes it; None for raw.

        Returns:
            Its id, and whether it holds neither NaN nor infinities.
        """
        identity = object_id(Kind.CHUNK, data)
        known = self.claim_chunk(identity, len(data))
        if known is None:
            codec, flags = int(Codec.RAW), UNSCANNED
            stored: _Data = data
            if coder is not None:
                plain = memoryview(data)
                codec, stored, flags = coder.code(plain, element, encoded=coder.pays(plain, element))
            check = p.check_of(codec, identity, Kind.CHUNK, stored)
            self._add(p.Record(identity, 0, len(data), len(stored), Kind.CHUNK, codec, element, flags, check), stored)
            known = scan_of(element, flags)
        return identity, is_sound(data, element, known)

    def knows(self, identity: ObjectId, kind: Kind) -> bool:
        """Like `has`, for who does not know the length."""
        if identity in self._known:
            return True
        row = self._database.row(identity)
        return row is not None and self.has(identity, kind, row.length)

    def take(self, record: p.Record, stored: _Data) -> None:
        """Store an object in the form that it has elsewhere: compared with its id, and without bases.

        Args:
            stored: nobody writes to it any more; kept until it is written.
        """
        if record.id not in self._known:
            self._add(record, stored)

    def _add(self, record: p.Record, stored: _Data) -> None:
        self._known[record.id] = scan_of(record.element, record.flags)
        self.added += len(stored)
        if self._writer is None and not self._packs:
            self._small.append((record, stored))
            self._small_bytes += len(stored)
            if self._small_bytes > FRAME_OBJECT_BYTES:
                self._start_pack()
            return
        writer = self._writer or self._start_pack()
        writer.add(record, stored)

    def _start_pack(self) -> PackWriter:
        """Begin a pack; what was small enough for the frame until now comes first."""
        self._writer = PackWriter(self._database.storage)
        small, self._small = self._small, []
        for record, stored in small:
            self._writer.add(record, stored)
        return self._writer

    def end_leaf(self) -> None:
        """Say that the chunks of a leaf end here (or 1 GiB of a longer one): packs are cut only at such places."""
        if self._writer is not None and self._writer.end_leaf():
            self._close_pack()

    def begin_part(self) -> None:
        """Say that a part of the state begins."""
        self._part_start = self.added

    def end_part(self) -> None:
        """Say that it ends: if it added much, what follows goes into another pack."""
        if self._writer is not None and self.added - self._part_start >= OWN_PACK_BYTES:
            self._close_pack()

    def _close_pack(self) -> None:
        writer = self._writer
        if writer is None:
            return
        if writer.records:
            self._packs.append(writer.finish(self.hints))
        else:
            writer.abandon()
        # Only now: until then an interrupt leaves an unfinished file, which the session removes when it ends.
        self._writer = None

    def publish(self, settle: Callable[[], tuple[Entry, list[tuple[ObjectId, Kind, bytes]]]]) -> int:
        """Make everything durable and the step part of the store; the sequence number of its frame.

        Args:
            settle: called under the journal lock with the database refreshed; returns the entry, without packs and
                objects, and objects to ride in it (the commit). What it raises ends the session without effect.

        Raises:
            StorageError: the disk failed or is full; the step did not happen.
        """
        self._close_pack()
        database = self._database
        # No other thread may move the database's place in the journal between the look and the append.
        with locks.journaling(database.storage), database.mutex:
            database.refresh()
            try:
                entry, riding = settle()
            except ConflictError:
                self._keep_packs()
                raise
            self._check_relied()
            objects = list(self._small)
            for identity, kind, data in riding:
                check_size(kind, data)
                check = p.check_of(Codec.RAW, identity, kind, data)
                objects.append((p.Record(identity, 0, len(data), len(data), kind, check=check), data))
            entry = replace(entry, packs=(*entry.packs, *self._packs), objects=tuple(objects))
            try:
                number = append(database, self._uuid, entry)
            except StoreFull:
                # What lets go of state is a way out of a full disk, so that it has a share in the reserve.
                if not entry.drops or entry.packs or entry.objects or not give_up_reserve(database):
                    raise
                number = append(database, self._uuid, entry)
        self._stack.close()
        database.absorb(at_least=1 if self._packs else PENDING_FRAMES)
        return number

    def keep(self, *, least: int = FRAME_OBJECT_BYTES) -> None:
        """Make what was stored until now part of the store, though nothing names it: another try finds it then.

        Also what bounds the memory of a long step.

        Args:
            least: stored bytes from which that is worth a pack.
        """
        if self._small and self._small_bytes >= least:
            self._start_pack()
        self._close_pack()
        database = self._database
        if self._packs:
            with locks.journaling(database.storage), database.mutex:
                database.refresh()
                self._keep_packs()
            self._packs, self._known, self._small_bytes = [], {}, 0
            database.absorb()

    def _keep_packs(self) -> None:
        """Someone was first: the refs stay, but what was written is kept, so that another try finds it."""
        if self._packs:
            append(self._database, self._uuid, Entry("keep", time.time_ns(), packs=tuple(self._packs)))

    def _check_relied(self) -> None:
        """What stands for known objects must still be there, whole: defence in depth under the commit lock."""
        database = self._database
        for pack in self._relied:
            name = pack_name(pack.id)
            if not database.has_pack(pack.id) or database.storage.size(name) != pack.nbytes:
                raise _vanished(name, "it vanished or changed its length")
        for identity, (kind, length) in self._relied_frames.items():
            row = database.row(identity)
            file = None if row is None else database.file_of(row)
            if row is None or (row.kind, row.length) != (kind, length) or not file or not database.storage.size(file):
                raise _vanished("journal/", f"object {identity.hex()[:12]} is not there any more")


def check_size(kind: Kind, data: bytes) -> None:
    """Raise TooLarge for an object that no reader would accept."""
    if len(data) > MAX_OBJECT_BYTES[kind]:
        what = f"the {kind.name.lower()} object"
        raise TooLarge(object=what, size=f"{len(data)} bytes", limit=f"{MAX_OBJECT_BYTES[kind]} bytes")


def _vanished(name: str, problem: str) -> DamagedObject:
    return DamagedObject(object=name, kind="file", id=name, problem=problem, location="a commit relied on it")
