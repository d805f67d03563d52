"""Catalogs and tallies against sets of records, with bases, copies and ids that nobody has."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import RECORD
from casckpt.plan.reclaim import STAYS, Holder, reached
from casckpt.plan.usage import NOBODY, Catalog, Contents, by_codec, freed_by, going, needed_bytes, tally

Row = tuple[int, int, int, int]
"""Id, stored bytes, and how far back its bases are."""


def contents(number: int, rows: list[Row]) -> Contents:
    columns: Any = np.zeros(len(rows), RECORD)
    for at, (identity, stored, back_1, back_2) in enumerate(rows):
        base_1 = min(back_1, at)
        base_2 = min(back_2, at) if base_1 else 0
        cost = 1 + max((int(columns[at - back]["cost"]) for back in (base_1, base_2) if back), default=0)
        columns[at] = (identity, 0, 2 * stored, stored, base_1, base_2, 0, 4 if base_1 else 0, 12, 0, cost)
    return Contents.of(PackRef(PackId(bytes([number]) * 32), 1000 + number), columns, {})


FILES = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 50), st.integers(0, 3), st.integers(0, 3)), max_size=8),
    max_size=4,
)
UNITS = st.lists(st.lists(st.integers(0, 15), max_size=40), max_size=6)


def of(files: list[list[Row]]) -> list[Contents]:
    return [contents(number, rows) for number, rows in enumerate(files)]


class Oracle:
    """Records as (file, number), by sets."""

    def __init__(self, files: list[Contents]) -> None:
        self.size: dict[tuple[int, int], int] = {}
        self.bases: dict[tuple[int, int], list[tuple[int, int]]] = {}
        best: dict[int, tuple[int, int, tuple[int, int]]] = {}
        for number, file in enumerate(files):
            pack, columns = file.records, file.records.columns
            for at, (identity, stored) in enumerate(zip(pack.ids.tolist(), pack.stored.tolist(), strict=True)):
                place = number, at
                self.size[place] = stored
                distances = [] if columns is None else [int(columns[name][at]) for name in ("base_1", "base_2")]
                self.bases[place] = [(number, at - distance) for distance in distances if distance]
                choice = stored, -pack.pack.nbytes, place
                best[identity] = min(choice, best.get(identity, choice))
        self.record = {identity: choice[2] for identity, choice in best.items()}

    def reach(self, ids: list[int]) -> set[tuple[int, int]]:
        front = [self.record[identity] for identity in ids if identity in self.record]
        found: set[tuple[int, int]] = set()
        while front:
            place = front.pop()
            if place not in found:
                found.add(place)
                front += self.bases[place]
        return found

    def nbytes(self, places: set[tuple[int, int]]) -> int:
        return sum(self.size[place] for place in places)


def prefixes(ids: list[int]) -> Any:
    return np.array(ids, np.uint64)


@settings(max_examples=300, deadline=None)
@given(FILES, UNITS, st.lists(st.lists(st.integers(0, 5), max_size=4, unique=True), max_size=4))
def test_a_tally_is_that_of_sets(files: list[list[Row]], units: list[list[int]], groups: list[list[int]]) -> None:
    found_files = of(files)
    catalog, oracle = Catalog(found_files), Oracle(found_files)
    placed = catalog.place([prefixes(unit) for unit in units])
    groups = [[unit for unit in group if unit < len(units)] for group in groups]
    found = tally(catalog, ([placed[unit] for unit in group] for group in groups))
    sets = [oracle.reach([one for unit in group for one in units[unit]]) for group in groups]
    assert found.reached == tuple(map(oracle.nbytes, sets))
    others = [set().union(*(one for at, one in enumerate(sets) if at != own)) for own in range(len(sets))]
    assert found.unique == tuple(oracle.nbytes(own - rest) for own, rest in zip(sets, others, strict=True))
    assert sum(found.unique) + found.shared == oracle.nbytes(set().union(*sets))
    assert catalog.nbytes(found.owner != NOBODY) == oracle.nbytes(set().union(*sets))
    assert sum(one.stored for one in by_codec(catalog, found.owner != NOBODY)) == oracle.nbytes(set().union(*sets))
    every = sorted({one for unit in units for one in unit})
    assert needed_bytes(catalog, prefixes(every)) == oracle.nbytes(oracle.reach(every))
    assert catalog.has_copies == (len(oracle.record) < len(oracle.size))


@settings(max_examples=300, deadline=None)
@given(FILES, st.lists(st.tuples(st.lists(st.integers(0, 15), max_size=6), st.integers(0, 3)), max_size=5))
def test_what_ranks_free_is_what_sets_lose(files: list[list[Row]], holders: list[tuple[list[int], int]]) -> None:
    found_files = of(files)
    catalog, oracle = Catalog(found_files), Oracle(found_files)
    # Rank 3 stands for those that stay.
    ranked = [Holder(prefixes(ids), *(2 * [STAYS if rank == 3 else rank])) for ids, rank in holders]
    freed = freed_by(catalog, reached(ranked), 3)

    def left(gone: set[int]) -> set[tuple[int, int]]:
        return oracle.reach([one for ids, rank in holders if rank not in gone for one in ids])

    for rank, one in enumerate(freed):
        before = set(range(rank))
        assert one.alone == oracle.nbytes(left(set()) - left({rank}))
        assert one.together == oracle.nbytes(left(before) - left(before | {rank}))


def test_units_that_repeat_one_another_are_placed_alike() -> None:
    catalog = Catalog([contents(0, [(number, 1, 0, 0) for number in range(200)])])
    first = list(range(100))
    units = [first, first, [*first[:50], 150, 151, *first[52:]], [7] * 100, [*first[:99], 999], first]
    placed = catalog.place([prefixes(unit) for unit in units])
    assert [one.tolist() for one in placed] == [[at for at in unit if at != 999] for unit in units]


def test_the_shortest_record_is_read_and_of_equal_ones_that_in_the_largest_file() -> None:
    catalog = Catalog(of([[(1, 20, 0, 0), (2, 9, 0, 0)], [(1, 30, 0, 0)], [(1, 20, 0, 0), (2, 10, 0, 0)]]))
    assert catalog.find(prefixes([1, 2, 3])).tolist() == [3, 1, -1]


def test_packs_that_nothing_needs_or_others_hold_go() -> None:
    files = of([[(1, 20, 0, 0)], [(2, 20, 0, 0)], [(2, 20, 0, 0), (3, 5, 0, 0)]])
    assert going(files, prefixes([2, 3])) == {files[0].records.pack.id, files[1].records.pack.id}


def test_nothing_is_a_store_too() -> None:
    catalog = Catalog([])
    assert catalog.place([]) == []
    assert tally(catalog, [[], []]).unique == (0, 0)
    assert freed_by(catalog, reached([]), 0) == []
