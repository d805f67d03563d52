"""Objects of a store on their way out: stored bytes as they lie in packs where that can be, each checked before.

    ids -> rows -> pack by pack, in the order of the files -> (record, stored bytes)

A delta goes as it is only if all that it is decoded from is wanted too; else nobody could tell what goes along with
it. Nothing is locked: an open pack stays readable when a collector removes it, and what is not found is looked up
again, since it may have moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from casckpt.errors import DamagedObject, FormatError, IntegrityError, StorageError
from casckpt.format import pack as p
from casckpt.format.codec import Codec, compress
from casckpt.format.encode import Encoder
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, ObjectId, checksum, object_id, short_id
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.plan.rewriting import copies
from casckpt.storage.base import ReadFile

_Data = bytes | bytearray | memoryview


Room = Callable[[p.Record], memoryview]
"""Where the stored bytes of a record lie if it is the next one that is sent."""


class Item(NamedTuple):
    """An object to be sent: bases, if any, count back from it among the items of one unit, which stay together.

    `stored` is None if the stored bytes were read to their room.
    """

    record: p.Record
    stored: _Data | None
    ends_unit: bool


class Supply:
    """Reads what is to be sent. One thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._encoder = Encoder()

    def stored_bytes(self, ids: bytes) -> tuple[int, int]:
        """About how many stored bytes objects have: chunks, and others.

        Raises:
            DamagedObject: one is not there.
        """
        chunks = others = 0
        for identity in each(ids):
            row = self._row(identity)
            if row.kind == Kind.CHUNK:
                chunks += row.stored
            else:
                others += row.stored
        return chunks, others

    def items(self, ids: bytes, room: Room) -> Iterator[Item]:
        """The objects with these ids, 32 bytes each, every one once.

        Args:
            room: asked right before an item is given.

        Raises:
            DamagedObject: one is damaged or not there.

        Memory: 200 bytes for each id, and one object.
        """
        places: dict[PackRef | None, set[ObjectId]] = {}
        for identity in each(ids):
            row = self._row(identity)
            pack = None if row.pack & t.IN_JOURNAL else self._database.pack_of(row)
            places.setdefault(pack, set()).add(identity)
        for pack, wanted in places.items():
            if pack is not None:
                yield from self._of_pack(pack, wanted, room)
            for identity in sorted(wanted):  # in the journal, or in no pack where it was said to be
                yield self._anew(identity)

    def _row(self, identity: ObjectId) -> t.Row:
        row = self._database.row(identity)
        if row is None:
            self._database.refresh()
            row = self._database.row(identity)
        if row is None:
            short = short_id(identity)
            raise DamagedObject(kind="object", id=short, problem="no pack of the store lists it", location="index")
        return row

    def _of_pack(self, pack: PackRef, wanted: set[ObjectId], room: Room) -> Iterator[Item]:
        """What can be had of a pack; that is taken out of `wanted`."""
        packs = self._database.packs
        try:
            records = packs.contents(pack.id).records
            file = packs.open(pack_name(pack.id))
        except (IntegrityError, FormatError, StorageError, FileNotFoundError):
            return
        numbers = {record.id: number for number, record in enumerate(records) if record.id in wanted}
        chosen = copies(records, numbers.values(), alone=True)
        ends = _ends([copy.number for copy in chosen], [copy.decoded for copy in chosen], records)
        places: dict[int, int] = {}
        place = 0
        for copy, ends_unit in zip(chosen, ends, strict=True):
            record = records[copy.number]
            place += record.kind == Kind.CHUNK  # others go into other packs, and have no bases
            bases = [copy.number - base for base in (record.base_1, record.base_2) if base]
            is_copied = not copy.decoded and all(base in places for base in bases)
            if not is_copied or not _is_read(file, record, room(record)):
                found = self._anew(record.id)
                yield found._replace(ends_unit=ends_unit)
            else:
                distances = [place - places[base] for base in bases] + [0, 0]
                places[copy.number] = place
                fresh = record._replace(offset=0, base_1=distances[0], base_2=distances[1])
                yield Item(fresh, None, ends_unit)
            wanted.discard(record.id)

    def _anew(self, identity: ObjectId) -> Item:
        """An object encoded anew from its plain bytes, without bases; from whichever copy of it is whole."""
        row = self._row(identity)
        plain = self._database.read(identity, Kind(row.kind))
        is_chunk = row.kind == Kind.CHUNK
        codec, stored = self._encoder.encode(plain, row.element) if is_chunk else compress(plain)
        check = p.check_of(codec, identity, row.kind, stored)
        element, flags = row.element, row.flags
        record = p.Record(identity, 0, len(plain), len(stored), row.kind, codec, element, flags, check)
        return Item(record, stored, True)


def each(ids: bytes) -> Iterator[ObjectId]:
    """The ids in n times 32 bytes."""
    return (ObjectId(ids[at : at + 32]) for at in range(0, len(ids), 32))


def _is_read(file: ReadFile, record: p.Record, room: memoryview) -> bool:
    """Whether the stored bytes of a record were read, and are those that were written."""
    try:
        if file.read_into(room, record.offset) != record.stored:
            return False
    except StorageError:
        return False
    if record.codec == Codec.RAW and record.kind == Kind.CHUNK:  # whose check is that of the id
        return object_id(Kind.CHUNK, room) == record.id
    return checksum(room)[:8] == record.check


def _ends(numbers: list[int], decoded: list[bool], records: list[p.Record]) -> list[bool]:
    """After which of the chosen records no later one needs any that came before it."""
    ends: list[bool] = []
    needed = len(records)
    for number, alone in zip(reversed(numbers), reversed(decoded), strict=True):
        ends.append(needed > number)
        record = records[number]
        if not alone:
            needed = min([needed, *(number - base for base in (record.base_1, record.base_2) if base)])
    return ends[::-1]
