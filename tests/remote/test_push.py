"""push: what is on the remote then is what was here, for the requests that were promised, and nothing else is."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import (
    CommitDropped,
    CommitThinned,
    DamagedObject,
    LeaseLost,
    NotFastForward,
    ReadOnlyStore,
    RemoteUntrusted,
    RevisionNotFound,
    UsageError,
)
from casckpt.ops.push import push
from casckpt.ops.push_reports import PushReport
from casckpt.plan.transfer import ABSENT
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.buckets import all_ids, all_records, chain, newest, store_of
from tests.support.histories import same, training
from tests.support.remotes import Counting, Crash, Wrapping


def sent(store: casckpt.Store, objects: Objects, *names: str, remote: str = "origin", **options: Any) -> PushReport:
    return push(store._repository, objects, remote, names, **options)


def trained(store: casckpt.Store, run: str, count: int, *, seed: int = 0, size: int = 3000) -> list[str]:
    return [
        store.commit(state, run=run, step=number, metrics={"loss": 1.0 / (number + 1)}, best="loss:min").id
        for number, state in enumerate(training(count, seed=seed, size=size))
    ]


LARGE = 30_000
"""Elements of a state whose commits get packs of their own."""


def noise(seed: int, count: int = 1 << 20) -> dict[str, Any]:
    """A state of so many bytes that nothing compresses."""
    return {"noise": np.random.default_rng(seed).integers(0, 256, count, np.uint8)}


def test_a_pushed_run_can_be_restored_bit_by_bit_from_the_bucket_alone() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 4)
    store.tag("v1", "a~2")
    report = sent(store, objects, "a")
    assert [move.ref for move in report.moves] == ["runs/a/best", "runs/a/last", "runs/a/recovery"][: len(report.moves)]
    assert (report.commits, report.root, report.dry_run) == (4, 1, False)
    copy = store_of(objects)
    assert [one.id for one in copy.log("a")] == ids[::-1]
    for identity, state in zip(ids, training(4), strict=True):
        assert same(copy.checkout(identity), state)
    assert copy.runs()[0].rule == "loss:min"
    assert "tags/v1" not in newest(objects).refs


def test_what_is_there_already_costs_one_listing_and_a_cold_look_two_requests() -> None:
    store, objects = casckpt.memory(), Counting(MemoryObjects())
    trained(store, "a", 2)
    sent(store, objects, "a")
    objects.requests.clear()
    report = sent(store, objects, "a")
    assert (report.moves, report.packs, report.root) == ((), 0, 1)
    assert objects.requests == ["list root/"]


def test_an_incremental_push_takes_four_requests_and_its_packs() -> None:
    store, objects = casckpt.memory(), Counting(MemoryObjects())
    trained(store, "a", 2)
    sent(store, objects, "a")
    for seed in range(3):
        store.commit(noise(seed), run="a")
        objects.requests.clear()
        report = sent(store, objects, "a")
        assert report.packs == 2
        kinds = [request.partition("/")[0] for request in objects.requests]
        assert sorted(kinds) == sorted(
            ["list root", "create packs", "create packs", "create index", "create root", "list root"]
        )
        assert kinds[-3:] == ["create index", "create root", "list root"]


def test_roots_and_segments_of_others_cost_one_request_each() -> None:
    one, other, objects = casckpt.memory(), casckpt.memory(), Counting(MemoryObjects())
    trained(one, "a", 2)
    sent(one, objects, "a")
    trained(other, "b", 2, seed=1)
    sent(other, objects, "b")
    one.commit(noise(1), run="a")
    objects.requests.clear()
    report = sent(one, objects, "a")
    gets = [request for request in objects.requests if request.startswith("get")]
    assert [key.partition("/")[0] for key in gets] == ["get root", "get index"]
    assert len(objects.requests) == 4 + report.packs + 2
    assert {"runs/a/last", "runs/b/last"} <= newest(objects).refs.keys()
    store_of(objects)


def test_what_others_pushed_is_not_sent_again() -> None:
    one, other, objects = casckpt.memory(), casckpt.memory(), MemoryObjects()
    state = noise(7)
    one.commit(state, run="a")
    other.commit(state, run="b")
    sent(one, objects, "a")
    assert sent(other, objects, "b").nbytes < 1 << 16
    assert same(store_of(objects).checkout("b"), state)


def test_a_push_of_one_run_leaks_no_object_of_another() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    trained(store, "public", 6, size=LARGE)
    trained(store, "secret", 6, seed=1, size=LARGE)
    for number in range(3):
        store.commit({"half": noise(2)["noise"], "own": noise(3 + number)["noise"]}, run="secret")
        store.commit({"half": noise(2)["noise"], "own": noise(9 + number)["noise"]}, run="public")
    store.repack()
    sent(store, objects, "public")
    alone = casckpt.memory()
    fresh = MemoryObjects()
    # What the run alone needs, as a store says that has nothing else.
    sent(store_of(objects), fresh, "public")
    alone.close()
    assert all_ids(objects) == all_ids(fresh)
    secret = {record.id for record in _chunks_of(store, "secret")}
    public = {record.id for record in _chunks_of(store, "public")}
    assert not (secret - public) & all_ids(objects)
    assert secret - public


def _chunks_of(store: casckpt.Store, run: str) -> set[Any]:
    from casckpt.ops.gathering import Gathering, new_commits
    from casckpt.remote.supply import each

    database = store._repository.database
    gathering = Gathering(database)
    gathering.add(new_commits(database, [database.ref(f"runs/{run}/last")], []))
    return {_Id(identity) for identity in each(gathering.ids())}


class _Id:
    """An id that compares by itself."""

    def __init__(self, identity: bytes) -> None:
        self.id = identity

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Id) and self.id == other.id


def test_repacked_commits_go_as_deltas_and_decode_on_the_other_side() -> None:
    store, objects, plain = casckpt.memory(), MemoryObjects(), MemoryObjects()
    ids = trained(store, "a", 12, size=LARGE)
    sent(store, plain, "a", remote="plain")
    store.repack()
    sent(store, objects, "a")
    assert any(record.base_1 for record in all_records(objects))
    assert _stored(objects) < _stored(plain)
    copy = store_of(objects)
    for identity, state in zip(ids, training(12, size=LARGE), strict=True):
        assert same(copy.checkout(identity), state)


def _stored(objects: MemoryObjects) -> int:
    return sum(listed.nbytes for listed in objects.list("packs/"))


def test_a_part_of_a_repacked_history_goes_without_what_it_was_decoded_from() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 12, size=LARGE)
    store.tag("early", ids[2])
    store.repack()
    sent(store, objects, "early")
    copy = store_of(objects)
    for identity, state in zip(ids[:3], training(3, size=LARGE), strict=True):
        assert same(copy.checkout(identity), state)
    assert {one.id for one in copy.log()} == set(ids[:3])
    sent(store, objects, "a")
    assert same(store_of(objects).checkout(ids[11]), list(training(12, size=LARGE))[11])


def test_a_store_with_drops_and_thinned_commits_pushes_what_it_has() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 5)
    store.drop(ids[1])
    store.drop(ids[2], parts=["data"])
    sent(store, objects, "a")
    assert {(drop.commit.hex(), drop.parts, drop.rule) for drop in newest(objects).drops} == {
        (ids[1], None, "by hand"),
        (ids[2], ("data",), "by hand"),
    }
    copy = store_of(objects)
    assert [one.id for one in copy.log("a")] == ids[::-1]
    with pytest.raises(CommitDropped):
        copy.checkout(ids[1])
    with pytest.raises(CommitThinned):
        copy.checkout(ids[2])
    assert same(copy.checkout(ids[2], select="model"), {"model": list(training(3))[2]["model"]})
    # What is dropped here later stays there.
    store.drop(ids[3])
    store.commit(noise(1), run="a")
    sent(store, objects, "a")
    assert same(store_of(objects).checkout(ids[3]), list(training(4))[3])


def test_content_that_was_not_there_before_takes_the_place_of_its_record() -> None:
    from dataclasses import replace

    from casckpt.remote.roots import append_root, new_push_id
    from casckpt.remote.view import RemoteView

    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 3)
    store.drop(ids[0])
    sent(store, objects, "a")
    store.undo()
    sent(store, objects, "a")  # dropped by a rule, so it stays so there
    assert len(newest(objects).drops) == 1
    view = RemoteView(objects)
    view.refresh()
    append_root(
        view,
        lambda root: replace(root, drops=tuple(drop._replace(rule=ABSENT) for drop in root.drops)),
        new_push_id(),
    )
    sent(store, objects, "a")
    assert newest(objects).drops == ()
    assert same(store_of(objects).checkout(ids[0]), next(training(1)))


def test_a_ref_goes_on_only_to_what_descends_from_it() -> None:
    one, objects = casckpt.memory(), MemoryObjects()
    trained(one, "a", 2)
    sent(one, objects, "a")
    other = store_of(objects)
    other.commit(noise(1), run="a")
    one.commit(noise(2), run="a")
    sent(other, objects, "a")
    before = newest(objects)
    with pytest.raises(NotFastForward, match="runs/a/"):
        sent(one, objects, "a")
    assert newest(objects) == before


def test_what_is_behind_the_remote_has_nothing_to_push() -> None:
    one, objects = casckpt.memory(), MemoryObjects()
    trained(one, "a", 2)
    sent(one, objects, "a")
    behind = store_of(objects)
    one.commit(noise(1), run="a")
    sent(one, objects, "a")
    with pytest.raises(NotFastForward):  # it does not know of the newer one
        sent(behind, objects, "a")
    ahead = store_of(objects)
    back = one.log("a", limit=2)
    ahead._repository.database.refresh()
    assert [commit.id for commit in ahead.log("a", limit=2)] == [commit.id for commit in back]


def test_a_tag_never_moves_but_by_a_lease() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 2)
    store.tag("v1", ids[0])
    sent(store, objects, "v1")
    store.untag("v1")
    store.tag("v1", ids[1])
    with pytest.raises(NotFastForward, match="tags/v1"):
        sent(store, objects, "v1")
    sent(store, objects, "v1", policy="lease")
    assert newest(objects).refs["tags/v1"].commit.hex() == ids[1]


def test_of_two_leases_on_one_value_one_wins() -> None:
    one, objects = casckpt.memory(), MemoryObjects()
    trained(one, "a", 1)
    sent(one, objects, "a")
    other = store_of(objects)
    sent(other, objects, "a")
    one.commit(noise(1), run="a")
    other.commit(noise(2), run="a")
    sent(other, objects, "a", policy="lease")
    with pytest.raises(LeaseLost):
        sent(one, objects, "a", policy="lease")
    theirs = newest(objects).refs["runs/a/last"].commit.hex()
    with pytest.raises(RevisionNotFound):
        sent(one, objects, "a", policy="lease", lease=theirs)
    with pytest.raises(LeaseLost):
        sent(one, objects, "a", policy="lease", lease={"runs/a/last": None})
    one.tag("t")
    with pytest.raises(UsageError):
        sent(one, objects, "a", "t", policy="lease", lease="a")


@pytest.mark.parametrize("first", [0, 1])
def test_the_newest_wins_in_any_order_and_the_loser_is_kept(first: int) -> None:
    base, objects = casckpt.memory(), MemoryObjects()
    trained(base, "a", 2)
    sent(base, objects, "a")
    stores = [base, store_of(objects)]
    tips = [store.commit(noise(number), run="a").id for number, store in enumerate(stores)]
    for number in (first, 1 - first, first):
        sent(stores[number], objects, "a", policy="newest")
    root = newest(objects)
    assert root.refs["runs/a/last"].commit.hex() == tips[1]
    assert root.refs[f"conflicts/runs/a/last/{tips[0][:12]}"].commit.hex() == tips[0]
    copy = store_of(objects)
    for number, tip in enumerate(tips):
        assert same(copy.checkout(tip), noise(number))
    stores[1].commit(noise(5), run="a")
    sent(stores[1], objects, "a")
    assert f"conflicts/runs/a/last/{tips[0][:12]}" in newest(objects).refs


def test_a_line_that_only_the_remote_has_comes_in_a_request_for_each_pack_of_it() -> None:
    base, objects = casckpt.memory(), Counting(MemoryObjects())
    trained(base, "a", 2)
    sent(base, objects, "a")
    other = store_of(objects)
    other.commit(noise(1), run="a")
    for first in (0, 40):
        for number in range(first, first + 40):
            base.commit({"x": number}, run="a")
        sent(base, objects, "a")
    objects.requests.clear()
    report = sent(other, objects, "a", policy="newest")
    read = [request for request in objects.requests if request.startswith("ranges")]
    assert len(read) == len(set(read)) == 2
    assert report.requests == {"list": 2, "get": 7, "put": 4}  # casckpt.json, root, three segments; two packs
    store_of(objects)


def test_all_and_mirror() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    trained(store, "a", 2)
    trained(store, "b", 2, seed=1)
    store.tag("v1", "a")
    sent(store, objects, everything=True)
    assert {"runs/a/last", "runs/b/last", "tags/v1"} <= newest(objects).refs.keys()
    store.untag("v1")
    assert sent(store, objects, everything=True).moves == ()
    report = sent(store, objects, mirror=True)
    assert [(move.ref, move.new) for move in report.moves] == [("tags/v1", None)]
    assert "tags/v1" not in newest(objects).refs
    assert "remotes/origin/tags/v1" not in store._repository.database.refs()
    assert "tags/v1" in chain(objects)[-2].refs
    with pytest.raises(UsageError):
        sent(store, objects, "a", everything=True)


def test_what_is_unknown_is_named() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    with pytest.raises(RevisionNotFound):
        sent(store, objects)
    trained(store, "a", 1)
    with pytest.raises(RevisionNotFound):
        sent(store, objects, "nothing")
    objects.read_only = True  # type: ignore[misc]
    with pytest.raises(ReadOnlyStore):
        sent(store, objects)


def test_a_dry_run_tells_what_it_would_take_and_sends_nothing() -> None:
    store, objects = casckpt.memory(), Counting(MemoryObjects())
    trained(store, "a", 3)
    store.commit(noise(1), run="a")
    planned = sent(store, objects, "a", dry_run=True)
    assert objects.requests == ["list root/"]
    done = sent(store, objects, "a")
    assert planned.moves == done.moves
    assert (planned.commits, planned.objects, planned.packs) == (done.commits, done.objects, done.packs)
    assert planned.requests == done.requests
    assert 0.8 < planned.nbytes / done.nbytes <= 1
    assert store._repository.database.refs("remotes/")
    again = sent(store, objects, "a", dry_run=True)
    assert (again.moves, again.packs, again.requests) == ((), 0, {"list": 1})


def test_progress_knows_all_bytes_first_and_can_stop_a_push_that_goes_on_later() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    for number in range(4):
        store.commit(noise(number, 20 << 20), run="a")
    calls: list[tuple[int, int]] = []

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        raise Stop

    with pytest.raises(Stop):
        sent(store, objects, "a", progress=stop, concurrency=1)
    (done, total) = calls[0]
    assert 80 << 20 <= total < 81 << 20
    assert 32 << 20 <= done < 40 << 20
    before = {listed.key for listed in objects.list("packs/")}
    calls.clear()
    report = sent(store, objects, "a", progress=lambda done, total: calls.append((done, total)))
    assert report.resumed == len(before)
    assert calls[-1][0] == calls[-1][1] <= 80 << 20
    assert all(len(objects.get(listed.key, limit=1 << 30)) < 36 << 20 for listed in objects.list("packs/"))
    store_of(objects)


def test_damage_here_is_never_pushed(tmp_path) -> None:
    store, objects = casckpt.init(tmp_path / "store"), MemoryObjects()
    store.commit(noise(1), run="a", compress="off")
    (pack,) = (tmp_path / "store/packs").iterdir()
    data = bytearray(pack.read_bytes())
    data[100_000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    with pytest.raises(DamagedObject):
        sent(store, objects, "a")
    assert list(objects.list("root/")) == []
    store.close()


def test_verify_reads_back_what_was_sent_before_anything_names_it() -> None:
    class Rotting(Counting):
        is_rotten = False

        def create(self, key: str, data: Any) -> Any:
            if self.is_rotten and key.startswith("packs/"):
                data = bytes(data[:5000]) + bytes([data[5000] ^ 1]) + bytes(data[5001:])
            return super().create(key, data)

    store, objects = casckpt.memory(), Rotting(MemoryObjects())
    store.commit(noise(1), run="a")
    sent(store, objects, "a", verify=True)
    assert any(request.startswith("get packs") for request in objects.requests)
    store.commit(noise(2), run="a")
    objects.is_rotten = True
    with pytest.raises(RemoteUntrusted, match="reads otherwise"):
        sent(store, objects, "a", verify=True)
    assert len(chain(objects)) == 1
    objects.is_rotten = False
    sent(store, objects, "a")
    store_of(objects)


def test_verify_also_reads_back_what_an_interrupted_push_sent() -> None:
    class Rotting(Wrapping):
        is_rotten = True

        def create(self, key: str, data: Any) -> Any:
            if self.is_rotten and key.startswith("index/"):
                raise Crash
            if self.is_rotten and key.startswith("packs/"):
                data = bytes(data[:5000]) + bytes([data[5000] ^ 1]) + bytes(data[5001:])
            return super().create(key, data)

    store, objects = casckpt.memory(), Rotting(MemoryObjects())
    store.commit(noise(1), run="a")
    with pytest.raises(Crash):
        sent(store, objects, "a")
    objects.is_rotten = False
    sent(store, objects, "a", verify=True)
    store_of(objects)


def test_tracking_refs_say_where_the_remote_is_and_nothing_else_moves() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    trained(store, "a", 2)
    before = store._repository.database.refs()
    sent(store, objects, "a")
    after = store._repository.database.refs()
    assert {name: commit for name, commit in after.items() if not name.startswith("remotes/")} == before
    assert after["remotes/origin/runs/a/last"] == before["runs/a/last"]
    newest_operation = next(store.operations())
    assert newest_operation.op == "push"


@pytest.mark.parametrize("change", ["gc", "repack"])
def test_a_push_goes_on_while_the_store_is_collected_and_repacked(change: str) -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 12, size=LARGE)
    store.commit(noise(1), run="b")
    other = store.commit(noise(2), run="b").id
    store.drop(ids[3])

    mutex = threading.Lock()
    done = []

    def at_work() -> None:
        with mutex:
            done.append(store.gc(now=True) if change == "gc" else store.repack())

    class Between(Counting):
        def create(self, key: str, data: Any) -> Any:
            at_work()
            return super().create(key, data)

    sent(store, Between(objects), everything=True, concurrency=1)
    assert len(done) > 4
    copy = store_of(objects)
    for number, (identity, state) in enumerate(zip(ids, training(12, size=LARGE), strict=True)):
        if number != 3:
            assert same(copy.checkout(identity), state)
    assert same(copy.checkout(other), noise(2))


def test_what_lies_behind_a_forgotten_commit_is_held_by_a_ref_of_its_own() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "a", 5)
    store.forget(ids[2])
    sent(store, objects, "a")
    refs = {name: ref.commit.hex() for name, ref in newest(objects).refs.items()}
    assert refs[f"kept/{ids[1][:12]}"] == ids[1]
    copy = store_of(objects, forgotten=[ids[2]])
    reached = {one.id for name in refs for one in copy.log(refs[name])}
    assert reached == {*ids[:2], *ids[3:]}
    assert same(copy.checkout(ids[0]), next(training(1)))
    store.commit(noise(1), run="a")
    sent(store, objects, "a")
    assert sent(store, objects, mirror=True).moves == ()


def test_a_run_that_was_renamed_brings_its_former_name_along() -> None:
    store, objects = casckpt.memory(), MemoryObjects()
    ids = trained(store, "old", 2)
    store.rename_run("old", "new")
    trained(store, "other", 1)
    sent(store, objects, "new")
    assert newest(objects).runs.keys() == {"old", "new"}
    copy = store_of(objects)
    assert [(one.id, one.run) for one in copy.log("new")] == [(identity, "new") for identity in reversed(ids)]
