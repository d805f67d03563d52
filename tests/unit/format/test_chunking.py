"""How bytes are cut: the limits of tiny, small and large, and the rule of groups."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format import chunking
from casckpt.format.chunking import CHUNK, SMALL, group_blobs
from casckpt.format.ids import path_hash

SIZES = st.lists(st.integers(1, SMALL + 1000) | st.sampled_from([64, 65, SMALL - 1, SMALL]), max_size=40)


def paths_of(count: int) -> list[str]:
    return [f"model/layer{number:03}/weight" for number in range(count)]


@pytest.mark.parametrize(
    ("nbytes", "tiny", "small"),
    [(1, True, False), (64, True, False), (65, False, True), (SMALL - 1, False, True), (SMALL, False, False)],
)
def test_a_blob_is_tiny_small_or_large(nbytes: int, tiny: bool, small: bool) -> None:
    assert (chunking.is_tiny(nbytes), chunking.is_small(nbytes)) == (tiny, small)


@pytest.mark.parametrize(
    ("nbytes", "chunks", "last", "entries"),
    [
        (SMALL, 1, SMALL, 1),
        (CHUNK, 1, CHUNK, 1),
        (CHUNK + 1, 2, 1, 2),
        (64 * CHUNK, 64, CHUNK, 64),
        (64 * CHUNK + 1, 65, 1, 1),
        (2048 * CHUNK, 2048, CHUNK, 1),
        (2048 * CHUNK + 9, 2049, 9, 2),
    ],
)
def test_a_large_blob_is_chunks_or_pages_of_them(nbytes: int, chunks: int, last: int, entries: int) -> None:
    assert chunking.chunk_count(nbytes) == chunks
    assert chunking.chunk_length(nbytes, chunks - 1) == last
    assert sum(chunking.chunk_length(nbytes, number) for number in range(chunks)) == nbytes
    assert chunking.entry_count(nbytes) == entries


def ends(nbytes: int, path: str) -> bool:
    """The rule of the format in fractions: hash < s * 2^64 / 524 288."""
    return path_hash(path) / 2**64 < nbytes / 524_288


@settings(max_examples=100)
@given(SIZES, st.data())
def test_groups_hold_every_small_blob_once_and_end_by_the_rule(sizes: list[int], data: st.DataObject) -> None:
    elements = data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    paths = paths_of(len(sizes))
    groups = group_blobs(sizes, elements, paths)
    members = [blob for group in groups for blob in group]
    assert sorted(members) == [blob for blob, size in enumerate(sizes) if chunking.is_small(size)]
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    for group in groups:
        assert group == sorted(group)
        assert sum(sizes[blob] for blob in group) <= CHUNK
        assert len({elements[blob] for blob in group}) == 1
        assert not any(ends(sizes[blob], paths[blob]) for blob in group[:-1])
    for element in set(elements):
        same = [group for group in groups if elements[group[0]] == element]
        for group, following in pairwise(same):
            full = sum(sizes[blob] for blob in group) + sizes[following[0]] > CHUNK
            assert full or ends(sizes[group[-1]], paths[group[-1]])


@settings(max_examples=60)
@given(st.lists(st.integers(20_000, 200_000), min_size=60, max_size=60), st.integers(0, 60), st.integers(65, 200_000))
def test_an_insertion_moves_few_groups(sizes: list[int], at: int, nbytes: int) -> None:
    paths = paths_of(60)

    def named(sizes: list[int], paths: list[str]) -> set[tuple[str, ...]]:
        return {tuple(paths[blob] for blob in group) for group in group_blobs(sizes, [0] * len(sizes), paths)}

    before = named(sizes, paths)
    after = named([*sizes[:at], nbytes, *sizes[at:]], [*paths[:at], "model/layer!", *paths[at:]])
    assert len(before - after) <= 6


def test_groups_of_many_small_blobs_average_about_420_kib() -> None:
    count = 20_000
    groups = group_blobs([2000] * count, [0] * count, [f"p/{number:05}" for number in range(count)])
    assert 380 << 10 < 2000 * count / len(groups) < 520 << 10


def test_columns_of_other_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError):
        group_blobs([100, 100], [0], ["a", "b"])


@given(SIZES)
def test_a_division_holds_every_blob_once(sizes: list[int]) -> None:
    codes = [number % 2 for number in range(len(sizes))]
    found = chunking.divide(sizes, codes, paths_of(len(sizes)))
    assert [list(group) for group in found.groups] == group_blobs(sizes, codes, paths_of(len(sizes)))
    assert all(chunking.is_tiny(sizes[number]) for number in found.tiny)
    assert not any(chunking.is_tiny(sizes[number]) or chunking.is_small(sizes[number]) for number in found.large)
    grouped = [number for group in found.groups for number in group]
    assert sorted([*found.tiny, *grouped, *found.large]) == list(range(len(sizes)))
    assert list(found.tiny) == sorted(found.tiny) and list(found.large) == sorted(found.large)
