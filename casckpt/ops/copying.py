"""What is needed of a pack, written again behind what other packs gave: stored bytes as they are where that can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from casckpt.errors import DamagedObject, FormatError, IntegrityError
from casckpt.format import pack as p
from casckpt.format.codec import Codec, compress
from casckpt.format.encode import Encoder
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, ObjectId, checksum, object_id
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.rewriting import Rewriting
from casckpt.plan.id_sets import among
from casckpt.plan.rewriting import Candidate, Copy, copies, moved
from casckpt.storage.base import read_exact

_Data = bytes | bytearray | memoryview
DAMAGE = (DamagedObject, IntegrityError, FormatError, FileNotFoundError)


class Source(NamedTuple):
    """A pack that is to be written again, and what of it."""

    pack: PackRef
    contents: p.PackContents
    copies: list[Copy]

    @classmethod
    def of(cls, database: Database, candidate: Candidate, needed: Ids) -> Source:
        """What ids that stay, ascending, leave of a pack. Raises one of DAMAGE if its footer cannot be read."""
        contents = database.packs.contents(candidate.pack.id)
        wanted = _wanted(contents.records, needed)
        return cls(candidate.pack, contents, copies(contents.records, wanted, alone=candidate.must))

    @property
    def has_deltas(self) -> bool:
        """Whether any record goes along as a delta."""
        return any(self.contents.records[number].base_1 for number, decoded in self.copies if not decoded)

    def bases(self) -> set[int]:
        """Numbers of the records that these are decoded from."""
        records = self.contents.records
        kept = ((number, records[number]) for number, decoded in self.copies if not decoded)
        return {number - base for number, one in kept for base in (one.base_1, one.base_2) if base}


def _wanted(records: Iterable[p.Record], needed: Ids) -> list[int]:
    """Numbers of the records that are needed."""
    ids = prefixes(b"".join(record.id for record in records))
    found: list[int] = np.flatnonzero(among(ids, needed)).tolist()
    return found


class Copier:
    """Fills new packs. Not thread-safe."""

    def __init__(self, database: Database, output: Rewriting) -> None:
        self._database = database
        self._output = output
        self._encoder = Encoder()
        self._written: set[ObjectId] = set()

    def copy(self, source: Source) -> Iterator[int]:
        """Write what is wanted of a pack; yields the stored bytes of each record it has dealt with.

        Raises:
            one of DAMAGE: a record can be read nowhere. What came before it is written.
        """
        records, numbers, bases = source.contents.records, dict[int, int](), source.bases()
        end = p.BLOCK
        for number, decoded in source.copies:
            record = records[number]
            if record.offset >= end + p.pad(end) + p.BLOCK:
                self._end_leaf(numbers)  # the table of an extent may lie between, and that is the end of a leaf
            end = record.offset + record.stored
            # A delta finds its bases by their distance, so these come along even if another pack gave the same.
            if record.id not in self._written or record.base_1 or number in bases:
                is_cut_off = any(number - base not in numbers for base in (record.base_1, record.base_2) if base)
                alone = decoded or is_cut_off
                fresh, stored = self._alone(source, record) if alone else self._as_it_is(source, record)
                numbers[number] = self._output.records
                self._output.add(moved(fresh, number, numbers[number], numbers), stored)
                self._written.add(record.id)
            yield record.stored
        self._end_leaf(numbers)

    def _end_leaf(self, numbers: dict[int, int]) -> None:
        """Say that the pack may end here; if it does, what is in it can be a base no more."""
        self._output.end_leaf()
        if not self._output.records:
            numbers.clear()

    def _as_it_is(self, source: Source, record: p.Record) -> tuple[p.Record, _Data]:
        """A record and its stored bytes; encoded anew from another copy if these are damaged."""
        stored = read_exact(self._database.packs.open(pack_name(source.pack.id)), record.offset, record.stored)
        if _is_whole(record, stored):
            return record, stored
        if record.base_1:
            raise IntegrityError(object="a delta record", problem="its stored bytes do not match their check")
        return self._encoded(record, self._database.read(record.id, Kind(record.kind)))

    def _alone(self, source: Source, record: p.Record) -> tuple[p.Record, _Data]:
        """A delta as a record without bases."""
        return self._encoded(record, self._database.packs.read_record(pack_name(source.pack.id), record))

    def _encoded(self, record: p.Record, plain: _Data) -> tuple[p.Record, _Data]:
        is_chunk = record.kind == Kind.CHUNK
        codec, stored = self._encoder.encode(plain, record.element) if is_chunk else compress(bytes(plain))
        check = p.check_of(codec, record.id, record.kind, stored)
        length = len(stored)
        fresh = p.Record(record.id, 0, record.length, length, record.kind, codec, record.element, record.flags, check)
        return fresh, stored


def _is_whole(record: p.Record, stored: bytes) -> bool:
    """Whether stored bytes are those that were written."""
    if record.codec == Codec.RAW and record.kind == Kind.CHUNK:  # whose check is that of the id
        return object_id(Kind.CHUNK, stored) == record.id
    return checksum(stored)[:8] == record.check
