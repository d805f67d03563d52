"""Which bytes of a pack are read for the objects that are wanted of it, and in which pieces.

Ranges with less than 1 MiB between them are one, since a request costs more than that; of a pack that is mostly wanted
everything is read. A piece is what is read and decoded at a time, so its size bounds the memory of a transfer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from casckpt.format import pack as p
from casckpt.format.remote_index import SegmentPack
from casckpt.odb.pack_reader import closure

GAP_BYTES = 1 << 20
PIECE_BYTES = 34 << 20
"""Bytes read for one piece, with the plain bytes of what other records of it are decoded from. A pack that a push wrote
ends at the first object at or after 32 MiB, and comes in one piece."""
MOSTLY = 0.6


class Piece(NamedTuple):
    """Ranges of one pack, and what lies in them."""

    pack: SegmentPack
    ranges: list[tuple[int, int]]
    needed: dict[int, p.Record]
    """Records by their numbers, ascending; bases come before what is decoded from them."""
    wanted: frozenset[int]

    @property
    def nbytes(self) -> int:
        """Bytes that are transferred."""
        return sum(stop - start for start, stop in self.ranges)


def pieces(pack: SegmentPack, wanted: Mapping[int, p.Record], footer: list[p.Record] | None = None) -> Iterator[Piece]:
    """The pieces that bring these records of a pack.

    Args:
        wanted: by number; the numbers ascend with the offsets.
        footer: all records of the pack, which some of those wanted may be decoded from; None if none is.

    Raises:
        IntegrityError: a record needs more bases than the format allows.
    """
    needed: dict[int, p.Record] = {}
    chosen: list[int] = []
    weight = 0
    for number, record in wanted.items():
        own = {number: record} if footer is None else {one: footer[one] for one in closure(footer, number)}
        added = _weight(needed, own)
        if chosen and weight + added > PIECE_BYTES:
            yield _piece(pack, needed, chosen)
            needed, chosen, weight = {}, [], 0
            added = _weight(needed, own)
        needed |= own
        chosen.append(number)
        weight += added
    if chosen:
        yield _piece(pack, needed, chosen)


def _weight(needed: dict[int, p.Record], own: Mapping[int, p.Record]) -> int:
    """Bytes by which a piece grows."""
    last = needed[next(reversed(needed))] if needed else None
    end = None if last is None else last.offset + last.stored
    total = 0
    for number, record in own.items():
        if number not in needed:
            gap = 0 if end is None else record.offset - end
            total += record.stored + (gap if 0 < gap < GAP_BYTES else 0) + (record.length if len(own) > 1 else 0)
            end = record.offset + record.stored
    return total


def _piece(pack: SegmentPack, needed: Mapping[int, p.Record], chosen: Sequence[int]) -> Piece:
    records = dict(sorted(needed.items()))
    ranges: list[tuple[int, int]] = []
    for record in records.values():
        start, stop = record.offset, record.offset + record.stored
        if ranges and start - ranges[-1][1] < GAP_BYTES:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], stop)
        else:
            ranges.append((start, stop))
    stored = sum(record.stored for record in records.values())
    if pack.nbytes <= PIECE_BYTES and stored > MOSTLY * pack.nbytes:
        ranges = [(0, pack.nbytes)]
    return Piece(pack, ranges, records, frozenset(chosen))
