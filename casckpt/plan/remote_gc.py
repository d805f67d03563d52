"""What of a remote must stay: its packs, what is written again, and how its segments are merged. Rows as columns.

    live segments -> rows of all packs -> of each needed object the one copy that stays -> packs without any: dead
    segments that list a dead pack, and small ones -> one new segment

A pack stays as a whole: bases of what is needed lie in it too. What another pack holds as well must be proven by whole
ids; that an object is needed is told by 8 bytes of its id, which only ever makes too much stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from casckpt.format.codec import Codec
from casckpt.format.ids import Kind, ObjectId
from casckpt.format.pack import BLOCK
from casckpt.format.pack_columns import Ids
from casckpt.format.remote_index import ROW_BYTES, Segment, SegmentPack
from casckpt.plan.id_sets import Flags, Numbers, Places, Positions, blocks

SPARSE = 0.5
"""A pack of which less than this share is needed is written again."""
RECORD_BYTES = 256
"""What a record takes in a pack besides its stored bytes: its places in two tables, and what these are aligned to."""
SMALL_BYTES = 4 << 20
SMALL_PACKS = 16
"""So many packs smaller than that are written again as one: every pack costs whoever reads a request."""
SEGMENT_ROWS = 1 << 20
"""Rows of a segment that is made of others: 52 MB, which is what a client fetches and keeps at a time."""
SEGMENTS = 16
"""More segments than that are merged even if nothing else is to be done."""
_FRAME_BYTES = 4 * BLOCK
"""Header, footer and trailer of a pack, and the end of its last table."""
ROW: np.dtype[Any] = np.dtype(
    {
        "names": ["id", "words", "pack", "unit", "stored", "length", "kind", "codec", "element", "flags"],
        "formats": ["<u8", (">u8", 4), "<u4", "<u4", "<u4", "<u4", "u1", "u1", "u1", "u1"],
        "offsets": [0, 0, 32, 36, 40, 44, 48, 49, 50, 51],
        "itemsize": ROW_BYTES,
    }
)
"""A row in place. `id` is the first 8 bytes of the object's id, as in `pack_columns`; `words` ascend as the id does."""
_WHOLE = np.dtype((np.void, ROW_BYTES))
Rows = npt.NDArray[Any]


class PackUse(NamedTuple):
    """What of a pack must stay."""

    pack: SegmentPack
    rows: int
    needed: int
    """How many of them something needs that no better pack has."""
    nbytes: int
    """About what these would take if they were written again."""

    @property
    def is_dead(self) -> bool:
        return not self.needed


class Listing:
    """The rows of some segments, with the packs that they point to numbered through.

    Memory: 52 bytes for each row, and 30 more while it is asked.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        numbers: dict[SegmentPack, int] = {}
        self.rows: Rows = np.frombuffer(bytearray().join(segment.table for segment in segments), ROW)
        self.ends = np.cumsum([0, *map(len, segments)])
        """Where the rows of each segment start, and the last ones end."""
        for number, segment in enumerate(segments):
            places = [numbers.setdefault(pack, len(numbers)) for pack in segment.packs]
            own = self.rows["pack"][self.ends[number] : self.ends[number + 1]]
            own[:] = np.array(places, np.uint32)[own]
        self.packs = tuple(numbers)

    def ids(self, kind: Kind) -> list[ObjectId]:
        """All objects of a kind."""
        return _ids(self.rows[self.rows["kind"] == kind])

    def stored(self, ids: Ids) -> npt.NDArray[np.uint32]:
        """Stored bytes of objects by their ids, which ascend; 0 of what is not listed."""
        found = np.zeros(len(ids) + 1, np.uint32)
        for block, at in _places(self.rows, ids):
            found[at] = self.rows["stored"][block]
        return found[:-1]


class Uses:
    """What is needed of the packs of a remote.

    Args:
        needed: the ids of all objects that must stay, ascending.
        preferred: packs that stay rather than others which hold the same.
        gone: keys of packs that do not count, since they are condemned.
    """

    def __init__(
        self, listing: Listing, needed: Ids, *, preferred: Collection[SegmentPack] = (), gone: Collection[str] = ()
    ) -> None:
        self.listing = listing
        rows, packs = listing.rows, listing.packs
        is_gone = np.array([pack.key in gone for pack in packs], np.bool_)
        numbers = _needed(rows, needed)
        numbers = numbers[~is_gone[rows["pack"][numbers]]]
        # A delta is written again without its bases.
        cost = np.where(rows["codec"] >= Codec.DELTA_PLANES, rows["length"], rows["stored"]) + np.int64(RECORD_BYTES)
        share = np.bincount(rows["pack"][numbers], cost[numbers], len(packs))
        order = sorted(
            range(len(packs)),
            key=lambda number: (
                packs[number] not in preferred,
                -share[number] / packs[number].nbytes,
                packs[number].key,
            ),
        )
        rank = np.empty(len(packs), np.int64)
        rank[order] = np.arange(len(packs))
        self._owned = _first_of_each(rows, numbers, rank)
        """Numbers of the rows that stay."""
        self.missing = _missing(rows[numbers], needed)
        """The ids that are needed and that no pack has."""
        owners = rows["pack"][self._owned]
        counts = np.bincount(owners, minlength=len(packs))
        sizes = np.bincount(owners, cost[self._owned], len(packs))
        totals = np.bincount(rows["pack"], minlength=len(packs))
        self.packs = tuple(
            PackUse(pack, int(total), int(count), int(size))
            for pack, total, count, size in zip(packs, totals, counts, sizes, strict=True)
        )

    @property
    def dead(self) -> tuple[SegmentPack, ...]:
        """The packs that nothing needs."""
        return tuple(use.pack for use in self.packs if use.is_dead)

    def worth_rewriting(self, but: Collection[SegmentPack] = ()) -> tuple[PackUse, ...]:
        """The packs of which little is needed, and small ones if there are many; none of `but`."""
        alive = [use for use in self.packs if not use.is_dead and use.pack not in but]
        sparse = [use for use in alive if use.nbytes < SPARSE * (use.pack.nbytes - _FRAME_BYTES)]
        small = [use for use in alive if use.pack.nbytes < SMALL_BYTES]
        chosen = {*sparse, *(small if len(small) >= SMALL_PACKS else ())}
        return tuple(use for use in alive if use in chosen)

    def of(self, packs: Collection[SegmentPack]) -> list[ObjectId]:
        """What must stay of some packs: chunks last, and otherwise in the order in which they lie."""
        rows = self.listing.rows[self._owned]
        is_here = np.array([pack in packs for pack in self.listing.packs], np.bool_)
        rows = rows[is_here[rows["pack"]]]
        order = np.lexsort((rows["unit"], rows["pack"], rows["kind"] == Kind.CHUNK))
        return _ids(rows[order])

    def merged(self, keep: Sequence[bool]) -> tuple[tuple[int, ...], list[Segment]]:
        """(numbers of the segments that stay as they are, the new ones that take the place of all others).

        A segment goes if it lists a pack that is dead; then, and where there are many, all go that are not larger than
        those which go are together. So sizes double from one segment to the next, and there are few.

        Args:
            keep: which segments the remote has; others were made for this call, and go in any case.
        """
        dead = set(self.dead)
        sizes = np.diff(self.listing.ends).tolist()
        going = {
            number
            for number, segment in enumerate(self.listing.segments)
            if not keep[number] or not dead.isdisjoint(segment.packs)
        }
        staying = sorted(set(range(len(sizes))) - going, key=lambda number: sizes[number])
        if going or len(staying) > SEGMENTS:
            total, count = sum(sizes[number] for number in going), 0
            for place, number in enumerate(staying, 1):
                if sizes[number] <= total and sizes[number] < SEGMENT_ROWS:
                    count = place
                total += sizes[number]
            going.update(staying[:count])
        return tuple(sorted(set(range(len(sizes))) - going)), list(self._segments(sorted(going)))

    def _segments(self, numbers: Sequence[int]) -> Iterator[Segment]:
        """The rows of some segments as new ones, without those of dead packs; of several copies the one that stays."""
        if not numbers:
            return
        rows, ends = self.listing.rows, self.listing.ends
        chosen = np.concatenate([np.arange(ends[number], ends[number + 1]) for number in numbers])
        is_dead = np.array([use.is_dead for use in self.packs], np.bool_)
        chosen = chosen[~is_dead[rows["pack"][chosen]]]
        is_owned = np.zeros(len(rows), np.bool_)
        is_owned[self._owned] = True
        words = rows["words"]
        order = np.lexsort((~is_owned[chosen], *(words[chosen, word] for word in (3, 2, 1, 0))))
        chosen = chosen[order]
        is_first = np.ones(len(chosen), np.bool_)
        is_first[1:] = (words[chosen[1:]] != words[chosen[:-1]]).any(axis=1)
        chosen = chosen[is_first]
        for start in range(0, len(chosen), SEGMENT_ROWS):
            yield self._segment(rows[chosen[start : start + SEGMENT_ROWS]])

    def _segment(self, rows: Rows) -> Segment:
        packs = self.listing.packs
        used = sorted(set(rows["pack"].tolist()), key=lambda number: packs[number])
        places = np.zeros(len(packs), np.uint32)
        places[used] = np.arange(len(used))
        rows["pack"] = places[rows["pack"]]
        return Segment(tuple(packs[number] for number in used), rows.view(_WHOLE).tobytes())


def _ids(rows: Rows) -> list[ObjectId]:
    table = np.ascontiguousarray(rows).view(_WHOLE).tobytes()
    return [ObjectId(table[at : at + 32]) for at in range(0, len(table), ROW_BYTES)]


def _places(rows: Rows, ids: Ids) -> Iterator[tuple[slice, Positions]]:
    """For parts of the rows the place of each id among others that ascend, the one behind the last if it has none."""
    places = Places(ids)
    for block in blocks(len(rows)):
        yield block, places.find(np.ascontiguousarray(rows["id"][block]))


def _needed(rows: Rows, needed: Ids) -> Numbers:
    """Numbers of the rows whose ids are among others, ascending."""
    parts = [np.flatnonzero(at < len(needed)) + block.start for block, at in _places(rows, needed)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _missing(rows: Rows, needed: Ids) -> Ids:
    is_there: Flags = np.zeros(len(needed) + 1, np.bool_)
    for _, at in _places(rows, needed):
        is_there[at] = True
    missing: Ids = needed[~is_there[:-1]]
    return missing


def _first_of_each(rows: Rows, numbers: Numbers, rank: Numbers) -> Numbers:
    """Of the rows with these numbers, of each object the one whose pack has the lowest rank.

    Two objects whose ids start alike may hide from each other that they are there twice, and both copies stay.
    """
    order = np.lexsort((rank[rows["pack"][numbers]], rows["id"][numbers]))
    numbers = numbers[order]
    is_first = np.ones(len(numbers), np.bool_)
    is_first[1:] = (rows["words"][numbers[1:]] != rows["words"][numbers[:-1]]).any(axis=1)
    first: Numbers = numbers[is_first]
    return first
