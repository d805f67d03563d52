"""Sets of ids as columns, against Python's sets and lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.pack_columns import Ids
from casckpt.plan import id_sets
from casckpt.plan.id_sets import Places, among, batches, blocks, nearly_ordered, union

FULL = (1 << 64) - 1
SPREAD = st.integers(0, FULL)
CROWDED = st.one_of(SPREAD, st.integers(0, 200), st.integers(FULL - 100, FULL), st.integers(1 << 63, (1 << 63) + 50))
"""Ids that somebody made up share their leading bits."""


def column(ids: list[int]) -> Ids:
    return np.array(ids, np.uint64)


@given(st.lists(st.lists(CROWDED, max_size=40), max_size=6))
def test_a_union_has_every_id_once_and_ascends(parts: list[list[int]]) -> None:
    assert union([column(part) for part in parts]).tolist() == sorted({one for part in parts for one in part})


@given(st.sets(CROWDED, max_size=300), st.lists(CROWDED, max_size=100))
def test_every_id_is_found_where_it_is(held: set[int], others: list[int]) -> None:
    ascending = sorted(held)
    asked = [*ascending, *others]
    found = Places(column(ascending)).find(column(asked))
    assert found.tolist() == [ascending.index(one) if one in held else len(held) for one in asked]
    assert among(column(asked), column(ascending)).tolist() == [one in held for one in asked]


@given(st.lists(CROWDED, max_size=300))
def test_ids_are_in_order_but_for_those_that_share_their_leading_bits(ids: list[int]) -> None:
    order, crowded = nearly_ordered(column(ids))
    assert sorted(order.tolist()) == list(range(len(ids)))
    found = [ids[at] for at in order.tolist()]
    at = np.flatnonzero(crowded).tolist()
    for place, one in zip(at, sorted(found[place] for place in at), strict=True):
        found[place] = one
    assert found == sorted(ids)


def test_few_ids_share_their_leading_bits() -> None:
    ids = np.random.default_rng(0).integers(0, FULL, 10_000, np.uint64)
    order, crowded = nearly_ordered(ids)
    assert not crowded.any()
    assert np.array_equal(order, np.argsort(ids))


def test_a_long_column_is_looked_at_in_blocks() -> None:
    random = np.random.default_rng(0)
    ids = union([random.integers(0, FULL, 3 * id_sets._BLOCK // 2, np.uint64)])
    order = random.permutation(len(ids))
    assert np.array_equal(Places(ids).find(ids[order]), order)
    assert (Places(ids[::2]).find(ids[1::2]) == len(ids[::2])).all()


@given(st.lists(st.sampled_from((0, 1, 1000, id_sets._BLOCK // 2, 2 * id_sets._BLOCK)), max_size=20))
def test_batches_and_blocks_miss_nothing(counts: list[int]) -> None:
    found = list(batches(counts))
    assert [number for first, end in found for number in range(first, end)] == list(range(len(counts)))
    assert all(sum(counts[first : end - 1]) < id_sets._BLOCK for first, end in found)
    total = sum(counts)
    assert sum(block.stop - block.start for block in blocks(total)) == total
