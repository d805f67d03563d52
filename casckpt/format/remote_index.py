"""An index segment of a remote: which pack holds which object, and where. Specification: format-v1.md, section 12.

    offset     little-endian
    0          magic `CKPTSEGM`
    8          u16 major 1, u16 minor
    12         u32 required flags, 0
    16         u32 packs p
    20         u32 rows r
    24         u64 0
    32         packs: id [32], nonce [4], u64 length of the file          44 p, ascending by id and nonce
    32 + 44 p  fan-out: u32 [256], number b is how many rows have an id whose first byte is at most b
    ..         rows, ascending by id, no id twice                         52 r
    ..         BLAKE3[32] of everything before

    row: 0 id [32] | 32 u32 number of the pack | 36 u32 offset / 64 | 40 u32 stored length | 44 u32 plain length |
         48 u8 kind | 49 u8 codec | 50 u8 element | 51 u8 flags

The fields of a row are those of the object's record, whose bases and check stay in the footer of its pack. The
fan-out comes before the rows, so that a client can read one bucket of a segment that it does not keep. An object may
lie in several packs; a segment names one of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import limits
from casckpt.format.codec import Codec
from casckpt.format.ids import ObjectId, PackId, checksum
from casckpt.format.pack import BLOCK, UNIT
from casckpt.format.remote import MAX_SEGMENT_BYTES, NONCE_BYTES, pack_key

MAGIC = b"CKPTSEGM"
_HEADER = struct.Struct("<8sHHIIIQ")
_PACK = struct.Struct("<32s4sQ")
_FANOUT = struct.Struct("<256I")
_ROW = struct.Struct("<32sIIIIBBBB")
ROW_BYTES = _ROW.size
_KIND_AT = 48
_WHAT = "an index segment"
_Data = bytes | memoryview


class SegmentPack(NamedTuple):
    """A pack by the parts of its key, with the length of its file."""

    id: PackId
    nonce: bytes
    nbytes: int

    @property
    def key(self) -> str:
        return pack_key(self.id, self.nonce)


class Row(NamedTuple):
    """Where an object lies: `pack` is a number in the segment's list, `offset` counts bytes in that pack."""

    id: ObjectId
    pack: int
    offset: int
    stored: int
    length: int
    kind: int
    codec: int = 0
    element: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A table of objects and the packs they lie in. The rows stay bytes: 52 for an object, whatever the number.

    Invariants: packs and rows ascend; every row points into one of the packs. `build` and `decode` check them.
    """

    packs: tuple[SegmentPack, ...]
    table: bytes

    @classmethod
    def build(cls, packs: Sequence[SegmentPack], rows: Iterable[Row]) -> Segment:
        """A segment of these packs and rows, in any order; `Row.pack` counts in `packs` as given.

        Raises:
            IntegrityError: two rows of one id, two equal packs, or a row that does not fit its pack.
        """
        order = sorted(range(len(packs)), key=lambda number: packs[number])
        place = {number: position for position, number in enumerate(order)}
        sorted_rows = sorted(rows)
        if any(row.offset % UNIT for row in sorted_rows):
            raise _error("an offset is not a multiple of 64")
        table = b"".join(
            _ROW.pack(row.id, place.get(row.pack, len(packs)), row.offset // UNIT, *row[3:]) for row in sorted_rows
        )
        segment = cls(tuple(packs[number] for number in order), table)
        segment._check()
        return segment

    def encode(self) -> bytes:
        """The file of the segment."""
        head = _HEADER.pack(MAGIC, 1, 0, 0, len(self.packs), len(self), 0)
        packs = b"".join(_PACK.pack(*pack) for pack in self.packs)
        data = b"".join((head, packs, _FANOUT.pack(*self._fan_out()), self.table))
        return data + checksum(data)

    @classmethod
    def decode(cls, data: _Data, *, is_known: bool = False) -> Segment:
        """The segment in a file, every row checked.

        Args:
            is_known: these bytes were accepted before, and compared with their hash since: rows are not looked at.

        Raises:
            FormatError: a newer version or a required flag this release does not know.
            IntegrityError: anything else that breaks a rule.

        Cost: about 2 us for a row; nothing for rows that are known.
        """
        if not _HEADER.size <= len(data) <= MAX_SEGMENT_BYTES or bytes(data[:8]) != MAGIC:
            raise _error("it does not start with the magic, or is too long")
        _, major, _, required, packs, rows, zero = _HEADER.unpack_from(data)
        if major != 1 or required:
            raise FormatError(object=_WHAT, problem=f"version {major}, required flags {required:#x}")
        fan_out = _HEADER.size + packs * _PACK.size
        table = fan_out + _FANOUT.size
        if zero or table + rows * ROW_BYTES + 32 != len(data):
            raise _error("its length does not fit its counts")
        if checksum(data[:-32]) != bytes(data[-32:]):
            raise _error("its hash does not match")
        found = (SegmentPack(*pack) for pack in _PACK.iter_unpack(data[_HEADER.size : fan_out]))
        segment = cls(tuple(found), bytes(data[table:-32]))
        if is_known:
            return segment
        segment._check()
        if _FANOUT.unpack(data[fan_out:table]) != segment._fan_out():
            raise _error("its fan-out does not fit its rows")
        return segment

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.table) // ROW_BYTES

    def rows(self) -> Iterator[Row]:
        """All rows, ascending by id."""
        return map(_row, _ROW.iter_unpack(self.table))

    def row(self, number: int) -> Row:
        """One row, by its number."""
        return _row(_ROW.unpack_from(self.table, number * ROW_BYTES))

    def ids(self, kind: int) -> Iterator[ObjectId]:
        """The ids of all objects of a kind, ascending. Cost: looks at one byte of each row."""
        kinds = self.table[_KIND_AT::ROW_BYTES]
        number = kinds.find(kind)
        while number >= 0:
            yield ObjectId(self.table[number * ROW_BYTES : number * ROW_BYTES + 32])
            number = kinds.find(kind, number + 1)

    def find(self, identity: bytes) -> Row | None:
        """The row of an object, None if the segment does not list it. Cost: O(log rows)."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.table[middle * ROW_BYTES : middle * ROW_BYTES + 32] < identity:
                low = middle + 1
            else:
                high = middle
        at = low * ROW_BYTES
        if self.table[at : at + 32] != identity:
            return None
        return _row(_ROW.unpack_from(self.table, at))

    def _fan_out(self) -> tuple[int, ...]:
        counts = [0] * 256
        for first in self.table[::ROW_BYTES]:
            counts[first] += 1
        for byte in range(1, 256):
            counts[byte] += counts[byte - 1]
        return tuple(counts)

    def _check(self) -> None:
        for pack in self.packs:
            if len(pack.nonce) != NONCE_BYTES or pack.nbytes % BLOCK or not 0 < pack.nbytes <= limits.MAX_PACK_BYTES:
                raise _error("a pack has an impossible length")
        if any(first[:2] >= second[:2] for first, second in pairwise(self.packs)):
            raise _error("its packs are not ascending")
        previous = b""
        for row in self.rows():
            if row.id <= previous:
                raise _error("its rows are not ascending")
            problem = self._problem(row)
            if problem:
                raise _error(f"in the row of {row.id[:6].hex()} {problem}")
            previous = row.id

    def _problem(self, row: Row) -> str:
        limit = limits.MAX_OBJECT_BYTES.get(row.kind)
        if row.pack >= len(self.packs):
            return "the pack is none of its list"
        if row.offset < BLOCK or row.offset + row.stored > self.packs[row.pack].nbytes:
            return "the stored bytes lie outside the pack"
        if limit is not None and not 0 < row.length <= limit:
            return f"the length {row.length} is not allowed for the kind"
        if row.stored > row.length + limits.MAX_STORED_EXCESS:
            return "the stored form is longer than the plain bytes"
        if row.codec == Codec.RAW and row.stored != row.length:
            return "raw bytes have two lengths"
        return ""


def _row(fields: tuple[bytes, int, int, int, int, int, int, int, int]) -> Row:
    identity, pack, unit, *rest = fields
    return Row(ObjectId(identity), pack, unit * UNIT, *rest)


def _error(problem: str) -> IntegrityError:
    return IntegrityError(object=_WHAT, problem=problem)
