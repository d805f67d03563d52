"""Which packs are worth writing anew: many small ones become one, and mostly dead ones shrink.

A pack that was written anew is a copy: the old one goes when the next collection finds that others hold all it has.
So nothing here removes anything, and a choice that is cut short leaves a store that is right.

Written packs are not written again: what is mostly dead at least halves, and of the small ones at most one is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from casckpt.format import pack as p
from casckpt.format.entry import PackRef

SMALL_BYTES = 4 << 20
MERGE_FROM = 32
"""So many packs below SMALL_BYTES are merged: fewer cost nobody anything, and each merge writes them again."""
MERGED_BYTES = 256 << 20
MERGED_RECORDS = 1 << 16
"""A merged pack is closed at either of these: what is let go of sooner than its neighbours should not wait for all."""


class Candidate(NamedTuple):
    """A pack, and what of it would be written again.

    `needed` counts the stored bytes of the records that something needs and of their bases, `records` these records.
    `must` says that it has to be written anew whatever that saves, since it holds what may not stay.
    """

    pack: PackRef
    needed: int
    records: int
    must: bool = False

    @property
    def expected(self) -> int:
        """About as long as the file of what is needed alone would be: header, records twice, footer."""
        return 2 * p.BLOCK + self.needed + (2 * p.RECORD_BYTES + p.UNIT // 2) * self.records

    @property
    def is_sparse(self) -> bool:
        """Whether writing it anew saves more than it writes."""
        return self.must or 2 * self.expected < self.pack.nbytes


class Batch(NamedTuple):
    """Packs whose needed records go into one new pack, oldest first."""

    candidates: tuple[Candidate, ...]

    @property
    def needed(self) -> int:
        """Stored bytes to write."""
        return sum(one.needed for one in self.candidates)


def batches(candidates: Iterable[Candidate], *, limit_bytes: int | None = None) -> list[Batch]:
    """What to write anew, the most worthwhile first.

    Args:
        candidates: the packs that stay, oldest first; those without a needed record go by themselves.
        limit_bytes: the most stored bytes to write; what must be written does not count.
    """
    living = [one for one in candidates if one.records]
    sparse = [one for one in living if one.is_sparse]
    large = sorted((one for one in sparse if one.needed >= SMALL_BYTES), key=lambda one: one.needed / one.pack.nbytes)
    # What comes out small would soon be merged, so it is at once.
    small = [one for one in living if one.pack.nbytes < SMALL_BYTES and not one.is_sparse]
    little = [one for one in sparse if one.needed < SMALL_BYTES]
    if len(small) + bool(little) >= MERGE_FROM:
        joined = {one.pack.id for one in (*little, *small)}
        little = [one for one in living if one.pack.id in joined]
    chosen = [Batch((one,)) for one in large] + [one for one in _joined(little) if _is_worth(one)]
    return list(_within(chosen, limit_bytes))


def _joined(candidates: Sequence[Candidate]) -> Iterator[Batch]:
    """Neighbours together, as many as fit into a merged pack."""
    batch: list[Candidate] = []
    needed = records = 0
    for one in candidates:
        batch.append(one)
        needed, records = needed + one.needed, records + one.records
        if needed > MERGED_BYTES - SMALL_BYTES or records >= MERGED_RECORDS:
            yield Batch(tuple(batch))
            batch, needed, records = [], 0, 0
    if batch:
        yield Batch(tuple(batch))


def _is_worth(batch: Batch) -> bool:
    return len(batch.candidates) > 1 or batch.candidates[0].is_sparse


def _within(chosen: Iterable[Batch], limit_bytes: int | None) -> Iterator[Batch]:
    """As much of each batch as the limit leaves room for."""
    left = limit_bytes
    for batch in chosen:
        kept: list[Candidate] = []
        for one in batch.candidates:
            cost = 0 if one.must else one.needed
            if left is None or cost <= left:
                kept.append(one)
                left = None if left is None else left - cost
        cut = Batch(tuple(kept))
        if kept and _is_worth(cut):
            yield cut


class Copy(NamedTuple):
    """A record to be written again: as it is stored, or decoded since its bases do not go along."""

    number: int
    decoded: bool = False


def copies(records: Sequence[p.Record], wanted: Collection[int], *, alone: bool = False) -> list[Copy]:
    """What to write again of a pack so that the wanted records are there, in the order of the file.

    Deltas that share bases stay as they are, together with these, while that takes fewer bytes than all their plain
    bytes would: of a group that is mostly dead the bases would be carried along for little.

    Args:
        records: all of the pack.
        wanted: numbers of those that something needs.
        alone: whether nothing that is not wanted may come along as a base.
    """
    if not any(records[number].base_1 for number in wanted):
        return [Copy(number) for number in sorted(wanted)]
    closures = {number: _closure(records, number) for number in wanted}
    found: list[Copy] = []
    for group in _groups(closures):
        held = set().union(*(closures[number] for number in group))
        stored = sum(records[number].stored for number in held)
        plain = sum(records[number].length if records[number].base_1 else records[number].stored for number in group)
        if stored <= plain and not (alone and held - set(group)):
            found += [Copy(number) for number in held]
        else:
            found += [Copy(number, records[number].base_1 > 0) for number in group]
    return sorted(found)


def _closure(records: Sequence[p.Record], number: int) -> set[int]:
    """A record and all that it is decoded from."""
    needed, waiting = {number}, [number]
    while waiting:
        user = waiting.pop()
        record = records[user]
        for base in (user - distance for distance in (record.base_1, record.base_2) if distance):
            if base not in needed:
                needed.add(base)
                waiting.append(base)
    return needed


def _groups(closures: dict[int, set[int]]) -> list[list[int]]:
    """Wanted records, those together whose closures share a record, and so on."""
    parent = {number: number for number in closures}

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    users: dict[int, list[int]] = {}
    for number, closure in closures.items():
        for member in closure:
            users.setdefault(member, []).append(number)
    for together in users.values():
        for one, other in pairwise(together):
            parent[root(one)] = root(other)
    found: dict[int, list[int]] = {}
    for number in closures:
        found.setdefault(root(number), []).append(number)
    return list(found.values())


def moved(record: p.Record, number: int, new_number: int, numbers: dict[int, int]) -> p.Record:
    """A record with the distances to its bases in its new pack.

    Args:
        number, new_number: of the record, there and here.
        numbers: new numbers of its bases by the old ones.
    """
    return record._replace(
        base_1=new_number - numbers[number - record.base_1] if record.base_1 else 0,
        base_2=new_number - numbers[number - record.base_2] if record.base_2 else 0,
    )
