"""What of a remote stays: against a count over plain dicts; and segments that are merged list what those before did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.codec import Codec
from casckpt.format.ids import Kind, ObjectId, PackId, object_id
from casckpt.format.pack import BLOCK
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.format.remote_index import Row, Segment, SegmentPack
from casckpt.plan import remote_gc
from casckpt.plan.remote_gc import Listing, Uses

NAMES = "abcdefgh"
PACKS = 6
SIZE = 50 * BLOCK


def identity(name: str) -> ObjectId:
    return object_id(Kind.CHUNK, name.encode())


def pack(number: int, nbytes: int = SIZE) -> SegmentPack:
    return SegmentPack(PackId(bytes([number]) * 32), bytes(4), nbytes)


def segment(places: dict[str, int], *, stored: int = 1000, nbytes: int = SIZE, codec: Codec = Codec.RAW) -> Segment:
    """A segment that says of each object, by its name, in which pack it lies."""
    packs = sorted(set(places.values()))
    rows = [
        Row(identity(name), packs.index(number), BLOCK, stored, stored, Kind.CHUNK, codec, 3, 1)
        for name, number in places.items()
    ]
    return Segment.build([pack(number, nbytes) for number in packs], rows)


def ids(names: str) -> Ids:
    return np.unique(prefixes(b"".join(map(identity, names))))


def uses(needed: str, *segments: Segment, **more: object) -> Uses:
    return Uses(Listing(segments), ids(needed), **more)  # type: ignore[arg-type]


def numbers(packs: Sequence[SegmentPack]) -> list[int]:
    return sorted(one.id[0] for one in packs)


def listed(segments: Sequence[Segment]) -> set[tuple[ObjectId, SegmentPack]]:
    return {(row.id, one.packs[row.pack]) for one in segments for row in one.rows()}


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(0, PACKS - 1), min_size=1), max_size=5),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.integers(0, PACKS - 1), max_size=2),
    st.data(),
)
def test_every_needed_object_stays_once_and_packs_without_any_go(
    places: list[dict[str, int]], needed: set[str], gone: set[int], data: st.DataObject
) -> None:
    segments = [segment(one) for one in places]
    found = uses("".join(sorted(needed)), *segments, gone={pack(number).key for number in gone})
    holders = {name: {one[name] for one in places if name in one} - gone for name in needed}
    kept = set(numbers([use.pack for use in found.packs if not use.is_dead]))
    assert all(kept & of for of in holders.values() if of)
    assert not kept & gone
    assert set(found.missing.tolist()) == set(ids("".join(name for name in needed if not holders[name])).tolist())
    assert sum(use.needed for use in found.packs) == sum(1 for of in holders.values() if of)
    # Whatever is merged: packs that stay are listed with all that is needed of them, and none that goes is.
    keep = [data.draw(st.booleans()) for _ in segments]
    staying, merged = found.merged(keep)
    assert all(keep[number] for number in staying)
    after = [*(segments[number] for number in staying), *map(remade, merged)]
    live = listed(after)
    assert set(numbers([one for one, _ in zip(found.listing.packs, found.packs, strict=True)])) >= kept
    assert {one.id[0] for _, one in live} >= kept
    assert {one.id[0] for _, one in live}.isdisjoint(numbers(found.dead))
    assert live <= listed(segments)
    assert {identity(name) for name, of in holders.items() if of} <= {one for one, _ in live}


def remade(one: Segment) -> Segment:
    """A segment as whoever fetches it reads it, every rule of the format checked."""
    return Segment.decode(one.encode())


def test_of_several_copies_that_of_the_pack_most_needed_stays() -> None:
    found = uses("abc", segment({"a": 0, "b": 0}), segment({"b": 1, "c": 1, "a": 1}))
    assert numbers(found.dead) == [0]


def test_what_was_just_written_stays_rather_than_what_it_replaces() -> None:
    found = uses("a", segment({"a": 0}), segment({"a": 1}), preferred={pack(1)})
    assert numbers(found.dead) == [0]


def test_packs_of_which_little_is_needed_are_worth_rewriting_and_new_ones_are_not() -> None:
    full = {f"{number}": 0 for number in range(190)}
    assert uses(NAMES, segment({"a": 0})).worth_rewriting()
    assert not uses(NAMES, segment({"a": 0})).worth_rewriting({pack(0)})
    needed = Uses(Listing([segment(full)]), np.unique(prefixes(b"".join(map(identity, full)))))
    assert not needed.worth_rewriting()


def test_a_pack_that_would_grow_as_it_lost_its_bases_stays() -> None:
    plain = SIZE - 5 * BLOCK
    row = Row(identity("a"), 0, BLOCK, 100, plain, Kind.CHUNK, Codec.DELTA_PLANES, 3)
    assert not uses("a", Segment.build([pack(0)], [row])).worth_rewriting()
    assert uses("a", Segment.build([pack(0)], [row._replace(codec=Codec.ZSTD)])).worth_rewriting()


def test_a_tiny_pack_is_not_written_again_for_its_frame() -> None:
    assert not uses("a", segment({"a": 0}, stored=100, nbytes=4 * BLOCK)).worth_rewriting()


def test_small_packs_are_joined_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_gc, "SMALL_PACKS", 4)
    segments = [segment({name: number}, stored=40 * BLOCK) for number, name in enumerate("abcd")]
    assert numbers([use.pack for use in uses("abcd", *segments).worth_rewriting()]) == [0, 1, 2, 3]
    assert not uses("abc", *segments[:3]).worth_rewriting()


def test_what_is_written_again_comes_pack_by_pack_and_metadata_first() -> None:
    rows = [
        Row(identity("c"), 0, 3 * BLOCK, 100, 100, Kind.CHUNK),
        Row(identity("b"), 0, 2 * BLOCK, 100, 100, Kind.CHUNK),
        Row(identity("a"), 1, BLOCK, 100, 100, Kind.CHUNK),
        Row(identity("tree"), 1, 4 * BLOCK, 100, 100, Kind.TREE),
        Row(identity("dead"), 1, 5 * BLOCK, 100, 100, Kind.CHUNK),
    ]
    found = Uses(Listing([Segment.build([pack(0), pack(1)], rows)]), _all("a", "b", "c", "tree"))
    assert found.of({pack(0), pack(1)}) == [identity("tree"), identity("b"), identity("c"), identity("a")]


def _all(*names: str) -> Ids:
    return np.unique(prefixes(b"".join(map(identity, names))))


def test_segments_stay_few_and_large_ones_are_left_alone() -> None:
    """After any number of pushes with a collection after each."""
    segments: list[Segment] = []
    rows = 0
    for number in range(300):
        names = [f"{number} {place}" for place in range(number % 7 + 1)]
        segments.append(segment(dict.fromkeys(names, number % 250)))
        rows += len(names)
        found = Uses(Listing(segments), np.empty(0, np.uint64))
        found.packs = tuple(use._replace(needed=1) for use in found.packs)
        staying, merged = found.merged([True] * len(segments))
        segments = [*(segments[at] for at in staying), *merged]
        assert len(segments) <= remote_gc.SEGMENTS
        assert sum(map(len, segments)) == rows


def test_a_segment_has_no_more_rows_than_a_client_should_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_gc, "SEGMENT_ROWS", 3)
    found = uses(NAMES, segment(dict.fromkeys(NAMES, 0)), segment({"z": 1}))
    staying, merged = found.merged([False, True])
    assert staying == ()
    assert [len(remade(one)) for one in merged] == [3, 3, 2]


def test_stored_bytes_are_those_of_the_listed() -> None:
    found = Listing([segment({"a": 0}, stored=100), segment({"b": 1}, stored=200)])
    wanted = ids("abc")
    by_id = dict(zip(wanted.tolist(), found.stored(wanted).tolist(), strict=True))
    assert [by_id[ids(name)[0]] for name in "abc"] == [100, 200, 0]
