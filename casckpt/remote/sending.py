"""Sending: objects become packs in memory, and these become objects of a remote, several on their way at a time.

    items -> data pack, metadata pack -> full: upload by a worker -> noted in the journal of the push -> segment

Every upload has a key of its own, by a nonce in it, also one that is tried again. What was uploaded is nothing yet:
only a root makes it part of the remote.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from casckpt.errors import FormatError, IntegrityError, RemoteUnavailable, RemoteUntrusted
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.ids import Kind, object_id
from casckpt.format.remote import NONCE_BYTES, SegmentRef, pack_key, segment_key
from casckpt.format.remote_index import Row, Segment, SegmentPack
from casckpt.odb.workers import Workers
from casckpt.plan.transfer import METADATA_PACK_BYTES, PACK_BYTES, SEGMENT_ROWS
from casckpt.remote.supply import Item, Room
from casckpt.storage.objects import Buffer, Objects, Outcome
from casckpt.storage.pages import pages

CONCURRENCY = 4
TRIES = 6
_FIRST_PAUSE_S = 0.02
_READ_BACK_BYTES = 2 << 20
"""Read back at a time: a whole pack for every upload would take as much memory again as the uploads."""
_SPARE_BYTES = 2 << 20
"""How much longer than a full pack buffers are, for the last object and the tables; untouched it costs nothing."""
Advance = Callable[[int], None]


class Sent(NamedTuple):
    """A pack that is on a remote, and what it holds."""

    pack: SegmentPack
    records: Sequence[p.Record]


class OutgoingPack:
    """A pack that grows in memory.

    Args:
        buffer: for the pack to lie in, whatever is in it; where it gets too short, a longer one takes its place.
    """

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.nbytes = p.BLOCK
        self.records: list[p.Record] = []
        self._extent: list[p.Record] = []
        self._last_table = 0

    @property
    def data(self) -> memoryview:
        """The pack so far."""
        return self.buffer[: self.nbytes]

    def room(self, record: p.Record) -> memoryview:
        """Where the stored bytes of a record lie if it is the next one."""
        start = self.nbytes + p.pad(self.nbytes, _unit(record))
        self._reach(start + record.stored)
        return self.buffer[start : start + record.stored]

    def add(self, record: p.Record, stored: Buffer | None) -> None:
        """Append a record; its offset is set here. None stands for stored bytes that are in its room."""
        if stored is not None:
            self.room(record)[:] = stored
        self._align(_unit(record))
        placed = record._replace(offset=self.nbytes)
        self.nbytes += record.stored
        self.records.append(placed)
        self._extent.append(placed)
        if len(self._extent) >= p.EXTENT_RECORDS:
            self._close_extent()

    def finish(self, push_id: bytes) -> SegmentPack:
        """End the pack; its bytes are in `data`."""
        self._close_extent()
        self._align(p.BLOCK)
        header = p.encode_header(p.HAS_DELTAS if any(record.base_1 for record in self.records) else 0)
        self.buffer[: p.BLOCK] = header
        identity, end = p.encode_end(header, self.records, {"push": push_id}, self.nbytes)
        self._append(end)
        return SegmentPack(identity, os.urandom(NONCE_BYTES), self.nbytes)

    def _close_extent(self) -> None:
        if self._extent:
            self._align(p.BLOCK)
            table = p.encode_extent(self._extent, self._extent[0].offset, self._last_table)
            self._last_table = self.nbytes
            self._append(table)
            self._extent = []

    def _align(self, unit: int) -> None:
        self._append(bytes(p.pad(self.nbytes, unit)))

    def _append(self, data: bytes) -> None:
        self._reach(self.nbytes + len(data))
        self.buffer[self.nbytes : self.nbytes + len(data)] = data
        self.nbytes += len(data)

    def _reach(self, nbytes: int) -> None:
        if nbytes > len(self.buffer):
            longer = _memory(2 * nbytes)
            longer[: self.nbytes] = self.data
            self.buffer = longer


def _memory(nbytes: int = 0) -> memoryview:
    """Room for a pack of `nbytes`, at least for a full one."""
    return memoryview(pages(max(nbytes, PACK_BYTES + _SPARE_BYTES), huge=False))


def _unit(record: p.Record) -> int:
    return p.BLOCK if record.codec == Codec.RAW and record.stored >= p.ALIGNED_FROM else p.UNIT


class Packing:
    """Sorts items into packs of data and packs of metadata, in buffers that are used again and again."""

    def __init__(self) -> None:
        self._spare: list[memoryview] = []
        self._mutex = threading.Lock()
        self._data, self._metadata = self._fresh(), self._fresh()

    def room(self, record: p.Record) -> memoryview:
        """Where the stored bytes of a record lie if it is the next item."""
        return (self._data if record.kind == Kind.CHUNK else self._metadata).room(record)

    def packs(self, items: Iterable[Item]) -> Iterator[OutgoingPack]:
        """Packs, each when it is full; whoever is done with one gives its buffer back by `release`."""
        for record, stored, ends_unit in items:
            if record.kind == Kind.CHUNK:
                self._data.add(record, stored)
                if ends_unit and self._data.nbytes >= PACK_BYTES:
                    yield self._data
                    self._data = self._fresh()
            else:
                self._metadata.add(record, stored)
                if self._metadata.nbytes >= METADATA_PACK_BYTES:
                    yield self._metadata
                    self._metadata = self._fresh()
        for pack in (self._data, self._metadata):
            if pack.records:
                yield pack

    def release(self, pack: OutgoingPack) -> None:
        """Take a pack's buffer for another pack. Thread-safe."""
        with self._mutex:
            self._spare.append(pack.buffer)

    def _fresh(self) -> OutgoingPack:
        with self._mutex:
            return OutgoingPack(self._spare.pop() if self._spare else _memory())


class Sender:
    """Packs and segments on their way to a remote. One thread uses it; a context manager that leaves no thread behind.

    Args:
        push_id: the hint in every pack.
        concurrency: packs in memory, most of which are being uploaded.
        verify: read back each pack that was sent, one at a time, before it is noted; it is one of those in memory.
        note: called with each pack that arrived, by the thread that sent it, one at a time.
        advance: called with the stored bytes of each object when the pack that holds it has arrived.
    """

    def __init__(
        self,
        objects: Objects,
        push_id: bytes,
        *,
        concurrency: int = CONCURRENCY,
        verify: bool = False,
        note: Callable[[Sent], None] = lambda sent: None,
        advance: Advance = lambda count: None,
    ) -> None:
        self._objects = objects
        self._push_id = push_id
        self._concurrency = max(1, concurrency - verify)
        self._verify = verify
        self._note = note
        self._advance = advance
        self._mutex, self._reading = threading.Lock(), threading.Lock()

    def send(self, items: Callable[[Room], Iterable[Item]]) -> list[Sent]:
        """Upload objects; what they lie in then.

        Args:
            items: called with the room that stored bytes may be read to.

        Raises:
            RemoteUnavailable, RemoteDenied: an upload failed for good; what arrived before was noted.
            RemoteUntrusted: a pack reads otherwise than it was sent; it was not noted.

        Memory: a pack of 32 MiB for each upload, one of which is being filled or read back.
        """
        sent: list[Sent] = []
        running: deque[Future[Sent]] = deque()
        packing = Packing()
        with Workers[Sent](self._concurrency, "casckpt-push") as workers:
            for pack in packing.packs(items(packing.room)):
                running.append(workers.submit(partial(self._upload, pack, packing)))
                # Not one more to be filled meanwhile: filling takes little of the time that an upload does.
                while len(running) >= self._concurrency:
                    sent.append(self._arrived(running.popleft()))
            while running:
                sent.append(self._arrived(running.popleft()))
        return sent

    def segments(self, sent: Iterable[Sent]) -> list[tuple[SegmentRef, bytes]]:
        """Upload index segments of packs; each with its file."""
        found: list[tuple[SegmentRef, bytes]] = []
        for segment in _segments(sent):
            data = segment.encode()
            key = segment_key(data, store(self._objects, partial(segment_key, data), data))
            found.append((SegmentRef(key, len(segment.packs), len(segment), len(data)), data))
        return found

    def _upload(self, pack: OutgoingPack, packing: Packing) -> Sent:
        place = pack.finish(self._push_id)
        nonce = store(self._objects, partial(pack_key, place.id), pack.data)
        packing.release(pack)
        sent = Sent(place._replace(nonce=nonce), pack.records)
        if self._verify:
            with self._reading:
                verify(self._objects, sent)
        with self._mutex:
            self._note(sent)
        return sent

    def _arrived(self, running: Future[Sent]) -> Sent:
        sent = running.result()
        self._advance(sum(record.stored for record in sent.records))
        return sent


def store(objects: Objects, key_of: Callable[[bytes], str], data: Buffer) -> bytes:
    """Store an object under a key that is nobody else's; the nonce in it.

    A key is tried once. Where its upload was not answered and it is not there, it may come later: nobody will know of
    it then, and the next try has another key. To send it again would not do: it may have come at once, and a collector
    have condemned and removed it since, who may remove what has that name once more, however late.

    Args:
        key_of: the key with a nonce.

    Raises:
        RemoteUnavailable: no try was answered.
        RemoteDenied: the credentials do not allow it.
    """
    for number in range(TRIES):
        nonce = os.urandom(NONCE_BYTES)
        key = key_of(nonce)
        if objects.create(key, data) is Outcome.CREATED or objects.size(key) == len(data):
            return nonce
        time.sleep(min(_FIRST_PAUSE_S * 2**number, 1.0))
    raise RemoteUnavailable(remote=objects.url, operation=f"take {key}", problem="no answer told whether it arrived")


def _segments(sent: Iterable[Sent]) -> Iterator[Segment]:
    """Segments that list packs, as few as may be; an object that several packs hold once."""
    packs: list[SegmentPack] = []
    rows: dict[bytes, Row] = {}
    for one in sent:
        if packs and len(rows) + len(one.records) > SEGMENT_ROWS:
            yield Segment.build(packs, rows.values())
            packs, rows = [], {}
        for record in one.records:
            rows.setdefault(record.id, row_of(record, len(packs)))
        packs.append(one.pack)
    if packs:
        yield Segment.build(packs, rows.values())


def segment_of(sent: Sent) -> Segment:
    """What an index would say of one pack."""
    return Segment.build([sent.pack], {record.id: row_of(record, 0) for record in sent.records}.values())


def row_of(record: p.Record, pack: int) -> Row:
    """The row of a record in a segment whose list has its pack at this number."""
    return Row(
        record.id, pack, record.offset, record.stored, record.length,
        record.kind, record.codec, record.element, record.flags,
    )  # fmt: skip


def verify(objects: Objects, sent: Sent) -> None:
    """Read a pack back and compare every object with what was sent.

    Raises:
        RemoteUntrusted: it is not there, or differs; names the key.
    """
    key = sent.pack.key
    try:
        problem = _problem(objects, sent)
    except FileNotFoundError:
        problem = "it is not there"
    except (IntegrityError, FormatError, RemoteUntrusted) as error:
        problem = str(error)
    if problem:
        raise RemoteUntrusted(remote=objects.url, problem=f"{key} was sent, and reads otherwise: {problem}")


def _problem(objects: Objects, sent: Sent) -> str:
    """How the file of a pack differs from what was sent, empty if it does not."""
    key, nbytes = sent.pack.key, sent.pack.nbytes
    start = max(nbytes - _READ_BACK_BYTES, 0)
    header = objects.get(key, 0, p.BLOCK, limit=p.BLOCK)
    tail = objects.get(key, start, nbytes + 1, limit=nbytes + 1 - start)
    if start + len(tail) != nbytes:
        return "it has another length"
    identity, offset, size = p.decode_trailer(tail[-p.TRAILER_BYTES :], nbytes)
    if offset < start:
        tail, start = bytes(objects.get_ranges(key, [(offset, nbytes)])[0]), offset
    footer = tail[offset - start : offset - start + size]
    if p.decode_footer(header, footer, offset, identity).records != list(sent.records):
        return "its footer lists other objects"
    del tail, footer
    for records in _read_back(sent.records):
        start = records[0].offset
        found = memoryview(objects.get_ranges(key, [(start, records[-1].offset + records[-1].stored)])[0])
        for record in records:
            stored = found[record.offset - start : record.offset - start + record.stored]
            raw = record.codec == Codec.RAW and record.kind == Kind.CHUNK
            if (
                object_id(Kind.CHUNK, stored) != record.id
                if raw
                else p.check_of(1, record.id, 0, stored) != record.check
            ):
                return f"object {record.id.hex()[:12]} differs"
    return "" if identity == sent.pack.id else "its trailer names another pack"


def _read_back(records: Sequence[p.Record]) -> Iterator[list[p.Record]]:
    """Neighbouring records that are read at a time."""
    group: list[p.Record] = []
    for record in records:
        if group and record.offset + record.stored - group[0].offset > _READ_BACK_BYTES:
            yield group
            group = []
        group.append(record)
    if group:
        yield group
