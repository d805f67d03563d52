"""The harness proved on a toy protocol: a sound one passes, every way to break it is caught."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from casckpt.errors import StorageError, StoreFull
from casckpt.storage.base import Storage, write_all
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.crash import faults
from tests.crash.disk import Model
from tests.crash.faults import FaultyStorage, Killed, count_calls
from tests.crash.powerfail import CrashState, crash_states, violations
from tests.crash.recorder import Create, RecordingStorage, Rename, Snapshot, Sync, SyncDir, Write
from tests.support.nursery import nursery

MODELS: tuple[Model, ...] = ("strict", "ordered")
CONTENTS = {name: name.encode() * 3000 for name in ("a", "b", "c")}


def publish(storage: Storage, mark: Callable[[str], None], broken: str = "") -> None:
    """Three files, each whole under its name before it is acknowledged; `broken` leaves out or moves one step."""
    for folder in ("tmp", "d"):
        storage.make_dir(folder)
    storage.sync_dir("")
    for name, content in CONTENTS.items():
        file = storage.create(f"tmp/{name}")
        write_all(file, content, 0)
        if broken == "ack before sync":
            mark(name)
        if broken == "rename before sync":
            storage.rename(f"tmp/{name}", f"d/{name}")
        if broken != "no sync":
            file.sync()
        file.close()
        if broken == "ack before rename":
            mark(name)
        if broken != "rename before sync":
            storage.rename(f"tmp/{name}", f"d/{name}")
        if broken == "ack before sync_dir":
            mark(name)
        if broken == "sync_dir of the source":
            storage.sync_dir("tmp")
        elif broken != "no sync_dir":
            storage.sync_dir("d")
        mark(name)


def check(state: CrashState) -> None:
    """What is acknowledged is there, what is there is whole."""
    storage = MemoryStorage(state.files)
    there = storage.list("d")
    for name in state.acked:
        assert name in there, f"{name} is lost"
    for name in there:
        assert state.files[f"d/{name}"] == CONTENTS[name], f"{name} is torn"


def recorded(broken: str = "") -> RecordingStorage:
    storage = RecordingStorage(MemoryStorage())
    publish(storage, storage.mark, broken)
    return storage


@pytest.mark.parametrize("model", MODELS)
def test_a_sound_protocol_has_no_violation(model: Model) -> None:
    recording = recorded()
    count, found = violations(crash_states(recording.base, recording.operations, model=model), check)
    assert found == []
    assert count > 40


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "broken",
    ["no sync", "no sync_dir", "ack before sync", "ack before rename", "ack before sync_dir", "rename before sync"],
)
def test_a_broken_protocol_is_caught(broken: str, model: Model) -> None:
    recording = recorded(broken)
    _, found = violations(crash_states(recording.base, recording.operations, model=model), check)
    assert found


def test_syncing_the_wrong_folder_is_caught() -> None:
    recording = recorded("sync_dir of the source")
    _, found = violations(crash_states(recording.base, recording.operations), check)
    assert found
    assert "power failed after call" in found[0]


# --- the model, state by state ---------------------------------------------------------------------------------------


def states_of(base: Snapshot, run: Callable[[RecordingStorage], object], model: Model = "strict") -> list[CrashState]:
    storage = RecordingStorage(MemoryStorage(base))
    run(storage)
    return list(crash_states(storage.base, storage.operations, model=model))


def contents_of(states: list[CrashState], name: str = "a") -> set[bytes | None]:
    return {state.files.get(name) for state in states}


def overwrite(*parts: tuple[int, bytes]) -> Callable[[RecordingStorage], None]:
    def run(storage: RecordingStorage) -> None:
        file = storage.open_write("a")
        for offset, data in parts:
            file.write_at(data, offset)

    return run


def test_a_page_persists_with_all_its_earlier_writes() -> None:
    states = states_of({"a": b"...."}, overwrite((0, b"x"), (1, b"y")))
    assert contents_of(states) == {b"....", b"x...", b"xy.."}


def test_pages_persist_in_any_order() -> None:
    states = states_of({"a": bytes(8192)}, overwrite((0, b"x"), (4096, b"y")))
    assert {(content[:1], content[4096:4097]) for content in contents_of(states) if content} == {
        (b"\0", b"\0"),
        (b"x", b"\0"),
        (b"\0", b"y"),
        (b"x", b"y"),
    }


def test_a_size_may_persist_before_the_bytes() -> None:
    states = states_of({"a": b"ab"}, overwrite((2, b"cd")))
    assert contents_of(states) == {b"ab", b"ab\0\0", b"abcd"}


def test_a_page_past_the_end_leaves_a_hole() -> None:
    states = states_of({"a": b""}, overwrite((0, b"x" * 8192)))
    assert bytes(4096) + b"x" * 4096 in contents_of(states)
    assert b"x" * 4096 in contents_of(states)


def test_the_last_page_may_be_torn_at_a_sector() -> None:
    old, new = b"o" * 4096, b"n" * 4096
    torn = contents_of(states_of({"a": old}, overwrite((0, new)))) - {old, new}
    assert torn
    for content in torn:
        assert content
        cut = content.count(b"n")
        assert content == new[:cut] + old[cut:]
        assert cut % 512 == 0
        assert 0 < cut < 4096


def test_a_write_within_one_sector_is_never_torn() -> None:
    states = states_of({"a": bytes(1024)}, overwrite((100, b"x" * 412)))
    assert len(contents_of(states)) == 2


def test_a_cut_tail_may_still_be_there_until_sync() -> None:
    def run(storage: RecordingStorage) -> None:
        file = storage.open_write("a")
        file.truncate(2)
        file.write_at(b"XY", 2)
        file.sync()
        storage.mark("synced")

    states = states_of({"a": b"abcdefgh" + b"z" * 5000}, run)
    before = contents_of([state for state in states if not state.acked])
    assert {b"ab", b"ab\0\0", b"abXY", b"abcdefgh" + b"z" * 5000} <= before
    # The page persisted, the cut did not: the rest of the page is zero, the next page is still the old one.
    assert b"abXY" + bytes(4092) + b"z" * 912 in before
    assert contents_of([state for state in states if state.acked]) == {b"abXY"}


def test_what_was_synced_stays_and_what_follows_is_pending_again() -> None:
    def run(storage: RecordingStorage) -> None:
        file = storage.open_write("a")
        file.write_at(b"x", 0)
        file.sync()
        storage.mark("synced")
        file.write_at(b"y", 1)

    states = states_of({"a": b".."}, run)
    assert contents_of([state for state in states if state.acked]) == {b"x.", b"xy"}


def test_syncing_a_file_does_not_persist_its_name() -> None:
    def run(storage: RecordingStorage) -> None:
        file = storage.create("a")
        file.write_at(b"x", 0)
        file.sync()
        storage.mark("file")
        storage.sync_dir("")
        storage.mark("name")

    states = states_of({}, run)
    assert contents_of([state for state in states if state.acked == ("file",)]) == {None, b"x"}
    assert contents_of([state for state in states if state.acked == ("file", "name")]) == {b"x"}


def test_a_rename_is_atomic_and_durable_with_the_folder_of_its_target() -> None:
    def run(storage: RecordingStorage) -> None:
        storage.rename("s/a", "t/a")
        storage.sync_dir("s")
        storage.mark("source")
        storage.sync_dir("t")
        storage.mark("target")

    def where(acked: tuple[str, ...]) -> set[tuple[bytes | None, bytes | None]]:
        return {(state.files.get("s/a"), state.files.get("t/a")) for state in states if state.acked == acked}

    states = states_of({"s/a": b"new", "t/a": b"old"}, run)
    assert where(()) == where(("source",)) == {(b"new", b"old"), (None, b"new")}
    assert where(("source", "target")) == {(None, b"new")}


def test_a_removed_name_may_come_back_until_its_folder_is_synced() -> None:
    def run(storage: RecordingStorage) -> None:
        storage.unlink("a")
        storage.create("a").close()
        storage.sync_dir("")
        storage.mark("synced")

    states = states_of({"a": b"old"}, run)
    assert contents_of([state for state in states if not state.acked]) == {b"old", None, b""}
    assert contents_of([state for state in states if state.acked]) == {b""}


def test_a_file_is_lost_with_its_folder() -> None:
    def run(storage: RecordingStorage) -> None:
        storage.make_dir("d")
        storage.create("d/a").close()
        storage.sync_dir("d")
        storage.mark("inner")

    states = states_of({}, run)
    assert {tuple(state.files) for state in states if state.acked} == {(), ("d", "d/a")}


def test_a_temporary_name_that_was_renamed_does_not_come_back() -> None:
    def run(storage: RecordingStorage) -> None:
        storage.create("tmp/a").close()
        storage.rename("tmp/a", "d/a")
        storage.sync_dir("d")
        storage.mark("renamed")

    states = states_of({"tmp": None, "d": None}, run)
    assert {tuple(state.files) for state in states if state.acked} == {("d", "d/a", "tmp")}


def test_ordered_names_persist_as_a_prefix() -> None:
    def run(storage: RecordingStorage) -> None:
        for name in ("a", "b", "c"):
            storage.create(name).close()

    assert {"".join(state.files) for state in states_of({}, run, "ordered")} == {"", "a", "ab", "abc"}
    assert len(states_of({}, run, "strict")) == 8


def test_ordered_states_are_strict_states() -> None:
    recording = recorded("rename before sync")
    strict, ordered = (
        {
            str((state.acked, state.files))
            for state in crash_states(recording.base, recording.operations[:9], model=model)
        }
        for model in MODELS
    )
    assert ordered < strict


def test_the_same_seed_gives_the_same_states_once() -> None:
    recording = recorded("no sync")
    runs = [
        [str((state.acked, state.files)) for state in crash_states(recording.base, recording.operations, seed=7)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == len(runs[0])


def test_many_pending_changes_are_sampled_with_the_ends_included() -> None:
    def run(storage: RecordingStorage) -> None:
        storage.open_write("a").write_at(b"x" * (100 * 4096), 0)

    states = states_of({"a": b""}, run)
    assert {b"", b"x" * (100 * 4096), bytes(100 * 4096)} <= contents_of(states)
    assert 200 < len(states) < 2000


def test_the_end_of_a_recording_with_nothing_lost_is_the_storage_itself() -> None:
    recording = recorded("no sync_dir")
    assert isinstance(recording.inner, MemoryStorage)
    assert recording.inner.snapshot() in [state.files for state in crash_states(recording.base, recording.operations)]


# --- the recorder ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "local"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    storage: Storage = MemoryStorage() if request.param == "memory" else LocalStorage(tmp_path)
    storage.make_dir("d")
    storage.create("d/old").close()
    return storage


def test_calls_are_recorded_in_order_and_with_their_files(inner: Storage) -> None:
    storage = RecordingStorage(inner)
    file = storage.create("new")
    write_all(file, memoryview(b"abc"), 5)
    file.sync()
    file.close()
    storage.rename("new", "d/new")
    storage.sync_dir("d")
    storage.make_dir("d")
    old = storage.open_write("d/old")
    old.write_at(b"x", 0)
    old.close()
    with storage.lock("gate", exclusive=True, wait_s=0):
        assert storage.unlink_abandoned("no")
    assert storage.base == {"d": None, "d/old": b""}
    assert storage.operations == [
        Create("new", 2),
        Write(2, 5, b"abc"),
        Sync(2),
        Rename("new", "d/new"),
        SyncDir("d"),
        Write(1, 0, b"x"),
    ]


# --- faults ----------------------------------------------------------------------------------------------------------


def survive(state: MemoryStorage, acked: list[str]) -> None:
    check(CrashState(state.snapshot(), tuple(acked), ""))


CALLS = count_calls(lambda storage: publish(storage, lambda name: None))


def test_calls_are_counted() -> None:
    assert len(CALLS) == 3 + 3 * 5
    assert CALLS[3:8] == ["create tmp/a", "write_at tmp/a", "sync tmp/a", "rename tmp/a", "sync_dir d"]


@pytest.mark.parametrize("action", ["kill", "kill-mid-write"])
def test_a_kill_at_any_call_leaves_what_was_promised(action: faults.Action) -> None:
    for number in range(1, len(CALLS) + 1):
        inner, acked = MemoryStorage(), list[str]()
        storage = FaultyStorage(inner, faults.at(number, action))
        with pytest.raises(Killed):
            publish(storage, acked.append)
        survive(inner, acked)
        assert storage.calls == CALLS[:number]
        for name in inner.list("tmp"):
            assert inner.unlink_abandoned(f"tmp/{name}")


@pytest.mark.parametrize("action", ["eio", "enospc", "eio-after"])
@pytest.mark.parametrize("plan", [faults.at, faults.since])
def test_an_error_at_any_call_leaves_what_was_promised(
    action: faults.Action, plan: Callable[[int, faults.Action], faults.Plan]
) -> None:
    for number in range(1, len(CALLS) + 1):
        inner, acked = MemoryStorage(), list[str]()
        with pytest.raises(StorageError) as caught:
            publish(FaultyStorage(inner, plan(number, action)), acked.append)
        survive(inner, acked)
        assert isinstance(caught.value, StoreFull) == (action == "enospc")
        assert caught.value.errno == (errno.ENOSPC if action == "enospc" else errno.EIO)


def test_short_writes_are_completed() -> None:
    inner = MemoryStorage()
    publish(FaultyStorage(inner, faults.on("write_at", "short")), lambda name: None)
    assert {name: inner.snapshot()[f"d/{name}"] for name in inner.list("d")} == CONTENTS


def test_a_write_may_stop_half_way() -> None:
    storage = FaultyStorage(MemoryStorage(), faults.on("write_at", "short"))
    file = storage.create("a")
    assert [file.write_at(data, 0) for data in (b"", b"x", b"xyz", b"1234")] == [0, 1, 1, 2]


def test_a_kill_in_a_write_leaves_half_of_it() -> None:
    inner = MemoryStorage()
    file = FaultyStorage(inner, faults.on("write_at", "kill-mid-write")).create("a")
    with pytest.raises(Killed):
        file.write_at(b"1234", 0)
    assert inner.snapshot() == {"a": b"12"}


def test_an_error_after_the_effect_has_the_effect() -> None:
    inner = MemoryStorage()
    storage = FaultyStorage(inner, faults.on("create", "eio-after", prefix="a"))
    storage.create("b").close()
    with pytest.raises(StorageError):
        storage.create("a")
    assert inner.list("") == ["a", "b"]
    assert inner.unlink_abandoned("a")


def test_the_dead_hold_nothing_and_do_nothing() -> None:
    inner = MemoryStorage()
    storage = FaultyStorage(inner, faults.on("make_dir", "kill"))
    left: list[str] = []

    def run() -> None:
        file = storage.create("a")
        reader = storage.open_read("a")
        try:
            with storage.lock("gate", exclusive=True, wait_s=0), suppress(Exception):
                storage.make_dir("d")
        finally:
            with inner.lock("gate", exclusive=True, wait_s=0):
                left.append("lock")
            assert inner.unlink_abandoned("a")
            for call in (
                storage.make_root,
                reader.size,
                file.sync,
                lambda: storage.list(""),
                lambda: storage.size("a"),
                lambda: storage.open_read("a"),
                lambda: reader.read_into(memoryview(bytearray(1)), 0),
                storage.lock("gate", exclusive=False, wait_s=0).__enter__,
            ):
                with pytest.raises(Killed):
                    call()
            file.close()
            reader.close()

    with pytest.raises(Killed):
        run()
    assert left == ["lock"]
    assert inner.snapshot() == {}
    assert storage.calls == ["create a", "make_dir d"]


def test_the_dead_release_real_locks_and_files(tmp_path: Path) -> None:
    inner = LocalStorage(tmp_path)
    storage = FaultyStorage(inner, faults.at(2, "kill"))
    with pytest.raises(Killed), storage.lock("gate", exclusive=True, wait_s=0):  # noqa: PT012
        storage.create("a")
        storage.sync_dir("")
    with inner.lock("gate", exclusive=True, wait_s=0):
        assert inner.unlink_abandoned("a")
    assert os.listdir(tmp_path) == ["lock"]


def test_a_failed_sync_loses_its_pages_for_good_unless_they_are_written_again() -> None:
    def run(again: bool) -> Callable[[RecordingStorage], None]:
        def write(storage: RecordingStorage) -> None:
            faulty = FaultyStorage(storage, faults.at(4, "eio-lost"))
            file = faulty.open_write("a")
            file.write_at(b"x" * 4096, 0)
            file.write_at(b"y" * 4096, 4096)
            for _ in range(2):
                with pytest.raises(StorageError):
                    file.sync()
            file = faulty.open_write("a")
            if again:
                file.write_at(b"x" * 4096, 0)
            file.sync()
            storage.mark("synced")

        return write

    for again, first in ((False, b"a"), (True, b"x")):
        states = states_of({"a": b"a" * 4096}, run(again))
        synced = contents_of([state for state in states if state.acked])
        assert synced == {first * 4096 + bytes(4096)}


def test_a_skipped_call_does_nothing_and_says_so_to_nobody() -> None:
    inner = MemoryStorage({"a": b"abc"})
    storage = FaultyStorage(inner, faults.on("truncate", "skip"))
    storage.open_write("a").truncate(1)
    assert inner.snapshot() == {"a": b"abc"}


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_child_of_a_nursery_ends_as_its_program_does() -> None:
    with nursery("import sys; sys.seen = 'prelude'") as children:
        done = children.start("import sys; print(sys.seen, sys.argv[1:]); sys.exit(3)", "a", 1)
        assert (done.communicate(timeout=60), done.returncode) == (("prelude ['a', '1']\n", ""), 3)
        failed = children.start("raise ValueError('told')")
        assert "ValueError: told" in failed.communicate(timeout=60)[1]
        assert failed.returncode == 1
        crashed = children.start("import os; os.abort()")
        crashed.communicate(timeout=60)
        assert crashed.returncode == -signal.SIGABRT


def test_a_child_of_a_nursery_that_hangs_is_killed() -> None:
    with nursery("import signal") as children:
        stuck = children.start("import signal; signal.pause()")
        stuck.communicate(timeout=0.01)
        assert stuck.returncode == -signal.SIGKILL
