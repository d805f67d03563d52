"""What is freed and which packs go, against sets and dicts; and what must never happen, whatever the packs hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import RECORD, Ids
from casckpt.plan.reclaim import STAYS, Holder, Located, PackRecords, Reclaim, freed, reached, reclaim, rescued

OBJECTS = st.one_of(st.integers(1, 8), st.integers(2**64 - 4, 2**64 - 1))
"""Some differ by less than a float would tell."""
RANKS = st.one_of(st.integers(0, 4), st.just(STAYS))
COMMITS = st.dictionaries(st.integers(0, 5), st.sets(OBJECTS, max_size=8), max_size=6)
"""What each of some commits reaches, by rank; 5 stands for those that stay."""


def column(ids: Iterable[int]) -> Ids:
    return np.array(list(ids), np.uint64)


def pack(number: int, rows: Sequence[tuple[int, int, int]], bases: Sequence[tuple[int, int]] = ()) -> PackRecords:
    """A pack of (id, stored, plain) records; its file is as long as what is stored, and a header."""
    columns: Any = np.zeros(len(rows), RECORD)
    for name, at in (("id", 0), ("stored", 1), ("length", 2)):
        columns[name] = [row[at] for row in rows]
    columns["cost"] = 1
    closures = [{at} for at in range(len(rows))]
    for at, (first, second) in enumerate(bases):
        columns["base_1"][at], columns["base_2"][at] = first, second
        closures[at] = {at}.union(*(closures[at - back] for back in (first, second) if back))
        columns["cost"][at] = len(closures[at])
    return PackRecords.of(PackRef(PackId(bytes([number]) * 32), 4096 + sum(row[1] for row in rows)), columns, {})


PACKS = st.lists(
    st.lists(st.tuples(OBJECTS, st.integers(1, 100), st.integers(1, 200)), min_size=1, max_size=6), max_size=6
).map(lambda packs: [pack(number, rows) for number, rows in enumerate(packs)])


@st.composite
def delta_packs(draw: st.DrawFn) -> PackRecords:
    """One pack some of whose records have bases before them."""
    rows = draw(st.lists(st.tuples(OBJECTS, st.integers(1, 100), st.integers(1, 200)), min_size=1, max_size=8))
    bases: list[tuple[int, int]] = []
    for at in range(len(rows)):
        first = draw(st.integers(0, min(at, 3)))
        bases.append((first, draw(st.integers(0, min(at, 3))) if first else 0))
    return pack(99, rows, bases)


def reclaimed(packs: Sequence[PackRecords], needed: Iterable[int]) -> Reclaim:
    """What goes if these ids are needed, and others that nobody needs are known too."""
    ids = column(sorted({*needed, *range(0, 12, 3)}))
    return reclaim(Located(packs, ids), np.isin(ids, column(needed)))


def holders(commits: dict[int, set[int]]) -> list[Holder]:
    ranks = {rank: STAYS if rank == 5 else rank for rank in commits}
    return [Holder(column(sorted(held, reverse=True)), ranks[rank], ranks[rank]) for rank, held in commits.items()]


@given(st.lists(st.tuples(st.sets(OBJECTS, max_size=6), RANKS, RANKS), max_size=6), RANKS)
def test_each_object_goes_with_the_last_that_has_it(units: list[tuple[set[int], int, int]], rank: int) -> None:
    expected: dict[int, tuple[int, int]] = {}
    for held, one, other in units:
        for identity in held:
            first, last = expected.get(identity, (STAYS, 0))
            expected[identity] = min(first, one, other), max(last, one, other)
    expected = {identity: (STAYS if last == STAYS else first, last) for identity, (first, last) in expected.items()}
    found = reached([Holder(column(held), min(one, other), max(one, other)) for held, one, other in units])
    assert found.ids.tolist() == sorted(expected)
    pairs = zip(found.ids.tolist(), found.first.tolist(), found.last.tolist(), strict=True)
    assert {identity: (first, last) for identity, first, last in pairs} == expected
    assert found.needed(rank).tolist() == sorted(one for one, (_, last) in expected.items() if last >= rank)


@given(COMMITS, st.dictionaries(OBJECTS, st.integers(1, 1000)))
def test_what_commits_free_alone_and_together_is_what_nobody_else_needs(
    commits: dict[int, set[int]], sizes: dict[int, int]
) -> None:
    found = reached(holders(commits))
    stored = np.array([sizes.get(identity, 0) for identity in found.ids.tolist()], np.int64)
    frees = freed(found, stored, 5)

    def total(objects: set[int]) -> int:
        return sum(sizes.get(one, 0) for one in objects)

    for rank in range(5):
        others = set[int]().union(*(held for other, held in commits.items() if other != rank))
        later = set[int]().union(*(held for other, held in commits.items() if other > rank))
        own = commits.get(rank, set())
        assert frees[rank] == (total(own - others), total(own - later))
    everything = set[int]().union(*commits.values())
    assert sum(one.together for one in frees) == total(everything - commits.get(5, set()))


@given(PACKS, st.sets(OBJECTS))
def test_of_several_copies_the_smallest_counts(packs: list[PackRecords], ids: set[int]) -> None:
    sizes: dict[int, int] = {}
    for one in packs:
        for identity, stored in zip(one.ids.tolist(), one.stored.tolist(), strict=True):
            sizes[identity] = min(stored, sizes.get(identity, stored))
    assert Located(packs, column(sorted(ids))).stored_bytes().tolist() == [sizes.get(one, 0) for one in sorted(ids)]


@given(PACKS, st.sets(OBJECTS))
def test_no_needed_object_loses_its_last_copy_and_nothing_stays_in_vain(
    packs: list[PackRecords], needed: set[int]
) -> None:
    result = reclaimed(packs, needed)
    held = {one.pack: set(one.ids.tolist()) & needed for one in packs}
    staying = [use.pack for use in result.uses if not use.goes]
    left = set[int]().union(*(held[one] for one in staying))
    assert left == needed & set[int]().union(*held.values())
    for use, one in zip(result.uses, packs, strict=True):
        assert use.goes == ("dead" if not held[use.pack] else use.goes)
        flags = [identity in needed for identity in one.ids.tolist()]
        assert (use.records, use.needed) == (len(flags), sum(flags))
        assert use.stored == sum(int(n) for n, flag in zip(one.stored, flags, strict=True) if flag)
        assert use.plain == sum(int(n) for n, flag in zip(one.length, flags, strict=True) if flag)
        assert use.stored + use.dead == int(one.stored.sum())
    for one in staying:  # none of them could go too
        assert held[one] - set[int]().union(*(held[other] for other in staying if other != one))
    redundant = [held[use.pack] for use in result.uses if use.goes == "redundant"]
    lost = set[int]().union(*redundant)
    assert set(result.copies) == {one for one in staying if held[one] & lost}


@given(PACKS, st.sets(OBJECTS), st.randoms(use_true_random=False))
def test_which_packs_go_depends_on_the_packs_alone_and_a_second_look_finds_no_more(
    packs: list[PackRecords], needed: set[int], random: Any
) -> None:
    first = reclaimed(packs, needed)
    other = list(packs)
    random.shuffle(other)
    again = reclaimed(other, needed)
    assert {use.pack: use for use in again.uses} == {use.pack: use for use in first.uses}
    assert sorted(again.copies) == sorted(first.copies)
    going = {use.pack for use in first.going}
    assert not reclaimed([one for one in packs if one.pack not in going], needed).going


@given(delta_packs(), st.sets(OBJECTS))
def test_the_bases_of_what_is_needed_are_no_dead_bytes(one: PackRecords, needed: set[int]) -> None:
    wanted = {at for at, identity in enumerate(one.ids.tolist()) if identity in needed}
    held, waiting = set(wanted), list(wanted)
    while waiting:
        at = waiting.pop()
        columns = one.columns
        for name in () if columns is None else ("base_1", "base_2"):
            base = at - int(columns[name][at])
            if base not in held:
                held.add(base)
                waiting.append(base)
    use = reclaimed([one], needed).uses[0]
    assert use.stored == sum(int(one.stored[at]) for at in held)
    assert use.plain == sum(int(one.length[at]) for at in wanted)
    assert (use.goes == "dead") == (not wanted)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_packs_with_the_same_objects_the_dearer_goes(order: int) -> None:
    dear, cheap = pack(1, [(1, 90, 100), (2, 90, 100)]), pack(2, [(1, 30, 100), (2, 30, 100)])
    result = reclaimed([dear, cheap][::order], [1, 2])
    assert [(use.pack, use.goes) for use in result.going] == [(dear.pack, "redundant")]
    assert result.copies == (cheap.pack,)


def test_a_pack_is_not_its_own_copy() -> None:
    result = reclaimed([pack(1, [(7, 10, 10), (7, 10, 10)])], [7])
    assert not result.going


def test_what_has_become_needed_is_rescued() -> None:
    packs = {one.pack.id: one for one in (pack(1, [(5, 1, 1), (3, 1, 1)]), pack(2, [(4, 1, 1)]))}
    assert rescued(packs, column([3, 9])) == {bytes([1]) * 32}
    assert rescued(packs, column([9])) == set()
