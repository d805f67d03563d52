"""A drill says that a commit can be restored if and only if every byte of it can."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import casckpt
from casckpt.errors import RemoteNotFound, RemoteUnavailable, RemoteUntrusted, UsageError
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.remote import RemoteRef, SegmentRef, segment_key
from casckpt.format.remote_index import Segment
from casckpt.ops import remote_contents
from casckpt.ops.drill import DrillReport, drill
from casckpt.ops.reach import Reach
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.histories import training
from tests.support.remote_content import HandMade, Watched, failing_at
from tests.support.uploaded import uploaded

NOISE = np.random.default_rng(5)
LARGE = {"a": {"w": NOISE.bytes(70 << 20)}, "n": 1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "store") as made:
        yield made


def filled(store: casckpt.Store) -> list[str]:
    """Commits of two runs: small ones that ride in the journal, and large ones; files, a tag, metadata."""
    made = [store.commit(state, run="walk", step=step).id for step, state in enumerate(training(4))]
    for number in range(3):
        state = {"model": {"w": NOISE.bytes(3_000_000), "b": [NOISE.bytes(5000)] * 2}, "epoch": number}
        made.append(store.commit(state, run="big", step=number, config={"lr": 0.1}).id)
    store.tag("kept", made[4])
    return made


def tried(remote: HandMade, objects: Objects | None = None, **options: object) -> DrillReport:
    return drill(remote.objects if objects is None else objects, **options)  # type: ignore[arg-type]


def test_all_commits_of_a_whole_remote_come_back(store: casckpt.Store) -> None:
    made = filled(store)
    report = tried(uploaded(store), commits=None)
    assert report.ok
    assert {one.id for one in report.commits} == set(made)
    assert report.whole == len(made)
    assert report.nbytes > 9_000_000
    assert {(one.run, one.step) for one in report.commits} == {("walk", n) for n in range(4)} | {
        ("big", n) for n in range(3)
    }
    assert report.to_dict()["ok"] is True


def test_a_packed_store_comes_back_too(store: casckpt.Store) -> None:
    for step, state in enumerate(training(40, size=300_000)):
        store.commit(state, run="walk", step=step)
    store.repack()
    assert any(
        record.base_1
        for pack in store._repository.database.pack_set()
        for record in store._repository.database.packs.contents(pack.id).records
    )
    assert tried(uploaded(store), commits=None).ok


def test_a_seed_draws_the_same_commits_again(store: casckpt.Store) -> None:
    filled(store)
    remote = uploaded(store)
    first = tried(remote, commits=3)
    again = tried(remote, commits=3, seed=first.seed)
    assert [one.id for one in first.commits] == [one.id for one in again.commits]
    drawn = {one.id for seed in range(20) for one in tried(remote, commits=2, seed=seed).commits}
    assert len(drawn) == first.whole == 7
    assert len(tried(remote, commits=99).commits) == 7


def test_no_chunk_is_read_twice(store: casckpt.Store) -> None:
    for step in range(5):
        store.commit({"w": LARGE["a"]["w"][: 4 << 20], "step": step}, run="same", step=step)
    watched = Watched(uploaded(store).objects)
    report = tried(HandMade(), watched, commits=None)
    assert report.ok
    assert watched.down < 6 << 20


def test_a_large_commit_takes_few_requests_and_little_memory(store: casckpt.Store) -> None:
    store.commit(LARGE)
    remote = uploaded(store)
    watched = Watched(remote.objects)
    tracemalloc.start()
    try:
        report = tried(remote, watched, concurrency=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.ok
    assert report.nbytes > 70 << 20
    assert report.down == watched.down > 70 << 20
    assert report.requests == {"list": 1, "get": watched.count("get")}
    assert watched.count("get") <= 14
    assert peak < (32 + 64 + 32) << 20


def test_objects_for_which_there_is_no_room_are_read_one_by_one(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(LARGE)
    remote = uploaded(store)
    monkeypatch.setattr(remote_contents, "HELD_BYTES", 0)
    monkeypatch.setattr(remote_contents, "SEEN_MAX", 0)
    assert tried(remote).ok


def test_progress_ends_where_it_said_it_would(store: casckpt.Store) -> None:
    filled(store)
    heard: list[tuple[int, int]] = []
    tried(uploaded(store), commits=None, progress=lambda done, total: heard.append((done, total)))
    assert len({total for _, total in heard}) == 1
    assert heard[-1][0] == heard[-1][1]
    assert all(done <= total for done, total in heard)
    assert heard == sorted(heard)


def test_what_was_dropped_is_not_drawn_and_what_was_thinned_is_tried_without(store: casckpt.Store) -> None:
    made = filled(store)
    store.drop(made[0])
    store.drop(made[5], parts=["model"])
    store.gc(now=True)
    report = tried(uploaded(store), commits=None)
    assert report.ok
    assert {one.id for one in report.commits} == set(made[1:])


def objects_of(remote: HandMade, kind: Kind) -> list[tuple[str, int, bytes]]:
    """(key, offset of the stored bytes, id) of every object of a kind."""
    return [
        (segment.packs[row.pack].key, row.offset, row.id)
        for segment in remote.view().segments()
        for row in segment.rows()
        if row.kind == kind
    ]


def needs(store: casckpt.Store) -> dict[str, set[bytes]]:
    """The ids of all that each commit needs."""
    database = store._repository.database
    reach, found = Reach(database), dict[str, set[bytes]]()
    for identity, commit in database.commits():
        own = {identity, commit.tree, *([commit.config] if commit.config else [])}
        for _, component in reach.tree(identity, commit).components:
            joined = b"".join(reach.ids_of(identity, component))
            own.update(joined[at : at + 32] for at in range(0, len(joined), 32))
        found[identity.hex()] = own
    return found


@pytest.mark.parametrize("kind", list(Kind))
def test_one_flipped_bit_costs_exactly_the_commits_that_need_it(store: casckpt.Store, kind: Kind) -> None:
    filled(store)
    store.commit({"w": bytes(range(256)) * (66 << 12), "x": NOISE.bytes(400_000)}, run="paged")
    remote, wanted = uploaded(store), needs(store)
    places = objects_of(remote, kind)
    assert places
    for key, start, identity in places[:: max(1, len(places) // 4)]:

        def changed(asked: str, data: bytes, key: str = key, start: int = start) -> bytes:
            if asked != key or len(data) <= start:
                return data
            return data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]

        report = tried(remote, Whole(remote.objects, changed), commits=None)
        failed = {one.id for one in report.commits if one.problem is not None}
        hit = {commit for commit, ids in wanted.items() if identity in ids}
        assert not report.ok
        assert failed == hit
        assert all(one.problem and key in one.problem for one in report.commits if one.id in hit)


class Whole(Watched):
    """Changes objects as wholes, whichever part of them is asked for."""

    def __init__(self, inner: Objects, change: object) -> None:
        super().__init__(inner)
        self.change = change

    def get_ranges(self, key: str, ranges: object) -> list[bytes]:  # type: ignore[override]
        data = self.change(key, self.inner.get(key, limit=1 << 30))  # type: ignore[operator]
        return [data[start:stop] for start, stop in ranges]  # type: ignore[attr-defined]


def test_packs_that_are_gone_are_named(store: casckpt.Store) -> None:
    filled(store)
    wanted = needs(store)
    for number in range(len(list(uploaded(store).objects.list("packs/")))):
        remote = uploaded(store)
        key = [one.key for one in remote.objects.list("packs/")][number]
        held = {row.id for one in remote.view().segments() for row in one.rows() if one.packs[row.pack].key == key}
        remote.objects.delete([key])
        failed = [one for one in tried(remote, commits=None).commits if one.problem is not None]
        assert {one.id for one in failed} == {commit for commit, ids in wanted.items() if ids & held}
        assert all(key[9:21] in str(one.problem) for one in failed)
        assert {(one.objects, one.nbytes) for one in failed} == {(0, 0)}


def test_an_object_that_no_pack_holds_is_missed(store: casckpt.Store) -> None:
    store.commit({"w": NOISE.bytes(3_000_000)})
    whole = uploaded(store)
    (segment,) = whole.view().segments()
    chunk = next(segment.ids(Kind.CHUNK))
    rows = [row for row in segment.rows() if row.id != chunk]
    data = Segment.build(segment.packs, rows).encode()
    key = segment_key(data, bytes(4))
    whole.objects.create(key, data)
    assert whole.root is not None
    whole.append(SegmentRef(key, len(segment.packs), len(rows), len(data)))
    (commit,) = tried(whole).commits
    assert "does not hold" in str(commit.problem)


def test_a_ref_to_nothing_is_a_commit_that_cannot_be_restored(store: casckpt.Store) -> None:
    store.commit({"a": 1})
    remote = uploaded(store)
    assert remote.root is not None
    lost = CommitId(ObjectId(b"\x05" * 32))
    remote.append(*remote.root.segments, refs={**remote.root.refs, "tags/x": RemoteRef(lost, 1, "x")})
    report = tried(remote, commits=None)
    assert [one.problem for one in report.commits if one.id == lost.hex()] == ["a ref names it, and no pack holds it"]
    assert len([one for one in report.commits if one.problem is None]) == 1


def test_an_empty_remote_and_a_drill_of_nothing_are_refused() -> None:
    with pytest.raises(RemoteNotFound):
        drill(MemoryObjects())
    with pytest.raises(UsageError):
        drill(MemoryObjects(), commits=0)


def test_a_remote_that_cannot_be_reached_is_no_verdict(store: casckpt.Store) -> None:
    filled(store)
    remote = uploaded(store)
    watched = Watched(remote.objects)
    assert tried(remote, watched, commits=None, concurrency=1).ok
    for number in range(len(watched.requests)):
        with pytest.raises(RemoteUnavailable):
            tried(remote, Watched(remote.objects, failing_at(number)), commits=None, concurrency=1)


def test_a_root_that_lies_is_refused(store: casckpt.Store) -> None:
    filled(store)
    remote = uploaded(store)
    with pytest.raises(RemoteUntrusted):
        tried(remote, Watched(remote.objects, changed=lambda key, data: data[:-1] if "index/" in key else data))
