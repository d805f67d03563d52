from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import (
    CasckptError,
    DamagedFile,
    FolderNotEmpty,
    NewerFormat,
    ReadOnlyStore,
    StorageError,
    StoreExists,
    StoreFull,
    StoreNotFound,
)
from casckpt.format.config import StoreFormat
from casckpt.odb.repository import Repository, initialize, read_format
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, Killed, at, count_calls, never
from tests.unit.odb.support import NOW, new_repository, put_file


def init(storage: Any) -> None:
    initialize(storage, time_ns=NOW, by="test")


def with_format(storage: MemoryStorage, **fields: Any) -> None:
    old = read_format(storage)
    put_file(storage, "format", StoreFormat(old.uuid, **fields).encode())


# ---- creation


def test_a_new_store_is_empty_and_opens() -> None:
    repository = new_repository()
    assert repository.database.refs() == {}
    assert list(repository.database.commits()) == []
    assert list(repository.database.pack_set()) == []
    assert repository.database.tail.position.seq == 1


def test_every_store_has_an_id_of_its_own() -> None:
    assert new_repository().format.uuid != new_repository().format.uuid


def test_a_store_is_not_made_twice() -> None:
    storage = MemoryStorage()
    init(storage)
    before = storage.snapshot()
    with pytest.raises(StoreExists):
        init(storage)
    assert {**storage.snapshot(), "lock/init": None} == {**before, "lock/init": None}


@pytest.mark.parametrize("name", ["notes.txt", ".git", "packs2"])
def test_a_folder_with_other_files_is_no_place_for_a_store(name: str) -> None:
    storage = MemoryStorage({name: b"x"})
    with pytest.raises(FolderNotEmpty) as raised:
        init(storage)
    assert raised.value.facts["name"] == name
    assert storage.list("") == [name]


def test_an_init_that_dies_at_any_call_can_be_made_again() -> None:
    calls = count_calls(init)
    assert len(calls) > 10
    for number in range(1, len(calls) + 1):
        inner = MemoryStorage()
        with pytest.raises(Killed):
            init(FaultyStorage(inner, at(number, "kill")))
        if inner.size("format") is None:
            with pytest.raises(StoreNotFound):
                Repository(inner)
            init(inner)
        repository = Repository(inner)
        assert repository.database.tail.position.seq == 1
        assert repository.storage.list("packs") == []


@pytest.mark.parametrize("action", ["eio", "enospc"])
def test_an_init_that_fails_at_any_call_can_be_made_again(action: Any) -> None:
    for number in range(1, len(count_calls(init)) + 1):
        inner = MemoryStorage()
        faulty = FaultyStorage(inner, at(number, action))
        with pytest.raises(StorageError):
            init(faulty)
        faulty.plan = never
        if inner.size("format") is None:
            init(faulty)
        assert Repository(inner).database.tail.position.seq == 1


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with casckpt.init(tmp_path / "store") as store:
            store.commit({"x": bytes(range(256)) * 400})
    finally:
        os.umask(old)
    for folder, folders, files in os.walk(tmp_path / "store"):
        for name in folders:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o700, name
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name


# ---- the fence


def test_a_path_that_is_no_store_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreNotFound) as raised:
            casckpt.open(path)
        assert str(path) in raised.value.message
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreNotFound):
        casckpt.open(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_a_newer_format_is_refused_and_nothing_is_changed() -> None:
    storage = MemoryStorage()
    init(storage)
    with_format(storage, version=2)
    before = storage.snapshot()
    with pytest.raises(NewerFormat):
        Repository(storage)
    assert storage.snapshot() == before


def test_a_feature_for_readers_keeps_readers_out() -> None:
    storage = MemoryStorage()
    init(storage)
    with_format(storage, read=("shards",))
    with pytest.raises(NewerFormat) as raised:
        Repository(storage)
    assert "shards" in raised.value.message


def test_a_feature_for_writers_keeps_writers_out_before_any_work_and_lets_readers_in() -> None:
    storage = MemoryStorage()
    init(storage)
    with casckpt.Store(Repository(storage)) as store:
        store.commit({"x": 1})
    with_format(storage, write=("signed",))
    before = storage.snapshot()
    with casckpt.Store(Repository(storage)) as store:
        assert store.checkout() == {"x": 1}
        for change in (lambda: store.commit({"x": 2}), lambda: store.tag("v1")):
            with pytest.raises(NewerFormat) as raised:
                change()
            assert "signed" in raised.value.message
    assert storage.snapshot() == before


def test_a_feature_for_collectors_concerns_neither_readers_nor_writers() -> None:
    storage = MemoryStorage()
    init(storage)
    with_format(storage, gc=("grace",))
    with casckpt.Store(Repository(storage)) as store:
        store.commit({"x": 1})


@pytest.mark.parametrize("data", [b"", b"casckpt store\n", b"x" * 200, bytes(1 << 20)])
def test_a_damaged_format_file_is_damage(data: bytes) -> None:
    storage = MemoryStorage()
    init(storage)
    put_file(storage, "format", data)
    with pytest.raises(DamagedFile):
        Repository(storage)


# ---- read-only stores


def test_a_store_opened_read_only_is_read_and_refuses_every_change(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        store.commit({"x": 1}, run="r", metrics={"loss": 1}, best="loss:min")
    before = {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file() and p.name != "lock.mdb"}
    with casckpt.open(tmp_path / "store", read_only=True) as store:
        assert store.checkout("r/best") == {"x": 1}
        assert [info.run for info in store.log()] == ["r"]
        assert store.fsck("full").findings == ()
        assert store.status().commits == 1
        assert store.runs()[0].rule == "loss:min"
        for change in (lambda: store.commit({"x": 2}), lambda: store.tag("v")):
            with pytest.raises(ReadOnlyStore):
                change()
    after = {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file() and p.name != "lock.mdb"}
    assert after == before


@pytest.mark.parametrize("index", ["whole", "gone"])
def test_a_read_only_store_follows_a_writer(tmp_path: Path, index: str) -> None:
    path = tmp_path / "store"
    with casckpt.init(path) as writer:
        writer.commit({"n": 0})
        if index == "gone":
            writer.close()
            for file in (path / "index").iterdir():
                file.unlink()
            writer = casckpt.open(path)
        with casckpt.open(path, read_only=True) as reader:
            for number in range(1, 4):
                writer.commit({"n": number, "bulk": os.urandom(70_000)})
                assert reader.checkout()["n"] == number
        writer.close()


def test_a_store_without_permission_to_write_is_read(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    path = tmp_path / "store"
    with casckpt.init(path) as store:
        store.commit({"x": 1})
    path.chmod(0o500)
    try:
        with casckpt.open(path) as store:
            assert store.checkout() == {"x": 1}
            with pytest.raises(ReadOnlyStore):
                store.commit({"x": 2})
    finally:
        path.chmod(0o700)


def test_a_read_only_memory_is_read() -> None:
    storage = MemoryStorage()
    init(storage)
    with casckpt.Store(Repository(storage)) as store:
        store.commit({"x": 1})
    fixed = MemoryStorage(storage.snapshot(), read_only=True)
    with casckpt.Store(Repository(fixed)) as store:
        assert store.checkout() == {"x": 1}
        with pytest.raises(ReadOnlyStore):
            store.commit({"x": 2})
        with pytest.raises(CasckptError):
            init(fixed)


# ---- leftovers and full disks


def test_unfinished_files_of_the_dead_are_removed_by_the_first_writer_and_those_of_the_living_stay(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store"
    casckpt.init(path).close()
    (path / "tmp" / "pack-1-dead").write_bytes(b"half")
    living = LocalStorage(path).create("tmp/pack-2-living")
    with casckpt.open(path) as store:
        store.log()
        assert len(os.listdir(path / "tmp")) == 2
        store.commit({"x": 1})
        assert os.listdir(path / "tmp") == ["pack-2-living"]
    living.close()


def test_folders_that_are_gone_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "store"
    casckpt.init(path).close()
    for name in ("tmp", "trash"):
        (path / name).rmdir()
    with casckpt.open(path) as store:
        store.commit({"x": os.urandom(70_000)})
        assert store.fsck("full").findings == ()


@pytest.mark.parametrize("first", range(1, 8))
def test_a_disk_that_is_full_from_some_call_on_loses_nothing_and_works_again_when_it_is_not(first: int) -> None:
    inner = MemoryStorage()
    init(inner)
    with casckpt.Store(Repository(inner)) as store:
        store.commit({"x": 0}, run="r")
    faulty = FaultyStorage(inner)
    store = casckpt.Store(Repository(faulty))
    store.commit({"x": 1}, run="r")
    large = {"x": bytes(range(256)) * 400, "y": os.urandom(70_000)}
    start = len(faulty.calls) + first
    # Giving space back works on a full disk.
    faulty.plan = lambda n, call, name: "enospc" if n >= start and call not in {"truncate", "unlink"} else None
    with pytest.raises(StoreFull) as raised:
        store.commit(large, run="r")
    assert raised.value.transient
    assert store.checkout("r") == {"x": 1}
    assert store.checkout("r~1") == {"x": 0}
    faulty.plan = never
    store.commit(large, run="r")
    assert store.checkout("r") == large
    assert [info.run for info in store.log("r")] == ["r"] * 3
    assert inner.list("tmp") == []
    store.close()
