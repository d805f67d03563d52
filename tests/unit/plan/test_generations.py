"""Of packs that hold the same, what was written anew stays, however dear it is."""

from __future__ import annotations

import numpy as np
import pytest

from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.plan.reclaim import MOST, Located, PackRecords, reclaim


def pack(name: str, ids: str, nbytes: int, generation: int = 0) -> PackRecords:
    """A pack of objects, a letter each, of 100 plain bytes."""
    numbers = np.array([ord(letter) for letter in ids], np.uint64)
    lengths = np.full(len(ids), 100, np.uint32)
    return PackRecords(PackRef(PackId(name.ljust(32).encode()), nbytes), numbers, lengths, lengths, None, generation)


def going(*packs: PackRecords, needed: str = "abcdef") -> set[str]:
    located = Located(packs, np.array(sorted(map(ord, needed)), np.uint64))
    found = reclaim(located, np.ones(len(needed), np.bool_)).going
    return {use.pack.id.decode().strip() for use in found}


def test_what_replaces_others_together_stays_though_a_part_of_it_is_dear() -> None:
    old = [pack("old 1", "ad", 160), pack("old 2", "be", 160), pack("old 3", "cf", 160)]
    new = [pack("new dear", "abc", 280, 1), pack("new cheap", "def", 100, 1)]
    assert going(*old, *new) == {"old 1", "old 2", "old 3"}


def test_what_was_begun_stays_until_it_is_finished() -> None:
    assert going(pack("old 1", "abc", 300), pack("old 2", "def", 300), pack("new", "ad", 190, 1)) == set()


def test_the_newest_of_several_generations_stays() -> None:
    packs = [pack(f"generation {number}", "abc", 100 + number, number) for number in range(4)]
    assert going(*packs, needed="abc") == {f"generation {number}" for number in range(3)}


def test_of_one_generation_the_cheapest_stays() -> None:
    assert going(pack("dear", "abc", 300, 1), pack("cheap", "abc", 200, 1), needed="abc") == {"dear"}


def test_a_new_pack_goes_when_newer_ones_hold_all_of_it() -> None:
    packs = [pack("one", "abcd", 100, 1), pack("left", "ab", 200, 2), pack("right", "cd", 200, 2)]
    assert going(*packs, needed="abcd") == {"one"}


@pytest.mark.parametrize("hint", [-1, MOST + 1, "1", None, 1.5, True])
def test_a_hint_that_is_no_small_number_counts_as_none(hint: object) -> None:
    from casckpt.format.pack_columns import RECORD

    found = PackRecords.of(PackRef(PackId(bytes(32)), 100), np.zeros(1, RECORD), {"generation": hint, "repack": hint})
    assert (found.generation, found.repacked) == (0, 0)
