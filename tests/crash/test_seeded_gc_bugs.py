"""Collections can go wrong: each rule of theirs that is broken on purpose here is caught.

Beside each bug stands what must speak up: a sweep, or a scene in which one thing happens exactly in the middle of
another. A scene without the bug is silent.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import BusyError
from casckpt.format.entry import Entry
from casckpt.format.pack_columns import Ids
from casckpt.odb import locks, pack_reader, removing
from casckpt.odb.database import Database
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.repository import Repository
from casckpt.odb.session import Session
from casckpt.ops import collect, marks, survey
from casckpt.ops.collect import Collector
from casckpt.ops.window_packing import WindowPacker
from casckpt.storage.base import Storage
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage
from tests.crash.folders import ram_folder
from tests.crash.promises import AGAIN, Workload, check_commits, commit, drop, look, settled_world, state_of
from tests.crash.recorder import RecordingStorage
from tests.crash.seeded import Bug, assert_caught
from tests.crash.sweeps import power_failures
from tests.crash.workloads import WORKLOADS
from tests.support.packs import merge_packs

Patch = pytest.MonkeyPatch
DROPPED = Workload((), (commit(200), commit(201), commit(2), drop(201)))
"""Nobody needs what 201 alone had."""


def power(name: str) -> Callable[[], list[str]]:
    return lambda: power_failures(WORKLOADS[name], unflushed, enough=1)[1]


# --- scenes -----------------------------------------------------------------------------------------------------------


def between(patch: Patch, owner: Any, name: str, happens: Callable[[], object], *, after: bool = False) -> None:
    """Let something happen before, or after, the first call of a function."""
    inner = getattr(owner, name)
    left = [happens]

    def call(*given: Any, **words: Any) -> Any:
        if not after and left:
            left.pop()()
        found = inner(*given, **words)
        if after and left:
            left.pop()()
        return found

    patch.setattr(owner, name, call)


def gc(storage: Storage) -> None:
    """Collect, as another process, without waiting for anybody."""
    with contextlib.suppress(BusyError):
        Store(Repository(storage)).gc(now=True, wait_s=0)


def again(storage: Storage) -> None:
    """Commit what was dropped, as another process."""
    Store(Repository(storage)).commit(state_of(201), step=AGAIN + 201)


def scene(play: Callable[[MemoryStorage, Patch], object]) -> Callable[[], list[str]]:
    """Play something on a store with dead packs; then all must be whole, and go on being so."""

    def run() -> list[str]:
        with settled_world(DROPPED), pytest.MonkeyPatch.context() as patch:
            storage = MemoryStorage(DROPPED.base())
            try:
                play(storage, patch)
                for _ in range(2):
                    repository = Repository(storage)
                    check_commits(repository, look(repository))
                    report = Store(repository).fsck("full")
                    assert report.ok, [finding.what for finding in report.findings]
                    gc(storage)
            except Exception as error:
                return [f"{type(error).__name__}: {error}"]
            return []

    run.__name__ = play.__name__
    return run


@scene
def a_gc_between_look_up_and_frame(storage: MemoryStorage, patch: Patch) -> None:
    between(patch, Session, "publish", lambda: gc(storage))
    again(storage)


@scene
def a_gc_between_pack_and_frame(storage: MemoryStorage, patch: Patch) -> None:
    between(patch, PackWriter, "finish", lambda: gc(storage), after=True)
    Store(Repository(storage)).commit(state_of(202), step=202)


@scene
def a_commit_between_mark_and_lock(storage: MemoryStorage, patch: Patch) -> None:
    between(patch, Collector, "collect", lambda: again(storage))
    gc(storage)


@scene
def a_commit_between_second_mark_and_lock(storage: MemoryStorage, patch: Patch) -> None:
    between(patch, locks, "alone", lambda: again(storage))
    gc(storage)


@scene
def an_undo_between_second_mark_and_lock(storage: MemoryStorage, patch: Patch) -> None:
    between(patch, locks, "alone", lambda: Store(Repository(storage)).undo())
    gc(storage)
    assert "drop 201" not in dict(look(Repository(storage)).facts)


@scene
def a_gc_during_a_check(storage: MemoryStorage, patch: Patch) -> None:
    between(patch, survey, "_check_journal", lambda: gc(storage))
    report = Store(Repository(storage)).fsck("full")
    assert report.ok, [finding.what for finding in report.findings]


@scene
def packs_that_are_merged(storage: MemoryStorage, patch: Patch) -> None:
    collecting, reading = Repository(storage), Repository(storage)
    merged = merge_packs(collecting)
    reading.database.refresh()
    Store(collecting).gc(now=True)
    reading.database.refresh()
    for repository in (collecting, reading):
        assert list(repository.database.pack_set()) == [merged], "the old packs did not go"
        records = repository.database.packs.records(merged)
        assert all(repository.database.row(record.id) for record in records), "an object has no place any more"


@scene
def another_collection_between_mark_and_lock(storage: MemoryStorage, patch: Patch) -> None:
    merge_packs(Repository(storage))
    patch.setattr(pack_reader, "KEPT_FOOTERS", 0)
    patch.setattr(pack_reader, "OPEN_FILES", 1)  # as if there were many more packs
    collected: list[int] = []
    between(patch, Collector, "collect", lambda: collected.append(Store(Repository(storage)).gc(now=True).packs))
    assert Store(Repository(storage)).gc(now=True).packs == 0
    assert collected[0] > 0


def a_collection_before_a_window_is_packed() -> list[str]:
    workload = Workload((), tuple(map(commit, range(200, 207))))
    with settled_world(workload), pytest.MonkeyPatch.context() as patch:
        storage = MemoryStorage(workload.base())

        def others_go_on() -> None:
            store = Store(Repository(storage))
            store.drop(*(f"main@step={step}" for step in (201, 202, 203)))
            assert store.gc(now=True).packs

        patch.setattr(pack_reader, "KEPT_FOOTERS", 0)
        patch.setattr(pack_reader, "OPEN_FILES", 1)
        between(patch, WindowPacker, "pack", others_go_on)
        try:
            Store(Repository(storage)).repack()
            check_commits(Repository(storage), look(Repository(storage)))
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return []


def commits_alone_in_a_pack() -> list[str]:
    """Sealed together, dropped together: all that is needed of the pack are the commits themselves."""
    workload = Workload((), tuple(map(commit, (1, 2, 5, 6, 7, 8, 9))), seal_frames=3)
    with settled_world(workload):
        storage = MemoryStorage(workload.base())
        store = Store(Repository(storage))
        store.drop(*(f"main@step={step}" for step in (5, 6, 7)))
        store.gc(now=True)
        return [] if look(Repository(storage)).steps == {1, 2, 5, 6, 7, 8, 9} else ["commits are not there any more"]


def a_copy_that_is_damaged() -> list[str]:
    with settled_world(DROPPED):
        storage = MemoryStorage(DROPPED.base())
        repository = Repository(storage)
        merged = merge_packs(repository)
        (record, *_) = (one for one in repository.database.packs.records(merged) if one.length > 80_000)
        files = storage.snapshot()
        content = bytearray(files[pack_name(merged.id)] or b"")
        content[record.offset + 9] ^= 1
        damaged = MemoryStorage({**files, pack_name(merged.id): bytes(content)})
        gc(damaged)
        try:
            check_commits(Repository(damaged), look(Repository(damaged)))
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return []


def files_of_removed_packs() -> list[str]:
    """A process that reads now and then must not keep the disk full."""
    with ram_folder() as folder, casckpt.init(folder / "store") as writer:
        for step in (200, 201, 2):
            writer.commit(state_of(step), step=step)
        with casckpt.open(folder / "store") as reader:
            reader.checkout("main@step=201")
            writer.drop("main@step=201")
            assert writer.gc(now=True).packs
            reader.show()
            places = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
            names = [os.readlink(place) for place in places if os.path.lexists(place)]
            return [name for name in names if name.startswith(str(folder)) and name.endswith("(deleted)")]


def a_stream_of_commits() -> list[str]:
    """Three that commit without a pause: each stays in until another has come, so at any moment one of them is in.

    Where nobody can come any more, it leaves after a moment that is long even for a busy machine.
    """
    with ram_folder() as folder:
        storage = LocalStorage(folder)
        end = threading.Event()
        coming = threading.Condition()
        come = 0

        def stay() -> None:
            nonlocal come
            with coming:
                come += 1
                mine = come
                coming.notify_all()
            end.wait(0.03)
            with coming:
                coming.wait_for(lambda: come > mine, 0.3)

        def commits() -> None:
            while not end.is_set():
                with locks.committing(storage):
                    stay()

        threads = [threading.Thread(target=commits) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            with coming:
                assert coming.wait_for(lambda: come, 60)
            with locks.alone(storage, wait_s=1.9):
                return []
        except BusyError as error:
            return [str(error)]
        finally:
            end.set()
            for thread in threads:
                thread.join()


SCENES = (
    a_gc_between_look_up_and_frame,
    a_gc_between_pack_and_frame,
    a_commit_between_mark_and_lock,
    a_commit_between_second_mark_and_lock,
    an_undo_between_second_mark_and_lock,
    a_gc_during_a_check,
    packs_that_are_merged,
    another_collection_between_mark_and_lock,
    a_collection_before_a_window_is_packed,
    commits_alone_in_a_pack,
    a_copy_that_is_damaged,
    files_of_removed_packs,
    a_stream_of_commits,
)


# --- the bugs ---------------------------------------------------------------------------------------------------------


def no_lock_of_sessions(patch: Patch) -> None:
    patch.setattr(locks, "committing", lambda storage: contextlib.nullcontext())


def no_lock_of_collectors(patch: Patch) -> None:
    patch.setattr(locks, "alone", lambda storage, wait_s: contextlib.nullcontext())


def no_gate(patch: Patch) -> None:
    patch.setattr(
        locks, "committing", lambda storage: storage.lock("commit", exclusive=False, wait_s=locks.COMMIT_WAIT_S)
    )


def nothing_is_rescued(patch: Patch) -> None:
    patch.setattr(Collector, "_rescued", lambda self, survey, going: set())


def rescued_before_the_lock_alone(patch: Patch) -> None:
    inner = Collector._rescued
    seen: list[set[Any]] = []

    def rescued(*given: Any) -> set[Any]:
        seen.append(inner(*given) if not seen else seen[0])
        return seen[-1]

    patch.setattr(Collector, "_rescued", rescued)


def undone_drops_are_not_marked_again(patch: Patch) -> None:
    inner = marks.needed_since
    patch.setattr(collect, "needed_since", lambda found, *given: inner(found._replace(ended=0), *given))


def files_go_before_the_frame(patch: Patch) -> None:
    inner = removing.append

    def append(database: Database, uuid: bytes, entry: Entry) -> int:
        for identity in entry.gone:
            database.storage.unlink(pack_name(identity))
        return inner(database, uuid, entry)

    patch.setattr(removing, "append", append)


_in_gc_frame: list[bool] = []


def unflushed(recording: RecordingStorage) -> Storage:
    """A disk on which flushes of the journal are left out while a collector writes its frame, if that bug is in."""

    def plan(n: int, call: str, name: str) -> Action | None:
        return "skip" if _in_gc_frame and call == "sync" and name.startswith("journal/") else None

    return FaultyStorage(recording, plan)


def the_frame_is_not_flushed(patch: Patch) -> None:
    inner = removing.append

    def append(*given: Any) -> int:
        _in_gc_frame.append(True)
        try:
            return inner(*given)
        finally:
            _in_gc_frame.clear()

    patch.setattr(removing, "append", append)


def commit_objects_are_not_kept(patch: Patch) -> None:
    def prefixes(ids: bytes) -> Ids:
        return np.empty(0, np.uint64)

    patch.setattr(marks, "prefixes", prefixes)


def orphans_go_without_the_lock(patch: Patch) -> None:
    inner = Collector.collect

    def collected(self: Collector, *given: Any) -> Any:
        for name in removing.unlisted(self.repository.database):
            self.repository.storage.unlink(name)
        return inner(self, *given)

    patch.setattr(Collector, "collect", collected)


def copies_are_not_listed_again(patch: Patch) -> None:
    inner = removing.take_out
    patch.setattr(collect, "take_out", lambda data, uuid, gone, copies, entry: inner(data, uuid, gone, [], entry))


def copies_are_not_proven(patch: Patch) -> None:
    patch.setattr(Collector, "_proven", lambda self, survey: survey.reclaim.going)


def files_stay_open(patch: Patch) -> None:
    patch.setattr(PackReader, "let_go", lambda self, names=None: None)


BUGS: dict[str, Bug] = {
    "a session holds no lock": (no_lock_of_sessions, a_gc_between_look_up_and_frame),
    "a check holds no lock": (no_lock_of_sessions, a_gc_during_a_check),
    "a collector is not alone": (no_lock_of_collectors, a_gc_between_look_up_and_frame),
    "a collector is not alone with packs that wait for their frame": (
        no_lock_of_collectors,
        a_gc_between_pack_and_frame,
    ),
    "there is no gate": (no_gate, a_stream_of_commits),
    "what became needed is not marked": (nothing_is_rescued, a_commit_between_mark_and_lock),
    "what became needed is marked before the lock alone": (
        rescued_before_the_lock_alone,
        a_commit_between_second_mark_and_lock,
    ),
    "drops that were taken back are not marked": (
        undone_drops_are_not_marked_again,
        an_undo_between_second_mark_and_lock,
    ),
    "files go before the frame": (files_go_before_the_frame, power("gc")),
    "the frame is not flushed": (the_frame_is_not_flushed, power("gc")),
    "commit objects are not kept": (commit_objects_are_not_kept, commits_alone_in_a_pack),
    "orphans go without the lock": (orphans_go_without_the_lock, a_gc_between_pack_and_frame),
    "copies are not listed again": (copies_are_not_listed_again, packs_that_are_merged),
    "copies are not proven": (copies_are_not_proven, a_copy_that_is_damaged),
    "files of removed packs stay open": (files_stay_open, files_of_removed_packs),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(monkeypatch: Patch, name: str) -> None:
    assert_caught(name, BUGS[name], monkeypatch)


@pytest.mark.parametrize("play", SCENES)
def test_a_scene_is_silent_without_the_bug(play: Callable[[], list[str]]) -> None:
    """So are the sweeps, in the tests that are theirs."""
    assert play() == []
