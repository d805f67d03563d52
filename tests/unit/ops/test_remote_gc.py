"""Collection of a remote: what its refs need stays, everything else goes in its time, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import InvalidSetting, NotOnRemote
from casckpt.format.ids import ObjectId
from casckpt.format.remote import RemoteRoot, root_key
from casckpt.odb.repository import Repository, initialize
from casckpt.ops import remote_removing
from casckpt.ops.push import push
from casckpt.ops.reach import Reach
from casckpt.ops.remote_gc import Waits, remote_gc
from casckpt.ops.remote_gc_reports import RemoteGcReport
from casckpt.plan import remote_gc as plans
from casckpt.plan.policy import Retention
from casckpt.remote import roots
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.reading import RemoteReader
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.view import RemoteView
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Objects, Outcome
from tests.support.build import noise
from tests.support.remotes import Counting, Crash, Crashing, Wrapping

SIZE = 270_000
"""Bytes of a leaf: too many for a frame, and for a group with its neighbours."""
HOUR = 3600.0
LAST_OF_MANY = Retention(keep_last=1)


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "_FIRST_PAUSE_S", 0)


class Bucket(MemoryObjects):
    """A remote with a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1e9

    def create(self, key: str, data: Buffer) -> Outcome:
        outcome = super().create(key, data)
        if outcome is Outcome.CREATED:
            self._objects[key] = self._objects[key][0], int(self.now_s * 1e9)
        return outcome

    def keys(self, prefix: str) -> set[str]:
        return {listed.key for listed in self.list(prefix)}


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def store(bucket: Bucket) -> Iterator[casckpt.Store]:
    """Three commits of one run, each with a leaf of its own and one shared, pushed one after another."""
    with made_store() as made:
        for step in range(3):
            state = {f"own {step}": noise(f"own {step}", 2 * SIZE), "shared": noise("shared", SIZE)}
            made.commit(state, run="gpt", step=step, metrics={"loss": step})
            send(made, bucket)
        yield made


def made_store() -> casckpt.Store:
    disk = MemoryStorage()
    initialize(disk, time_ns=1, by="test")
    return casckpt.Store(Repository(disk))


def send(store: casckpt.Store, objects: Objects) -> None:
    push(store._repository, objects, "origin", everything=True, mirror=True)


def ids_of(store: casckpt.Store) -> list[str]:
    """The commits of the run, the newest first."""
    return [one.id for one in store.log("gpt")]


def view_of(objects: Objects, store: casckpt.Store | None = None) -> RemoteView:
    view = RemoteView(objects, None if store is None else RemoteFolder(store._repository.storage, "origin"))
    view.refresh()
    return view


def collect(
    objects: Objects, *, store: casckpt.Store | None = None, policy: Retention | None = None, **options: object
) -> RemoteGcReport:
    """A collection by somebody who has nothing of what the remote holds, or by a store."""
    with made_store() as other:
        database = (store or other)._repository.database
        return remote_gc(database, view_of(objects), policy, **options)  # type: ignore[arg-type]


def head(objects: Objects) -> RemoteRoot:
    root = view_of(objects).root
    assert root is not None
    return root


def live_packs(objects: Objects) -> set[str]:
    return {pack.key for segment in view_of(objects).segments() for pack in segment.packs}


def needed_ids(store: casckpt.Store, *, dropped: frozenset[str] = frozenset()) -> set[ObjectId]:
    """All objects of the commits of a store, but for the states of some."""
    database = store._repository.database
    database.refresh()
    reach, found = Reach(database), set[bytes]()
    for identity, commit in database.commits():
        found |= {identity, *(one for one in (commit.config, commit.environment, commit.code, commit.data) if one)}
        if identity.hex() not in dropped:
            found.add(commit.tree)
            for _, component in reach.tree(identity, commit).components:
                joined = b"".join(reach.ids_of(identity, component))
                found |= {joined[at : at + 32] for at in range(0, len(joined), 32)}
    return {ObjectId(one) for one in found}


def assert_whole(objects: Objects, ids: set[ObjectId]) -> None:
    """Every object is listed, and reads as what it is."""
    assert {one.record.id for one in RemoteReader(view_of(objects)).read(ids)} == ids


def remove_ref(objects: Objects, name: str) -> None:
    def change(root: RemoteRoot) -> RemoteRoot:
        return replace(root, refs={one: ref for one, ref in root.refs.items() if one != name})

    append_root(view_of(objects), change, new_push_id())


def later(bucket: Bucket, seconds: float = 2 * HOUR) -> None:
    bucket.now_s += seconds


# ---- what stays and what goes


def test_nothing_goes_where_everything_is_needed(store: casckpt.Store, bucket: Bucket) -> None:
    before = bucket.keys("")
    report = collect(bucket, store=store)
    assert bucket.keys("") == before
    assert (report.condemned, report.removed, report.plan.packs, report.root) == (0, 0, 0, 3)


def test_an_empty_remote_has_nothing_to_collect() -> None:
    assert collect(Bucket()).root == 0


@pytest.mark.parametrize("knows", [True, False])
def test_a_run_whose_refs_went_is_freed_and_the_other_stays(bucket: Bucket, knows: bool) -> None:
    with made_store() as store:
        store.commit({"a": noise("a", SIZE), "both": noise("both", SIZE)}, run="a")
        send(store, bucket)
        store.commit({"b": noise("b", SIZE), "both": noise("both", SIZE)}, run="b")
        send(store, bucket)
        kept = bucket.keys("packs/")
        store.commit({"c": noise("c", SIZE)}, run="c")
        send(store, bucket)
        remove_ref(bucket, "runs/c/last")
        report = collect(bucket, store=store if knows else None, now=True, repack=False)
    assert bucket.keys("packs/") == kept == live_packs(bucket)
    assert bucket.keys("index/") == {one.key for one in head(bucket).segments}
    assert head(bucket).condemned == ()
    assert report.plan.packs == 2
    assert report.plan.nbytes == report.plan.pack_bytes > SIZE
    with made_store() as other:
        other.commit({"a": noise("a", SIZE), "both": noise("both", SIZE)}, run="a")
        other.commit({"b": noise("b", SIZE), "both": noise("both", SIZE)}, run="b")
        chunks = {one for one in needed_ids(other) if view_of(bucket).find(one) is not None}
    assert len(chunks) >= 3
    assert_whole(bucket, chunks)


def test_what_the_policy_lets_go_is_recorded_and_its_state_freed(store: casckpt.Store, bucket: Bucket) -> None:
    before = sum(listed.nbytes for listed in bucket.list("packs/"))
    report = collect(bucket, policy=LAST_OF_MANY, now=True)
    last, second, first = ids_of(store)
    root = head(bucket)
    assert sorted(drop.commit.hex() for drop in root.drops) == sorted((first, second))
    assert {(drop.parts, drop.rule) for drop in root.drops} == {(None, "unwanted")}
    assert {commit.id for commit in report.plan.commits} == {first, second}
    assert {commit.outcome for commit in report.plan.commits} == {"early"}
    assert sum(commit.together for commit in report.plan.commits) >= 2 * SIZE
    assert_whole(bucket, needed_ids(store, dropped=frozenset((first, second))))
    assert sum(listed.nbytes for listed in bucket.list("packs/")) < before - SIZE
    assert report.plan.retained is not None
    assert [one.id.hex() for one in report.plan.retained.kept] == [last]


def test_until_a_grace_is_over_the_state_stays_and_pushing_it_again_costs_nothing(
    store: casckpt.Store, bucket: Bucket
) -> None:
    report = collect(bucket, policy=LAST_OF_MANY, waits=Waits(delay_s=0, grace_s=0))
    assert {commit.outcome for commit in report.plan.commits} == {"waits"}
    assert len(head(bucket).drops) == 2
    assert_whole(bucket, needed_ids(store))


def test_a_policy_that_thins_takes_components(bucket: Bucket) -> None:
    policy = Retention(keep_last=2, thin={"keep_last": ["optimizer"]})
    with made_store() as store:
        for step in range(2):
            state = {"model": {"a": noise(f"m{step}", SIZE)}, "optimizer": {"b": noise(f"o{step}", 3 * SIZE)}}
            store.commit(state, run="gpt", step=step)
            send(store, bucket)
        _, first = ids_of(store)
    before = sum(listed.nbytes for listed in bucket.list("packs/"))
    report = collect(bucket, policy=policy, now=True)
    # The newest is a head of its run, which no rule thins.
    assert [(drop.commit.hex(), drop.parts, drop.rule) for drop in head(bucket).drops] == [
        (first, ("optimizer",), "thin")
    ]
    assert [(commit.id, commit.parts) for commit in report.plan.commits] == [(first, ("optimizer",))]
    assert before - sum(listed.nbytes for listed in bucket.list("packs/")) > 2.9 * SIZE
    assert collect(bucket, policy=policy, now=True).condemned == 0


def test_the_policy_that_is_kept_for_a_remote_is_applied(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    with casckpt.init(tmp_path / "store") as store:
        store.add_remote("origin", str(tmp_path / "remote"))
        with (tmp_path / "store/config.toml").open("a") as file:
            file.write('[remote.origin.retention]\nkeep_last = 1\ngrace = "0s"\n')
        assert store.remotes()[0].retention == Retention(keep_last=1, grace="0s")
        for step in range(3):
            store.commit({"a": noise(f"{step}", SIZE)}, run="gpt", step=step)
            store.push("origin", "gpt")
        assert [one.rule for one in store.gc_remote("origin", now=True).plan.commits] == ["unwanted", "unwanted"]
        with pytest.raises(InvalidSetting, match="keep_lost"):
            store.set_remote("origin", "retention", "{keep_lost = 1}")
        assert store.set_remote("origin", "retention", "{keep_last = 2}").retention == Retention(keep_last=2)
        assert store.set_remote("origin", "retention", None).retention is None


def test_a_dry_run_changes_nothing(store: casckpt.Store, bucket: Bucket) -> None:
    remove_ref(bucket, "runs/gpt/last")
    before = bucket.keys("")
    counting = Counting(bucket)
    report = collect(counting, policy=LAST_OF_MANY, now=True, dry_run=True)
    assert bucket.keys("") == before
    assert report.plan.packs > 0
    assert not [one for one in counting.requests if one.startswith(("create", "delete"))]
    assert "packs go" in report.plan.explain()
    assert report.to_dict()["plan"]["packs"] == report.plan.packs


def test_what_is_damaged_is_left_as_it_is(store: casckpt.Store, bucket: Bucket) -> None:
    """A segment is gone from the root: nobody knows where a part of the objects is."""
    view = view_of(bucket)
    largest = max(head(bucket).segments, key=lambda one: one.rows)
    keep = tuple(one for one in head(bucket).segments if one != largest)
    append_root(view, lambda root: replace(root, segments=keep), new_push_id())
    before = bucket.keys("")
    with pytest.raises(NotOnRemote):
        collect(bucket, store=store, now=True, waits=Waits(grace_s=0))
    assert bucket.keys("") == before


def test_a_ref_to_what_is_not_there_is_left_as_it_is(store: casckpt.Store, bucket: Bucket) -> None:
    view = view_of(bucket)
    append_root(view, lambda root: replace(root, segments=()), new_push_id())
    with pytest.raises(NotOnRemote, match=r"runs/gpt/last"):
        collect(bucket, now=True)


# ---- waiting


def test_condemned_files_stay_until_readers_had_time(store: casckpt.Store, bucket: Bucket) -> None:
    remove_ref(bucket, "runs/gpt/last")
    packs = bucket.keys("packs/")
    report = collect(bucket, waits=Waits(delay_s=HOUR))
    assert report.condemned >= len(packs)
    assert report.removed == 0
    assert bucket.keys("packs/") == packs <= set(head(bucket).condemned)
    assert live_packs(bucket) == set()
    assert collect(bucket, waits=Waits(delay_s=HOUR)).removed == 0
    later(bucket)
    last = collect(bucket, waits=Waits(delay_s=HOUR))
    assert last.removed == report.condemned
    assert bucket.keys("packs/") == bucket.keys("index/") == set()
    assert head(bucket).condemned == ()


def test_the_clock_of_the_remote_decides_and_is_asked_only_where_that_matters(
    store: casckpt.Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.now_s = 4e9  # far ahead of the clock here, by which nothing is ever old
    remove_ref(bucket, "runs/gpt/last")
    collect(bucket, waits=Waits(delay_s=HOUR))
    seq = head(bucket).seq
    assert collect(bucket, waits=Waits(delay_s=HOUR)).root == seq
    bucket.now_s = 1e9  # far behind it
    assert collect(bucket, waits=Waits(delay_s=HOUR)).removed == 0


def test_files_of_no_segment_go_when_no_push_can_want_them_any_more(store: casckpt.Store, bucket: Bucket) -> None:
    before = bucket.keys("")
    with made_store() as other:
        other.commit({"lost": noise("lost", SIZE)}, run="lost")
        with pytest.raises(Crash):
            send(other, Meeting(bucket, "create root/", [die]))
    orphans = bucket.keys("") - before
    assert orphans
    assert collect(bucket).plan.young == len(orphans)
    assert collect(bucket, now=True).removed == 0
    later(bucket, 25 * HOUR)
    assert collect(bucket).condemned == len(orphans)
    later(bucket)
    assert collect(bucket).removed == len(orphans)
    assert bucket.keys("packs/") | bucket.keys("index/") == {
        key for key in before if key.startswith(("packs/", "index/"))
    }


def test_files_that_no_remote_has_are_nobodys_business(store: casckpt.Store, bucket: Bucket) -> None:
    bucket.create("packs/README", b"?")
    bucket.create("index/backup/x", b"?")
    bucket.create("root/notes", b"?")
    later(bucket, 1000 * HOUR)
    collect(bucket, now=True, waits=Waits(grace_s=0, keep_roots=1, keep_roots_s=0))
    assert {"packs/README", "index/backup/x", "root/notes"} <= bucket.keys("")


def test_old_roots_go_but_for_the_newest_and_the_young(store: casckpt.Store, bucket: Bucket) -> None:
    later(bucket, 10 * HOUR)
    remove_ref(bucket, "runs/gpt/recovery")
    waits = Waits(keep_roots=1, keep_roots_s=HOUR)
    assert collect(bucket, waits=replace(waits, keep_roots=3)).roots == 1
    assert bucket.keys("root/") == {root_key(number) for number in (2, 3, 4)}
    assert collect(bucket, waits=waits).roots == 2
    assert collect(bucket, waits=waits).roots == 0
    assert bucket.keys("root/") == {root_key(4)}


# ---- writing again


def test_packs_of_which_little_is_needed_are_written_again(store: casckpt.Store, bucket: Bucket) -> None:
    first, second = ids_of(store)[1:]
    dry = collect(bucket, policy=LAST_OF_MANY, now=True, dry_run=True)
    report = collect(bucket, policy=LAST_OF_MANY, now=True)
    assert dry.plan.rewrites == report.plan.rewrites > 0
    assert report.rewritten > 0
    assert_whole(bucket, needed_ids(store, dropped=frozenset((first, second))))
    assert bucket.keys("packs/") == live_packs(bucket)
    assert collect(bucket, now=True).condemned == 0


def test_small_packs_and_segments_become_few(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "SEGMENTS", 4)
    with made_store() as store:
        for step in range(17):
            store.commit({"a": step}, run="gpt", step=step)
            send(store, bucket)
        assert len(bucket.keys("packs/")) == 17
        collect(bucket, now=True)
        assert len(bucket.keys("packs/")) == 1
        assert len(bucket.keys("index/")) == 1
        assert_whole(bucket, needed_ids(store))
        store.commit({"a": -1}, run="gpt", step=99)
        send(store, bucket)
        assert_whole(bucket, needed_ids(store))


# ---- others at work


class Meeting(Wrapping):
    """A remote where somebody else does something right before a request."""

    def __init__(self, inner: Objects, request: str, others: list[Callable[[], None]]) -> None:
        super().__init__(inner)
        self._request = request
        self._others = others

    def before(self, request: str) -> None:
        if request.startswith(self._request) and self._others:
            self._others.pop(0)()


@pytest.mark.parametrize("request_", ["create root/", "create index/", "create packs/", "list packs/", "delete"])
def test_a_push_at_any_moment_of_a_collection_is_whole(store: casckpt.Store, bucket: Bucket, request_: str) -> None:
    def pushes() -> None:
        store.commit({"more": noise(f"more {bucket.now_s}", SIZE), "own 0": noise("own 0", SIZE)}, run="gpt", step=9)
        send(store, bucket)
        later(bucket)

    meeting = Meeting(bucket, request_, [pushes, pushes])
    collect(meeting, policy=LAST_OF_MANY, now=True, waits=Waits(grace_s=0))
    dropped = frozenset(drop.commit.hex() for drop in head(bucket).drops)
    assert ids_of(store)[0] not in dropped
    assert_whole(bucket, needed_ids(store, dropped=dropped))
    collect(bucket, now=True, waits=Waits(grace_s=0))
    assert_whole(bucket, needed_ids(store, dropped=dropped))


@pytest.mark.parametrize("request_", ["create root/", "create packs/", "delete", "list root/"])
def test_two_collections_at_once_are_as_one(store: casckpt.Store, bucket: Bucket, request_: str) -> None:
    meeting = Meeting(
        bucket, request_, [lambda: collect(bucket, policy=LAST_OF_MANY, now=True, waits=Waits(grace_s=0))]
    )
    collect(meeting, policy=LAST_OF_MANY, now=True, waits=Waits(grace_s=0))
    dropped = frozenset(ids_of(store)[1:])
    assert_whole(bucket, needed_ids(store, dropped=dropped))
    collect(bucket, now=True, waits=Waits(grace_s=0))
    assert bucket.keys("packs/") == live_packs(bucket)
    assert_whole(bucket, needed_ids(store, dropped=dropped))


def die() -> None:
    raise Crash


class Watching(Wrapping):
    """A remote that allows to delete only what a root condemned, or old roots."""

    def delete(self, keys: list[str]) -> None:  # type: ignore[override]
        allowed = set(head(self.inner).condemned)
        newest = max(listed.key for listed in self.inner.list("root/"))
        assert all(key in allowed or (key.startswith("root/") and key < newest) for key in keys)
        super().delete(keys)


def filled(bucket: Bucket) -> casckpt.Store:
    store = made_store()
    for step in range(3):
        state = {f"own {step}": noise(f"own {step}", SIZE), "shared": noise("shared", SIZE)}
        store.commit(state, run="gpt", step=step)
        send(store, bucket)
        later(bucket)
    return store


@pytest.mark.parametrize("is_late", [False, True])
def test_a_collection_killed_at_any_request_ends_as_if_it_had_not_been(
    is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_removing, "_DELETES", 2)
    waits = Waits(grace_s=0, keep_roots=2, keep_roots_s=0)
    expected: tuple[int, ...] | None = None
    for at in range(100):
        bucket = Bucket()
        with filled(bucket) as store:
            dropped = frozenset(ids_of(store)[1:])
            ids = needed_ids(store, dropped=dropped)
        crashing = Crashing(Watching(bucket), at, is_late=is_late)
        try:
            collect(crashing, policy=LAST_OF_MANY, now=True, waits=waits)
            is_over = True
        except Crash:
            is_over = False
        assert_whole(bucket, ids)
        if not is_over:
            collect(Watching(bucket), policy=LAST_OF_MANY, now=True, waits=waits)
            assert_whole(bucket, ids)
        state = len(bucket.keys("packs/")), len(bucket.keys("index/")), len(head(bucket).drops)
        assert bucket.keys("packs/") == live_packs(bucket)
        assert head(bucket).condemned == ()
        expected = expected or state
        assert state == expected
        if is_over:
            break
    assert at > 10


# ---- requests


def test_a_collection_with_nothing_to_do_asks_little(store: casckpt.Store, bucket: Bucket) -> None:
    counting = Counting(bucket)
    database = store._repository.database
    view = view_of(counting, store)
    counting.requests.clear()
    remote_gc(database, view)
    assert [one.split()[0] for one in counting.requests if not one.startswith("get index/")] == ["list"] * 4


def test_metadata_comes_in_few_requests(bucket: Bucket) -> None:
    with made_store() as store:
        for step in range(40):
            store.commit({"a": {"b": noise(f"{step}", 3000)}, "c": step}, run="gpt", step=step)
        send(store, bucket)
    counting = Counting(bucket)
    collect(counting)
    assert len([one for one in counting.requests if one.startswith("ranges")]) <= 6


def test_what_the_store_has_is_not_fetched(store: casckpt.Store, bucket: Bucket) -> None:
    counting = Counting(bucket)
    remote_gc(store._repository.database, view_of(counting, store))
    assert not [one for one in counting.requests if one.startswith("ranges")]
