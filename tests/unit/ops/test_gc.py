"""gc: its plan with reasons and exact bytes, and that it frees that and nothing that anything needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import BusyError, CommitDropped, LostFrames, ReadOnlyStore, UnreadableCommit
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import ObjectId
from casckpt.odb import locks, removing
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.removing import RESERVE, RESERVE_BYTES
from casckpt.odb.repository import Repository, initialize
from casckpt.ops.collect import Collector, survey_of
from casckpt.ops.gc import gc
from casckpt.storage.base import Space
from casckpt.storage.memory import MemoryStorage
from tests.support.build import noise

SIZE = 270_000
"""Bytes of a leaf: too many for a frame, and for a group with its neighbours."""


class Disk(MemoryStorage):
    """A disk of a size, of which so much is free."""

    free = total = 1 << 40

    def space(self) -> Space | None:
        return Space(self.free, self.total)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def store(disk: Disk) -> Iterator[casckpt.Store]:
    """Three commits: each has a leaf of its own under its own name, and the first two share another.

    The names differ, else all would share one structure, and the pack with it would stay for that.
    """
    initialize(disk, time_ns=1, by="test")
    with casckpt.Store(Repository(disk)) as made:
        for step in range(3):
            shared = noise("later" if step == 2 else "shared", SIZE)
            state = {f"own {step}": noise(f"own {step}", SIZE), "shared": shared}
            made.commit(state, run="gpt", step=step, metrics={"loss": step})
        yield made


def packs(store: casckpt.Store) -> set[PackRef]:
    database = store._repository.database
    database.refresh()
    found = set(database.pack_set())
    names = {f"packs/{name}" for name in store._repository.storage.list("packs")}
    assert {pack_name(pack.id) for pack in found} <= names
    return found


def told(plan: casckpt.GcPlan) -> list[tuple[int | None, str, str, bool]]:
    return [(one.step, one.outcome, one.rule, one.is_new) for one in plan.commits]


def test_without_drops_nothing_goes_and_nothing_is_told(store: casckpt.Store) -> None:
    before = packs(store)
    plan = store.plan_gc(now=True)
    assert (plan.commits, plan.packs, plan.nbytes, plan.dead_bytes) == ((), 0, 0, 0)
    assert (plan.kept_packs, plan.kept_bytes) == (len(before), sum(pack.nbytes for pack in before))
    assert store.gc(now=True, repack=False).nbytes == 0
    assert packs(store) == before


def test_a_plan_tells_each_commit_with_its_reason_and_bytes(store: casckpt.Store) -> None:
    store.drop("gpt~2")
    plan = store.plan_gc({"keep_last": 1})
    assert told(plan) == [(0, "waits", "by hand", False), (1, "waits", "unwanted", True)]
    first, second = plan.commits
    # What both share goes with the later of them, and with none of them alone.
    assert SIZE < first.alone == first.together < SIZE + 2000
    assert SIZE < second.alone < SIZE + 2000
    assert 2 * SIZE < second.together < 2 * SIZE + 2000
    assert plan.waiting == plan.commits
    assert not plan.packs
    assert store.plan_gc({"keep_last": 1}, now=True).packs == 2


def test_a_drop_waits_for_its_grace_and_can_be_taken_back_until_then(store: casckpt.Store) -> None:
    before = packs(store)
    store.drop("gpt~2", "gpt~1")
    assert store.gc(repack=False).nbytes == 0
    assert packs(store) == before
    store.undo()
    assert store.checkout("gpt~2")["own 0"] == noise("own 0", SIZE)


@pytest.mark.parametrize(("dropped", "freed"), [(("gpt~2",), 0), (("gpt~1",), 1), (("gpt~2", "gpt~1"), 2)])
def test_what_another_commit_needs_stays(store: casckpt.Store, dropped: tuple[str, ...], freed: int) -> None:
    # The first pack holds what the first two share.
    before = packs(store)
    kept = {name: store.checkout(name) for name in {"gpt~2", "gpt~1", "gpt"} - set(dropped)}
    store.drop(*dropped)
    plan = store.plan_gc(now=True)
    report = store.gc(plan, now=True, repack=False)
    assert (plan.packs, report.packs, len(before - packs(store))) == (freed, freed, freed)
    assert report.nbytes == plan.nbytes == sum(pack.nbytes for pack in before - packs(store))
    assert {name: store.checkout(name) for name in kept} == kept
    for name in dropped:
        with pytest.raises(CommitDropped):
            store.checkout(name)
    assert store.fsck("full").ok
    assert store.gc(now=True, repack=False).nbytes == 0


def test_who_asks_for_a_dropped_commit_is_told_whether_it_was_freed(store: casckpt.Store) -> None:
    store.drop("gpt~1")
    for _ in range(2):
        with pytest.raises(CommitDropped, match=r"undo is promised until .* casckpt undo takes it back"):
            store.checkout("gpt~1")
        store.gc(repack=False)
    store.gc(now=True, repack=False)
    with pytest.raises(CommitDropped, match="was freed since") as caught:
        store.checkout("gpt~1")
    assert caught.value.facts["until"] is None
    assert caught.value.advice == "casckpt log shows its neighbours"


def test_a_commit_uses_again_what_a_collection_left_and_stores_anew_what_it_took(store: casckpt.Store) -> None:
    store.drop("gpt~2", "gpt~1")
    store.gc(now=True, repack=False)
    state = {"own 0": noise("own 0", SIZE), "shared": noise("later", SIZE)}
    before = packs(store)
    again = store.commit(state, run="gpt")
    assert store.checkout(again.id) == state
    assert SIZE < sum(pack.nbytes for pack in packs(store) - before) < 3 * SIZE


def test_gc_of_a_plan_drops_what_that_plan_says(store: casckpt.Store) -> None:
    plan = store.plan_gc({"keep_last": 1}, now=True)
    new = store.commit({"own": noise("new", SIZE)}, run="gpt", step=3)
    report = store.gc(plan, now=True, repack=False)
    assert report.packs == 2
    # A call with the policy would have let go of the third too, since there is a newer one.
    assert store.checkout("gpt~1")["own 2"] == noise("own 2", SIZE)
    assert store.checkout(new.id)["own"] == noise("new", SIZE)


def test_a_tag_between_plan_and_collection_saves_its_commit(store: casckpt.Store) -> None:
    plan = store.plan_gc({"keep_last": 1}, now=True)
    store.tag("v1", "gpt~2")
    store.gc(plan, now=True, repack=False)
    assert store.checkout("v1")["own 0"] == noise("own 0", SIZE)
    with pytest.raises(CommitDropped):
        store.checkout("gpt~1")


def test_a_dry_run_changes_nothing(store: casckpt.Store, disk: Disk) -> None:
    store.drop("gpt~2", "gpt~1")
    before = packs(store), disk.size("journal/0.log"), store._repository.database.drops()
    report = store.gc({"keep_last": 1}, now=True, dry_run=True)
    assert (report.dry_run, report.packs) == (True, 2)
    assert (packs(store), disk.size("journal/0.log"), store._repository.database.drops()) == before


def test_a_nearly_full_disk_ends_graces_from_the_oldest_drop_on_until_there_is_room(
    store: casckpt.Store, disk: Disk
) -> None:
    for name in ("gpt~1", "gpt~2"):
        store.drop(name)
    assert [one.outcome for one in store.plan_gc().commits] == ["waits", "waits"]
    disk.free = (32 << 30) - 1000
    assert [(one.step, one.outcome) for one in store.plan_gc().commits] == [(1, "early"), (0, "waits")]
    assert store.gc(repack=False).packs == 1
    disk.free -= 1000
    assert store.gc(repack=False).plan.early[0].step == 0
    disk.free = 1 << 40
    assert store.plan_gc().commits == ()


def test_of_a_small_disk_a_twentieth_is_to_be_free(store: casckpt.Store, disk: Disk) -> None:
    store.drop("gpt~1")
    disk.total, disk.free = 100 << 20, 6 << 20
    assert [one.outcome for one in store.plan_gc().commits] == ["waits"]
    disk.free = 4 << 20
    assert [one.outcome for one in store.plan_gc().commits] == ["early"]


def test_policies_that_a_run_keeps_are_applied(store: casckpt.Store) -> None:
    store.commit({"own": noise("other", SIZE)}, run="other")
    table = {"retention": {"keep_last": 1, "grace": "0s"}}
    with store._repository.session() as session:
        session.publish(lambda: (Entry("keep", 1, runs={"gpt": table}, before={"gpt": {}}), []))
    report = store.gc(repack=False)
    assert [(one.step, one.outcome, one.is_new) for one in report.plan.commits] == [
        (0, "frees", True),
        (1, "frees", True),
    ]
    assert store.checkout("other") == {"own": noise("other", SIZE)}
    assert report.packs == 2


def test_files_that_no_frame_names_go(store: casckpt.Store, disk: Disk) -> None:
    store.drop("gpt~1")
    collector = Collector(store._repository, lambda run: 0)
    (going,) = (use.pack for use in collector.survey(is_over=lambda one: True).reclaim.going)
    data = disk.open_read(pack_name(going.id))
    content = bytearray(data.size())
    data.read_into(memoryview(content), 0)
    store.gc(now=True, repack=False)
    written = disk.create(pack_name(going.id))
    written.write_at(bytes(content), 0)
    written.close()
    plan = store.plan_gc()
    assert (plan.packs, plan.orphans, plan.orphan_bytes) == (0, 1, going.nbytes)
    report = store.gc(repack=False)
    assert (report.orphans, report.nbytes) == (1, going.nbytes)
    assert disk.size(pack_name(going.id)) is None


def test_objects_that_share_the_first_bytes_of_their_ids_are_no_copies_of_each_other(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = store._repository.database
    before = packs(store)
    collector = Collector(store._repository, lambda run: 0)
    survey = collector.survey(is_over=lambda one: True)
    # As if the objects of one pack had ids that begin as those of another, and were needed as those are.
    one, other = sorted(before, key=lambda pack: len(database.packs.records(pack)))[:2]
    own, theirs = database.packs.records(one), database.packs.records(other)
    alike = [
        record._replace(id=ObjectId(near.id[:8] + record.id[8:])) for near, record in zip(own, theirs, strict=False)
    ]
    records = database.packs.records
    monkeypatch.setattr(database.packs, "records", lambda pack: alike if pack == other else records(pack))
    monkeypatch.setattr(database.packs, "read_record", lambda name, record: b"whole")
    count = len(alike)
    collector._records[other.id] = survey.records[other.id]._replace(
        ids=survey.records[one.id].ids[:count],
        stored=survey.records[other.id].stored[:count],
        length=survey.records[other.id].length[:count],
    )
    looked = survey_of(survey.marks, dict(collector._records), ())
    assert [use.goes for use in looked.reclaim.going] == ["redundant"]
    assert {use.pack for use in looked.reclaim.going} < {one, other}
    assert collector.collect(looked).packs == ()
    assert packs(store) == before


def test_a_damaged_tree_refuses_to_free_anything_until_its_commit_is_dropped(store: casckpt.Store, disk: Disk) -> None:
    database = store._repository.database
    store.drop("gpt~1")
    newest = next(iter(store.log("gpt")))
    commit = database.commit(bytes.fromhex(newest.id))  # type: ignore[arg-type]
    assert commit is not None
    row = database.row(commit.tree)
    assert row is not None
    name = database.file_of(row)
    assert name is not None
    file = disk.open_write(name)
    file.write_at(b"\xff" * row.stored, row.offset)
    file.close()
    database.packs.close()
    before = packs(store)
    with pytest.raises(UnreadableCommit, match=newest.id[:12]):
        store.gc(now=True, repack=False)
    assert packs(store) == before
    store.commit({"own 3": noise("own 3", SIZE)}, run="gpt", step=3)
    store.drop(newest.id)
    with pytest.raises(UnreadableCommit, match=newest.id[:12]):
        store.gc(repack=False)  # the drop may be taken back, and then nobody knows what that needs
    assert packs(store) > before
    assert store.gc(now=True, repack=False).packs == 2
    assert store.checkout("gpt")["own 3"] == noise("own 3", SIZE)
    assert store.checkout("gpt~3") == {"own 0": noise("own 0", SIZE), "shared": noise("shared", SIZE)}


def test_lost_frames_refuse_to_free_anything(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "s") as store:
        for step in range(3):
            store.commit({"own": noise(str(step), SIZE)}, run="gpt", step=step)
        store.drop("gpt~2")
    log = tmp_path / "s" / "journal" / "0.log"
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 1
    log.write_bytes(data)
    with casckpt.open(tmp_path / "s") as store:
        store._repository.database.rebuild_index()
        before = packs(store)
        with pytest.raises(LostFrames):
            store.gc(now=True, repack=False)
        assert packs(store) == before


def test_a_store_that_cannot_be_written_is_planned_for_and_not_collected(store: casckpt.Store, tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "s") as made:
        for step in range(2):
            made.commit({str(step): noise(str(step), SIZE)}, run="gpt")
        made.drop("gpt~1")
    with casckpt.open(tmp_path / "s", read_only=True) as opened:
        assert opened.plan_gc(now=True).packs == 1
        with pytest.raises(ReadOnlyStore):
            opened.gc(now=True, repack=False)
        assert opened.plan_gc(now=True).packs == 1


def test_a_second_collector_is_told_of_the_first(store: casckpt.Store, disk: Disk) -> None:
    store.drop("gpt~1")
    with locks.collecting(disk), pytest.raises(BusyError):
        gc(store._repository, now=True)
    assert store.plan_gc(now=True).packs == 1


def test_the_reserve_is_there_again_afterwards(store: casckpt.Store, disk: Disk) -> None:
    disk.unlink(RESERVE)
    store.gc(repack=False)
    assert disk.size(RESERVE) == RESERVE_BYTES


def test_progress_tells_the_bytes_freed(store: casckpt.Store) -> None:
    store.drop("gpt~2", "gpt~1")
    seen: list[tuple[int, int]] = []
    report = store.gc(now=True, repack=False, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (report.nbytes, report.nbytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_on_a_full_disk_files_that_no_frame_names_are_gone_before_the_frame_is_written(
    store: casckpt.Store, disk: Disk, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    store.drop("gpt~1")
    file = disk.create(f"packs/{'0' * 64}.pack")
    file.write_at(b"left by somebody", 0)
    file.close()
    seen: list[list[str]] = []
    append = removing.append

    def looking(database: Database, uuid: bytes, entry: Entry) -> int:
        seen.append([name for name in disk.list("tmp") if name.startswith("gone-")])
        return append(database, uuid, entry)

    monkeypatch.setattr(removing, "append", looking)
    disk.free = free
    assert store.gc(now=True, repack=False).orphans == 1
    assert [bool(names) for names in seen] == [free > 0]
    assert not disk.list("tmp")
