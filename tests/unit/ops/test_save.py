from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.format import chunking
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.format.pack import Record
from casckpt.odb import session
from casckpt.odb.coder import FINITE
from casckpt.ops import save
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.history import require_tree
from casckpt.ops.load import Loader
from casckpt.ops.resolve import resolve
from casckpt.state.flat import Blob, Cut, FlatComponent, FlatState

MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def noise(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8)


def records(store: casckpt.Store) -> list[list[Record]]:
    """The records of every pack, the smallest pack first."""
    database = store._repository.database
    return sorted((database.packs.records(pack) for pack in database.pack_set()), key=len)


def kinds(found: list[Record]) -> dict[Kind, int]:
    return {kind: sum(record.kind == kind for record in found) for kind in Kind}


def test_a_large_leaf_is_cut_from_its_own_start_and_lies_in_one_piece(store: casckpt.Store) -> None:
    state = {"a": {"first": noise(300_000), "large": noise(3 * MIB + 5, 1)}}
    store.commit(state)
    (found,) = records(store)
    data = state["a"]["large"].tobytes()
    wanted = [object_id(Kind.CHUNK, data[at : at + MIB]) for at in range(0, len(data), MIB)]
    chunks = [record for record in found if record.id in set(wanted)]
    assert [record.id for record in chunks] == wanted
    assert [record.offset - chunks[0].offset for record in chunks] == [0, MIB, 2 * MIB, 3 * MIB]


def test_small_leaves_are_joined_by_component_and_element_type(store: casckpt.Store) -> None:
    small = {"u8": noise(1000), "f4": np.ones(500, np.float32), "u8 too": noise(1000, 1)}
    store.commit({"a": dict(small), "b": {"x": noise(1000, 2)}, "bulk": noise(300_000, 3)})
    (found,) = records(store)
    lengths = sorted(record.length for record in found if record.kind == Kind.CHUNK)
    assert lengths == [1000, 2000, 2000, 300_000]


def test_tiny_leaves_are_no_chunks(store: casckpt.Store) -> None:
    store.commit({"a": {str(n): np.full(8, n) for n in range(50)}, "bulk": noise(300_000)})
    (found,) = records(store)
    assert kinds(found)[Kind.CHUNK] == 1


def test_a_leaf_of_many_chunks_lists_them_in_pages(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (chunking.INLINE_CHUNKS + 6) * MIB
    state = {"w": noise(size)}
    store.commit(state)
    (found,) = records(store)
    assert kinds(found)[Kind.PAGE] == 1
    assert next(record.length for record in found if record.kind == Kind.PAGE) == 32 * (chunking.INLINE_CHUNKS + 6)
    assert np.array_equal(store.checkout()["w"], state["w"])
    state["w"][-1] ^= 1
    added = store.commit(state).added
    assert added is not None and MIB < added < MIB + 8192


def test_memory_that_components_share_is_hashed_and_stored_once(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    claim_chunk = session.Session.claim_chunk

    def counting(self: Any, identity: ObjectId, length: int) -> Any:
        hashed.append(length)
        return claim_chunk(self, identity, length)

    monkeypatch.setattr(session.Session, "claim_chunk", counting)
    tied = noise(3 * MIB)
    store.commit({"model": {"w": tied}, "ema": {"w": tied}})
    assert hashed == [MIB] * 3
    found = store.checkout()
    found["model"]["w"][0] ^= 1
    assert found["ema"]["w"][0] == found["model"]["w"][0]


def test_a_component_that_adds_much_gets_its_own_pack(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OWN_PACK_BYTES", 2 * MIB)
    state = {"model": {"w": noise(2 * MIB)}, "optimizer": {"m": noise(3 * MIB, 1)}, "rest": {"x": noise(MIB, 2)}}
    store.commit(state)
    assert [kinds(found)[Kind.CHUNK] for found in records(store)] in ([2, 3, 1], [1, 2, 3], [2, 1, 3], [1, 3, 2])
    assert sum(len(found) for found in records(store)) == 6 + 2 * 4 + 1
    assert np.array_equal(store.checkout()["optimizer"]["m"], state["optimizer"]["m"])


def test_a_leaf_longer_than_a_pack_is_cut_at_multiples_of_one(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert save.PACK_BYTES == 1 << 30
    for module in ("casckpt.ops.save", "casckpt.format.pack"):
        monkeypatch.setattr(f"{module}.PACK_BYTES", 2 * MIB)
    state = {"before": noise(300_000, 1), "w": noise(7 * MIB, 2)}
    store.commit(state)
    place = {}
    for number, found in enumerate(records(store)):
        place.update({record.id: (number, record.offset) for record in found})
    data = state["w"].tobytes()
    places = [place[object_id(Kind.CHUNK, data[at : at + MIB])] for at in range(0, len(data), MIB)]
    packs = [number for number, _ in places]
    assert packs[0] == packs[1] != packs[2] == packs[3] != packs[4] == packs[5] != packs[6]
    assert all(places[n + 1][1] == places[n][1] + MIB for n in (0, 2, 4))
    assert np.array_equal(store.checkout()["w"], state["w"])


def test_equal_chunks_are_stored_once_wherever_they_are(store: casckpt.Store) -> None:
    page = noise(MIB)
    store.commit({"a": {"x": np.concatenate([page] * 4)}, "b": {"y": page.copy()}})
    (found,) = records(store)
    assert kinds(found)[Kind.CHUNK] == 1


def test_an_unchanged_state_adds_its_commit_only(store: casckpt.Store) -> None:
    state = {"model": {"w": noise(3 * MIB)}, "step": 1}
    first = store.commit(state)
    again = store.commit(state)
    assert again.tree == first.tree
    assert again.added is not None and again.added < 300
    assert len(records(store)) == 1


def test_the_structure_is_shared_by_all_steps_of_a_run(store: casckpt.Store) -> None:
    sizes = []
    for step in range(3):
        state = {"model": {f"layer{n}": np.full(20, step + n, np.float32) for n in range(300)}}
        sizes.append(store.commit(state, step=step).added)
    assert sizes[1] < sizes[0] - 1000
    assert sizes[2] == pytest.approx(sizes[1], rel=0.1)


# ---- blobs that say themselves where they are cut


class _Cut:
    """Bytes cut at given places; `zeros` of the chunks are said to be known, and are never read."""

    private = True

    def __init__(self, data: bytes, stops: list[int], zeros: tuple[int, ...] = (), element: str = "bytes") -> None:
        self.data, self.stops, self.zeros, self.element = data, stops, zeros, element
        self.read_at: list[int] = []

    def read(self, start: int, stop: int) -> memoryview:
        self.read_at.append(start)
        return memoryview(self.data)[start:stop]

    def cuts(self) -> Iterator[Cut]:
        for stop in self.stops:
            yield Cut(stop, self.element, stop == len(self.data), stop in self.zeros)


def put(store: casckpt.Store, *sources: _Cut, names: tuple[str, ...] = ("a", "b")) -> Any:
    """Commit sources as files of a folder; returns the loaded component and its loader."""
    blobs = tuple(
        Blob(f"out/{name}", "bytes", len(source.data), source, source.cuts)
        for name, source in zip(names, sources, strict=False)
    )
    node: Any = ["dict", list(names[: len(blobs)]), [["file", number, False] for number in range(len(blobs))]]
    root = FlatComponent("", ["dict", ["out"], [["part", 0]]], [], ())
    flat = FlatState(root, (FlatComponent("out", node, [], blobs),), ())
    commit_state(store._repository, flat, CommitOptions())
    database = store._repository.database
    identity = resolve(database, "main")
    loader = Loader(database, identity, require_tree(database, identity))
    return loader, loader.components(loader.tree())[1]


def test_a_blob_may_say_itself_where_it_is_cut(store: casckpt.Store) -> None:
    data = noise(2 * MIB).tobytes()
    stops = [100, 300_000, 300_001, 300_001 + MIB, len(data)]
    loader, loaded = put(store, _Cut(data, stops))
    assert loaded.structure.layouts == {0: {"cut": "content"}}
    assert loaded.component.counts == ((5, 5),)
    lengths = [stop - start for start, stop in pairwise([0, *stops])]
    assert loaded.component.spans == struct.pack("<5Q", *lengths)
    ids = [object_id(Kind.CHUNK, data[start:stop]) for start, stop in pairwise([0, *stops])]
    assert loaded.component.digests == b"".join(ids)
    assert bytes(loader.memory(loaded, 0)) == data
    assert b"".join(loader.pieces(loaded, 0)) == data


def test_a_blob_of_many_cuts_lists_them_in_pages_with_their_lengths(store: casckpt.Store) -> None:
    data = noise(chunking.PAGE_IDS * 200 + 70_000).tobytes()
    stops = [*range(200, chunking.PAGE_IDS * 200 + 1, 200), len(data)]
    loader, loaded = put(store, _Cut(data, stops))
    assert loaded.component.counts == ((chunking.PAGE_IDS + 1, 2),)
    assert loaded.component.spans == struct.pack("<2Q", chunking.PAGE_IDS * 200, 70_000)
    page = bytes(store._repository.database.read(loaded.entry(1), Kind.PAGE))
    assert page == object_id(Kind.CHUNK, data[-70_000:]) + struct.pack("<I", 70_000)
    assert bytes(loader.memory(loaded, 0)) == data


def test_64_cuts_are_listed_without_a_page(store: casckpt.Store) -> None:
    size = 64 * 5000
    for more, counts in ((0, (64, 64)), (1, (65, 1))):
        data = noise(size + more, more).tobytes()
        stops = [*range(5000, size + 1, 5000), *[len(data)] * more]
        loader, loaded = put(store, _Cut(data, stops))
        assert loaded.component.counts == (counts,)
        assert bytes(loader.memory(loaded, 0)) == data


def test_known_zeros_are_stored_once_and_never_read(store: casckpt.Store) -> None:
    first, last = noise(MIB + 77).tobytes(), noise(500, 1).tobytes()
    data = first + bytes(300 * MIB) + last
    zeros = (len(first) + 17 * MIB, len(first) + 300 * MIB)
    stops = [MIB, len(first), *zeros, len(data)]
    source = _Cut(data, stops, zeros)
    loader, loaded = put(store, source)
    assert source.read_at == [0, MIB, len(data) - 500]
    found = [record for pack in records(store) for record in pack]
    assert sum(record.length == MIB and record.id == object_id(Kind.CHUNK, bytes(MIB)) for record in found) == 1
    assert loaded.component.counts == ((303, 1),)
    assert b"".join(loader.pieces(loaded, 0)) == data


@pytest.mark.parametrize("megabytes", [1, 2, 64, 65])
def test_a_blob_of_known_zeros_alone_is_stored_as_one_chunk(store: casckpt.Store, megabytes: int) -> None:
    source = _Cut(bytes(megabytes * MIB), [megabytes * MIB], (megabytes * MIB,))
    for _ in range(2):
        loader, loaded = put(store, source, source)
        assert source.read_at == []
        assert bytes(loader.memory(loaded, 1)) == source.data
        added = store.show("main").added
        assert added is not None
        assert added < 4096


def test_the_plan_of_a_component_does_not_hold_where_its_blobs_are_cut(store: casckpt.Store) -> None:
    """Two files of one length have one structure, and cuts of their own."""
    one, other = noise(MIB).tobytes(), noise(MIB, 1).tobytes()
    _, first = put(store, _Cut(one, [10, MIB]))
    loader, second = put(store, _Cut(other, [400_000, 900_000, MIB]))
    assert first.component.structure == second.component.structure
    assert second.component.counts == ((3, 3),)
    assert bytes(loader.memory(second, 0)) == other


def test_a_file_and_a_live_state_of_one_look_have_structures_of_their_own(store: casckpt.Store) -> None:
    schemas = [
        FlatComponent("", ["bytes", 0], [], (Blob("", "bytes", MIB, source, cuts),)).schema
        for source in [_Cut(bytes(MIB), [MIB])]
        for cuts in (None, source.cuts)
    ]
    assert [schema.cut for schema in schemas] == [(), (0,)]


def test_blobs_with_cuts_may_stand_among_others(store: casckpt.Store) -> None:
    sources = [_Cut(noise(MIB, seed).tobytes(), [seed * 1000, MIB]) for seed in (1, 2)]
    plain = noise(3 * MIB, 9).tobytes()
    fixed, small = _Cut(plain, []), _Cut(plain[:5000], [])
    blobs = (
        Blob("out/a", "bytes", MIB, sources[0], sources[0].cuts),
        Blob("out/b", "bytes", len(plain), fixed),
        Blob("out/c", "bytes", 5000, small),
        Blob("out/d", "bytes", MIB, sources[1], sources[1].cuts),
    )
    node: Any = ["dict", list("abcd"), [["file", number, False] for number in range(4)]]
    flat = FlatState(
        FlatComponent("", ["dict", ["out"], [["part", 0]]], [], ()), (FlatComponent("out", node, [], blobs),), ()
    )
    commit_state(store._repository, flat, CommitOptions())
    database = store._repository.database
    identity = resolve(database, "main")
    loader = Loader(database, identity, require_tree(database, identity))
    loaded = loader.components(loader.tree())[1]
    assert [bytes(loader.memory(loaded, number)) for number in range(4)] == [
        sources[0].data,
        plain,
        plain[:5000],
        sources[1].data,
    ]
    assert loaded.structure.layouts.keys() == {0, 3}


def test_the_element_type_of_a_cut_goes_into_its_record(store: casckpt.Store) -> None:
    data = np.random.default_rng(0).standard_normal(MIB // 4, np.float32).tobytes()
    put(store, _Cut(data, [MIB], element="float32"))
    (record,) = [record for pack in records(store) for record in pack if record.kind == Kind.CHUNK]
    assert record.element == element_code("float32")
    assert record.flags == FINITE


def test_a_long_blob_with_cuts_is_spread_over_packs(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("casckpt.ops.save", "casckpt.format.pack"):
        monkeypatch.setattr(f"{module}.PACK_BYTES", 2 * MIB)
    data = noise(7 * MIB).tobytes()
    loader, loaded = put(store, _Cut(data, [*range(700_000, len(data), 700_000), len(data)]))
    assert len(records(store)) >= 3
    assert bytes(loader.memory(loaded, 0)) == data


def test_progress_counts_what_was_not_read_too(store: casckpt.Store) -> None:
    data = bytes(20 * MIB)
    stops = [MIB, 20 * MIB]
    source = _Cut(data, stops, tuple(stops))
    seen: list[tuple[int, int]] = []
    blob = Blob("a", "bytes", len(data), source, source.cuts)
    flat = FlatState(FlatComponent("", ["dict", ["a"], [["file", 0, False]]], [], (blob,)), (), ())
    commit_state(store._repository, flat, CommitOptions(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(data), len(data))


def test_a_live_leaf_with_cuts_of_its_own_is_read_in_every_way(tmp_path: Path) -> None:
    """This release writes none, but another may."""
    array = np.random.default_rng(0).standard_normal((3000, 700), np.float32)
    data = array.tobytes()
    stops = [4096, 1_000_000, 1_000_001, *range(1_100_000, len(data), 90_000), len(data)]
    source = _Cut(data, stops, element="float32")
    node: Any = ["dict", ["w"], [["array", "<f4", [3000, 700], "C", 0, 0]]]
    blob = Blob("w", "float32", len(data), source, source.cuts)
    with casckpt.init(tmp_path / "store") as store:
        commit_state(store._repository, FlatState(FlatComponent("", node, [], (blob,)), (), ()), CommitOptions())
        assert np.array_equal(store.checkout()["w"], array)
        assert np.array_equal(store.checkout(mmap=True)["w"], array)
        live = {"w": np.zeros_like(array)}
        store.checkout(into=live)
        assert np.array_equal(live["w"], array)
        stored = store.tree()["w"]
        assert np.array_equal(stored[1234:1300], array[1234:1300])
        assert np.array_equal(stored.read(), array)
        store.commit({"w": array})
        assert store.fsck("full").ok
