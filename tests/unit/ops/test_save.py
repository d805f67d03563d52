from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.format import chunking
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.format.pack import Record
from casckpt.odb import session
from casckpt.ops import save

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

    def counting(self: Any, identity: ObjectId, length: int) -> bool:
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
