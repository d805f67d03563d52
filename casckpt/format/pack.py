"""A pack: an immutable, self-describing file of records. Byte tables: docs/reference/format-v1.md, section 8.

    header 4 KiB | extent | extent | ... | footer | trailer 64 B          everything little-endian
    extent = payloads, then a table of their records with a hash, both starting on 4 KiB

The footer repeats all records in file order, so one read of the end of the file knows everything; the extent tables
exist for salvage when the end is lost. The pack id binds header and footer, and through the `check` of each record
its stored bytes. Equal records and hints give equal bytes: no store id and no randomness is in a pack.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import limits
from casckpt.format.canonical import decode, encode
from casckpt.format.codec import Codec
from casckpt.format.ids import ObjectId, PackId, checksum, pack_id

BLOCK = 4096
UNIT = 64
ALIGNED_FROM = 64 << 10
"""Stored records of this length and more start on a block, others on a unit."""
EXTENT_RECORDS = 64
EXTENT_BYTES = 64 << 20
"""An extent is closed at the first leaf boundary at or after either of these."""
PACK_BYTES = 1 << 30
"""A pack is closed at the first leaf boundary at or after this; longer leaves are cut at multiples of it."""

PACK_MAGIC = b"CKPTPACK"
EXTENT_MAGIC = b"CKPTEXT1"
FOOTER_MAGIC = b"CKPTFOOT"
TRAILER_MAGIC = b"CKPTEND1"
HAS_DELTAS = 1
"""Required header flag: some records have bases."""
_KNOWN_REQUIRED = HAS_DELTAS

_HEADER = struct.Struct("<8sHHII")
_RECORD = struct.Struct("<32sIIIHH8sBBBBBBH")
_EXTENT = struct.Struct("<8sIIQQ")
_FOOTER = struct.Struct("<8sIIQ")
_TRAILER = struct.Struct("<32sQQQ8s")
_RESERVED = bytes(BLOCK - _HEADER.size)
RECORD_BYTES = _RECORD.size
TRAILER_BYTES = _TRAILER.size
assert RECORD_BYTES == 64 and TRAILER_BYTES == 64


class Record(NamedTuple):
    """One object in a pack or journal frame: which it is, where its stored bytes are, how to decode them.

    `offset` is in bytes from the start of the pack file (or of the frame's payload), a multiple of 64. `base_1` and
    `base_2` say how many records before this one its bases are (0: none); two bases are averaged with `weight`/16.
    `cost` is how many records must be decoded for this one, itself included. `check` is the first 8 bytes of the
    BLAKE3 of the stored bytes (raw chunk: of its id). Flag bits 0-1: 0 unscanned, 1 finite, 2 has NaN or Inf.
    """

    id: ObjectId
    offset: int
    length: int
    stored: int
    kind: int
    codec: int = 0
    element: int = 0
    flags: int = 0
    check: bytes = bytes(8)
    base_1: int = 0
    base_2: int = 0
    cost: int = 1
    weight: int = 0

    def pack(self) -> bytes:
        """The 64 bytes of the record."""
        return _RECORD.pack(
            self.id,
            self.offset // UNIT,
            self.length,
            self.stored,
            self.base_1,
            self.base_2,
            self.check,
            self.kind,
            self.codec,
            self.element,
            self.flags,
            self.cost,
            self.weight,
            0,
        )


class PackContents(NamedTuple):
    """What the footer of a pack says."""

    id: PackId
    records: list[Record]
    hints: dict[str, Any]


def pad(length: int, unit: int = BLOCK) -> int:
    """Bytes from `length` to the next multiple of `unit`."""
    return -length % unit


def check_of(codec: int, identity: bytes, kind: int, stored: bytes | bytearray | memoryview) -> bytes:
    """The `check` field: of the id for raw chunks, which need no second hash, else of the stored bytes."""
    if codec == Codec.RAW and kind == 0:
        return identity[:8]
    return checksum(stored)[:8]


def encode_header(required: int = 0, optional: int = 0) -> bytes:
    """The header block, 4 096 bytes."""
    return _HEADER.pack(PACK_MAGIC, 1, 0, required, optional).ljust(BLOCK, b"\0")


def decode_header(block: bytes) -> int:
    """Required flags of a header block; FormatError for a version or required flag this release does not know."""
    if len(block) != BLOCK or block[:8] != PACK_MAGIC:
        raise IntegrityError(object="a pack header", problem="it does not start with the magic")
    _, major, _, required, _ = _HEADER.unpack_from(block)
    if major != 1 or required & ~_KNOWN_REQUIRED:
        raise FormatError(object="a pack", problem=f"version {major}, required flags {required:#x}")
    if block[_HEADER.size :] != _RESERVED:
        raise IntegrityError(object="a pack header", problem="reserved bytes are not zero")
    return int(required)


def decode_records(
    data: bytes | memoryview, start: int, end: int, *, allow_bases: bool, first: int = 0
) -> list[Record]:
    """Records from their table, every field checked.

    Args:
        data: whole records, 64 bytes each, in file order.
        start, end: stored bytes lie in this range, one record's behind the other's.
        allow_bases: whether deltas may occur (packs with the required flag).
        first: number of the first record in its pack; bases may reach back to record 0.

    Raises:
        IntegrityError: for a field outside its range.
    """
    records: list[Record] = []
    for number, fields in enumerate(_RECORD.iter_unpack(data), first):
        identity, unit, length, stored, base_1, base_2, check, kind, codec, element, flags, cost, weight, zero = fields
        record = Record(
            identity, unit * UNIT, length, stored, kind, codec, element, flags, check, base_1, base_2, cost, weight
        )
        problem = _place_problem(record, start, end) or _field_problem(record, zero)
        if not problem:
            problem = _base_problem(record, number, records, allow_bases)
        if problem:
            raise IntegrityError(object=f"record {number}", problem=problem)
        records.append(record)
        start = record.offset + record.stored
    return records


def _place_problem(record: Record, start: int, end: int) -> str:
    if record.offset < start:
        return "its stored bytes overlap what is before them"
    return "its stored bytes reach past the end" if record.offset + record.stored > end else ""


def _field_problem(record: Record, zero: int) -> str:
    limit = limits.MAX_OBJECT_BYTES.get(record.kind)
    if limit is not None and not 0 < record.length <= limit:
        return f"its length {record.length} is not allowed for its kind"
    if record.stored > record.length + limits.MAX_STORED_EXCESS:
        return "its stored form is longer than its plain bytes"
    if record.codec == Codec.RAW and record.stored != record.length:
        return "it is raw, but stored and plain lengths differ"
    return "reserved bytes are not zero" if zero else ""


def _base_problem(record: Record, number: int, records: list[Record], allow_bases: bool) -> str:
    """What is wrong with the bases of a record; `records` are those before it, as far as they are known."""
    if record.base_1 == 0:
        ok = record.base_2 == 0 and record.cost == 1 and record.weight == 0
        return "" if ok else "fields of a delta without a base"
    if not allow_bases:
        return "a delta in a pack that declares none"
    if max(record.base_1, record.base_2) > number:
        return "its base is not before it"
    bases = [records[-back] for back in (record.base_1, record.base_2) if 0 < back <= len(records)]
    # The cost falls from a delta to its bases, so no chain is longer than the largest cost.
    if not 2 <= record.cost <= limits.MAX_DECODE_COST or any(base.cost >= record.cost for base in bases):
        return f"its decode cost {record.cost} is not allowed"
    if (record.base_2 == 0) != (record.weight == 0) or record.weight > 15:
        return "its weight does not fit its bases"
    return ""


def encode_extent(records: Sequence[Record], first: int, previous: int) -> bytes:
    """The table that closes an extent, padded to a block.

    Args:
        records: of this extent, in file order.
        first: offset of the extent's first payload.
        previous: offset of the previous extent's table, 0 for the first.
    """
    body = b"".join(record.pack() for record in records)
    table = _EXTENT.pack(EXTENT_MAGIC, len(records), _EXTENT.size + len(body) + 32, first, previous) + body
    table += checksum(table)
    return table + bytes(pad(len(table)))


def decode_extent(data: bytes | memoryview, offset: int, *, allow_bases: bool) -> tuple[list[Record], int]:
    """Records of the extent table at the start of `data`, and the offset of the previous table: for salvage.

    Args:
        offset: of the table in its file; payloads lie before it.
    """
    what = "an extent table"
    if len(data) < _EXTENT.size or bytes(data[:8]) != EXTENT_MAGIC:
        raise IntegrityError(object=what, problem="it does not start with the magic")
    _, count, size, first, previous = _EXTENT.unpack_from(data)
    if count > limits.MAX_PACK_RECORDS or size != _EXTENT.size + count * RECORD_BYTES + 32 or size > len(data):
        raise IntegrityError(object=what, problem="its length does not fit its count")
    if checksum(data[: size - 32]) != bytes(data[size - 32 : size]):
        raise IntegrityError(object=what, problem="its hash does not match")
    if not BLOCK <= first <= offset or previous >= offset:
        raise IntegrityError(object=what, problem="an offset in it points forward")
    rows = data[_EXTENT.size : size - 32]
    records = decode_records(rows, first, offset, allow_bases=allow_bases, first=limits.MAX_PACK_RECORDS)
    end = records[-1].offset + records[-1].stored if records else first
    if end + pad(end) != offset:
        # A pack stored as data inside a chunk has such tables too, but they speak of other places.
        raise IntegrityError(object=what, problem="it does not lie behind its records")
    return records, previous


def extent_bytes(data: bytes | memoryview) -> int:
    """Length in bytes of the extent table that starts here, as it says itself; 0 if none starts here."""
    if len(data) < _EXTENT.size or bytes(data[:8]) != EXTENT_MAGIC:
        return 0
    _, count, size, _, _ = _EXTENT.unpack_from(data)
    fits = count <= limits.MAX_PACK_RECORDS and size == _EXTENT.size + count * RECORD_BYTES + 32
    return int(size) if fits else 0


def encode_end(header: bytes, records: Sequence[Record], hints: dict[str, Any], offset: int) -> tuple[PackId, bytes]:
    """Id of the pack, and its last bytes: footer, padding and trailer.

    Args:
        header: the header block.
        records: all records in file order.
        hints: what a salvager would like to know of the commits that wrote the pack; never needed otherwise.
        offset: where the footer starts, a multiple of 4 KiB.
    """
    tail = encode(hints)
    if len(tail) > limits.MAX_HINT_BYTES:
        tail = encode({})
    footer = b"".join(
        (_FOOTER.pack(FOOTER_MAGIC, len(records), len(tail), 0), *(record.pack() for record in records), tail)
    )
    identity = pack_id(header, footer)
    padding = bytes(pad(len(footer) + TRAILER_BYTES))
    length = offset + len(footer) + len(padding) + TRAILER_BYTES
    return identity, footer + padding + _TRAILER.pack(identity, offset, len(footer), length, TRAILER_MAGIC)


def decode_trailer(trailer: bytes, length: int) -> tuple[PackId, int, int]:
    """(pack id, footer offset, footer length) from the last 64 bytes of a file of `length` bytes."""
    what = "a pack trailer"
    if len(trailer) != TRAILER_BYTES or trailer[-8:] != TRAILER_MAGIC:
        raise IntegrityError(object=what, problem="it does not end with the magic: the file is cut short or damaged")
    identity, offset, size, declared, _ = _TRAILER.unpack(trailer)
    if declared != length or length % BLOCK or offset % BLOCK or offset < BLOCK:
        raise IntegrityError(object=what, problem=f"it declares {declared} bytes, the file has {length}")
    most = _FOOTER.size + limits.MAX_PACK_RECORDS * RECORD_BYTES + limits.MAX_HINT_BYTES
    if not _FOOTER.size <= size <= most or offset + size + pad(size + TRAILER_BYTES) + TRAILER_BYTES != length:
        raise IntegrityError(object=what, problem="its footer does not fit the file")
    return PackId(identity), offset, size


def decode_footer(header: bytes, footer: bytes | memoryview, offset: int, identity: PackId) -> PackContents:
    """Contents of a pack from its header block and footer.

    Args:
        offset: of the footer, from the trailer; payloads lie before it.
        identity: from the trailer.

    Raises:
        IntegrityError: if header and footer do not hash to the identity, or a field is out of range.
        FormatError: for a pack of a newer format.
    """
    rows = record_bytes(header, footer, identity)
    records = decode_records(rows, BLOCK, offset, allow_bases=bool(decode_header(header) & HAS_DELTAS))
    hints = decode(footer[_FOOTER.size + len(rows) :], "the hints of a pack")
    if type(hints) is not dict:
        raise IntegrityError(object="a pack footer", problem="the hints are not a map")
    return PackContents(identity, records, hints)


def record_bytes(header: bytes, footer: bytes | memoryview, identity: PackId) -> memoryview:
    """The records in a footer, 64 bytes each, not decoded; arguments and errors as for `decode_footer`."""
    what = "a pack footer"
    if pack_id(header, footer) != identity:
        raise IntegrityError(object=what, problem="header and footer do not match the pack id")
    decode_header(header)
    if len(footer) < _FOOTER.size:
        raise IntegrityError(object=what, problem="it is too short")
    magic, count, tail, zero = _FOOTER.unpack_from(footer)
    if magic != FOOTER_MAGIC or zero or _FOOTER.size + count * RECORD_BYTES + tail != len(footer):
        raise IntegrityError(object=what, problem="its length does not fit its counts")
    return memoryview(footer)[_FOOTER.size : len(footer) - tail]


def hints_of(footer: bytes | memoryview) -> dict[str, Any]:
    """The hints in a footer that `record_bytes` accepted; empty if they are no map, since nobody depends on them."""
    tail = _FOOTER.unpack_from(footer)[2]
    try:
        hints = decode(footer[len(footer) - tail :], "the hints of a pack")
    except IntegrityError:
        return {}
    return hints if type(hints) is dict else {}
