"""Which packs are written again: it ends, it saves, and it stays within its limit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format import pack as p
from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.plan.rewriting import (
    MERGE_FROM,
    MERGED_BYTES,
    MERGED_RECORDS,
    SMALL_BYTES,
    Batch,
    Candidate,
    Copy,
    batches,
    copies,
    moved,
)
from tests.support.build import identity

MIB = 1 << 20
_numbers = count()


class Pack:
    """A pack of records of these stored lengths, some of which are needed."""

    def __init__(self, stored: Sequence[int], needed: Sequence[bool]) -> None:
        self.id = PackId(identity(f"pack {next(_numbers)}"))
        self.kept = [length for length, is_needed in zip(stored, needed, strict=True) if is_needed]
        self.nbytes = file_bytes(stored)

    def candidate(self, *, must: bool = False) -> Candidate:
        return Candidate(PackRef(self.id, self.nbytes), sum(self.kept), len(self.kept), must)


def file_bytes(stored: Sequence[int]) -> int:
    """Length of the file that a pack writer makes of records of these lengths, every one a leaf."""
    offset, in_extent, start = p.BLOCK, 0, p.BLOCK
    for length in stored:
        offset += p.pad(offset, p.BLOCK if length >= p.ALIGNED_FROM else p.UNIT)
        start = offset if not in_extent else start
        offset, in_extent = offset + length, in_extent + 1
        if in_extent >= p.EXTENT_RECORDS or offset - start >= p.EXTENT_BYTES:
            offset, in_extent = _closed(offset, in_extent), 0
    offset = _closed(offset, in_extent) if in_extent else offset
    return offset + -(-(24 + 64 * len(stored) + p.TRAILER_BYTES) // p.BLOCK) * p.BLOCK


def _closed(offset: int, records: int) -> int:
    table = 64 * records + 64
    return offset + p.pad(offset) + table + p.pad(table)


def applied(packs: Sequence[Pack], chosen: Sequence[Batch]) -> list[Pack]:
    """The packs after all batches were written and what became redundant is gone."""
    by_id = {pack.id: pack for pack in packs}
    made = []
    for batch in chosen:
        kept = [length for one in batch.candidates for length in by_id.pop(one.pack.id).kept]
        made.append(Pack(kept, [True] * len(kept)))
    return [*(pack for pack in by_id.values() if pack.kept), *made]


def candidates(packs: Sequence[Pack]) -> list[Candidate]:
    return [pack.candidate() for pack in packs]


@st.composite
def a_pack(draw: st.DrawFn) -> Pack:
    length = draw(st.sampled_from([1, 64, 700, 65_535, 65_536, 70_001, MIB]))
    number = draw(st.integers(1, 12))
    needed = draw(st.lists(st.booleans(), min_size=number, max_size=number))
    return Pack([length] * number, needed)


@st.composite
def many_packs(draw: st.DrawFn) -> list[Pack]:
    """A few kinds of packs, each of them several times."""
    found: list[Pack] = []
    for kind in draw(st.lists(a_pack(), max_size=4)):
        for _ in range(draw(st.sampled_from([1, 2, 15, 31, 32, 33, 70]))):
            copy = Pack(kind.kept, [True] * len(kind.kept))
            copy.nbytes = kind.nbytes
            found.append(copy)
    return found


@given(many_packs())
def test_written_packs_are_not_written_again_and_bytes_never_grow(packs: list[Pack]) -> None:
    living = [pack for pack in packs if pack.kept]
    after = applied(packs, batches(candidates(packs)))
    assert sum(pack.nbytes for pack in after) <= sum(pack.nbytes for pack in living)
    assert batches(candidates(after)) == []
    assert sum(map(len, (pack.kept for pack in after))) == sum(map(len, (pack.kept for pack in living)))


@given(many_packs(), st.integers(0, 100 * MIB))
def test_no_more_is_written_than_the_limit_and_going_on_ends_as_without_one(packs: list[Pack], limit: int) -> None:
    rounds = 0
    while chosen := batches(candidates(packs), limit_bytes=limit):
        assert sum(batch.needed for batch in chosen) <= limit
        before = len(packs), sum(pack.nbytes for pack in packs)
        packs = applied(packs, chosen)
        assert (len(packs), sum(pack.nbytes for pack in packs)) < before
        rounds += 1
    assert rounds < 400


@given(many_packs())
def test_every_pack_is_in_one_batch_at_most_and_a_batch_fits_into_a_pack(packs: list[Pack]) -> None:
    chosen = batches(candidates(packs))
    ids = [one.pack.id for batch in chosen for one in batch.candidates]
    assert len(ids) == len(set(ids))
    for batch in chosen:
        if len(batch.candidates) > 1:
            assert batch.needed <= MERGED_BYTES
            assert sum(one.records for one in batch.candidates[:-1]) < MERGED_RECORDS


def test_small_packs_are_merged_from_32_on_oldest_first() -> None:
    packs = [Pack([MIB], [True]) for _ in range(MERGE_FROM)]
    assert batches(candidates(packs[1:])) == []
    (batch,) = batches(candidates(packs))
    assert [one.pack.id for one in batch.candidates] == [pack.id for pack in packs]


def test_large_packs_are_not_merged() -> None:
    assert batches(candidates([Pack([MIB] * 5, [True] * 5) for _ in range(50)])) == []


def test_a_pack_is_written_again_when_less_than_half_of_it_is_needed() -> None:
    half = Pack([MIB] * 20, [True] * 10 + [False] * 10)
    less = Pack([MIB] * 20, [True] * 9 + [False] * 11)
    assert [batch.candidates[0].pack.id for batch in batches(candidates([half, less]))] == [less.id]


def test_what_saves_most_for_its_bytes_goes_first_within_the_limit() -> None:
    some = Pack([MIB] * 20, [True] * 8 + [False] * 12)
    most = Pack([MIB] * 40, [True] * 5 + [False] * 35)
    chosen = batches(candidates([some, most]), limit_bytes=7 * MIB)
    assert [batch.candidates[0].pack.id for batch in chosen] == [most.id]


def test_what_remains_of_sparse_packs_is_joined_when_it_is_small() -> None:
    packs = [Pack([MIB] * 9, [True] + [False] * 8) for _ in range(3)]
    (batch,) = batches(candidates(packs))
    assert len(batch.candidates) == 3 and batch.needed < SMALL_BYTES


def test_what_must_be_written_is_whatever_it_saves_and_beyond_the_limit() -> None:
    whole = Pack([MIB] * 9, [True] * 9)
    (batch,) = batches([whole.candidate(must=True)], limit_bytes=0)
    assert batch.candidates[0].pack.id == whole.id


def test_a_pack_of_which_nothing_is_needed_is_left_to_the_collection() -> None:
    assert batches([Pack([MIB] * 9, [False] * 9).candidate(must=True)]) == []


def record(name: str, stored: int, bases: Sequence[int] = (), cost: int = 1) -> p.Record:
    base_1, base_2 = (*bases, 0, 0)[:2]
    codec = 4 if bases else 0
    length = 1000 if bases else stored
    return p.Record(identity(name), 0, length, stored, 0, codec, base_1=base_1, base_2=base_2, cost=cost)


GROUP = [
    record("before", 500),
    record("key", 1000),
    record("left", 400, [1], 2),
    record("between", 500),
    record("middle", 300, [3, 2], 3),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0, 3], [Copy(0), Copy(3)]),
        ([4], [Copy(4, True)]),  # its two bases would be 1400 bytes beside its own 300
        ([2, 4], [Copy(1), Copy(2), Copy(4)]),
        ([1, 2], [Copy(1), Copy(2)]),
        ([2], [Copy(2, True)]),
        ([0, 1, 2, 3, 4], [Copy(number) for number in range(5)]),
        ([], []),
    ],
)
def test_deltas_stay_with_their_bases_while_that_is_shorter(wanted: list[int], expected: list[Copy]) -> None:
    assert copies(GROUP, wanted) == expected


def test_alone_no_base_comes_along_that_is_not_wanted() -> None:
    assert copies(GROUP, [2, 4], alone=True) == [Copy(2, True), Copy(4, True)]
    assert copies(GROUP, [1, 4], alone=True) == [Copy(1), Copy(4, True)]
    assert copies(GROUP, [1, 2, 4], alone=True) == [Copy(1), Copy(2), Copy(4)]


def test_distances_to_bases_are_those_of_the_new_pack() -> None:
    fresh = moved(GROUP[4], 4, 7, {1: 5, 2: 6})
    assert (fresh.base_1, fresh.base_2) == (2, 1)
    assert moved(GROUP[0], 0, 9, {}) == GROUP[0]
