from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Any

import pytest

from casckpt.errors import StorageError, StoreFull
from casckpt.format import pack as p
from casckpt.format.entry import PackRef
from casckpt.odb import pack_writer
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.storage.base import Storage
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, count_calls, on
from tests.support.vectors import read_pack
from tests.unit.odb.support import chunks, content, raw


@pytest.fixture
def storage() -> Storage:
    return folders(MemoryStorage())


def folders(storage: Storage) -> Storage:
    storage.make_root()
    for name in ("packs", "tmp"):
        storage.make_dir(name)
    return storage


def written(storage: Storage, plains: list[bytes], *, leaf: int = 1, hints: Any = None) -> PackRef:
    """A pack of raw chunks; every `leaf` of them are a leaf."""
    writer = PackWriter(storage)
    for number, plain in enumerate(plains, 1):
        writer.add(*raw(plain))
        if number % leaf == 0:
            writer.end_leaf()
    return writer.finish(hints or {})


def extents(data: bytes) -> list[int]:
    """Records in every extent."""
    return [extent["records"] for extent in read_pack(data, {})["extents"]]


def test_a_pack_is_a_valid_file_under_its_id_and_leaves_nothing_behind(storage: Storage) -> None:
    pack = written(storage, list(chunks(10, 70_000, 1)), hints={"run": "r", "step": 3})
    data = content(storage, pack_name(pack.id))
    assert len(data) == pack.nbytes
    found = read_pack(data, {})  # every record is compared with its check and its id
    assert found["hints"] == {"run": "r", "step": 3}
    assert storage.list("tmp") == []


def test_large_records_start_on_blocks_and_small_ones_on_units_and_the_file_ends_on_a_block(storage: Storage) -> None:
    lengths = [1, 63, 64, 65, 65_535, 65_536, 65_537, 1, 100_000, 4096, 1 << 20, 3]
    pack = written(storage, list(chunks(*lengths)))
    records = PackReader(storage).contents(pack.id).records
    assert [record.length for record in records] == lengths
    for record in records:
        assert record.offset % (4096 if record.stored >= 65_536 else 64) == 0
    assert [r.offset for r in records] == sorted(r.offset for r in records)
    assert pack.nbytes % 4096 == 0


@pytest.mark.parametrize("last", range(1, 4200, 333))
def test_every_length_of_the_last_record_ends_on_a_block(storage: Storage, last: int) -> None:
    pack = written(storage, list(chunks(last)))
    assert pack.nbytes % 4096 == 0
    read_pack(content(storage, pack_name(pack.id)), {})


def test_raw_chunks_of_a_leaf_are_contiguous(storage: Storage) -> None:
    writer = PackWriter(storage)
    writer.add(*raw(b"before"))
    writer.end_leaf()
    for plain in chunks(*[1 << 20] * 5, 70_000):
        writer.add(*raw(plain))
    writer.end_leaf()
    records = PackReader(storage).contents(writer.finish({}).id).records[1:]
    for one, after in itertools.pairwise(records):
        assert after.offset == one.offset + one.stored


def test_an_extent_closes_at_the_first_end_of_a_leaf_from_64_records_on(storage: Storage) -> None:
    pack = written(storage, list(chunks(*[100] * 200)), leaf=1)
    assert extents(content(storage, pack_name(pack.id))) == [64, 64, 64, 8]
    pack = written(storage, list(chunks(*[101] * 200)), leaf=100)
    assert extents(content(storage, pack_name(pack.id))) == [100, 100]
    pack = written(storage, list(chunks(*[102] * 200)), leaf=63)
    assert extents(content(storage, pack_name(pack.id))) == [126, 74]


def test_an_extent_closes_at_the_first_end_of_a_leaf_from_64_mib_on(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert p.EXTENT_BYTES == 64 << 20
    monkeypatch.setattr(p, "EXTENT_BYTES", 250_000)
    pack = written(storage, list(chunks(*[99_000] * 9)), leaf=1)
    assert extents(content(storage, pack_name(pack.id))) == [3, 3, 3]
    pack = written(storage, list(chunks(*[98_000] * 9)), leaf=9)
    assert extents(content(storage, pack_name(pack.id))) == [9]


def test_a_pack_says_when_it_is_full_at_the_end_of_a_leaf(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert p.PACK_BYTES == 1 << 30
    monkeypatch.setattr(p, "PACK_BYTES", 300_000)
    writer = PackWriter(storage)
    said = []
    for plain in chunks(*[100_000] * 4):
        writer.add(*raw(plain))
        said.append(writer.end_leaf())
    assert said == [False, False, True, True]
    writer.abandon()


def test_equal_content_is_an_equal_file_and_any_difference_another_id(storage: Storage) -> None:
    plains = list(chunks(10, 80_000))
    first = written(storage, plains, hints={"a": 1})
    data = content(storage, pack_name(first.id))
    assert written(storage, plains, hints={"a": 1}) == first
    assert content(storage, pack_name(first.id)) == data
    others = {written(storage, plains[::-1], hints={"a": 1}).id, written(storage, plains, hints={"a": 2}).id}
    assert len(others | {first.id}) == 3


def test_a_large_pack_leaves_in_blocks_of_its_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_writer, "STAGING_BYTES", 64 << 10)
    storage = folders(FaultyStorage(LocalStorage(tmp_path / "s")))
    pack = written(storage, list(chunks(*[200_000] * 4, 5)))
    read_pack(content(storage, pack_name(pack.id)), {})
    writes = [call for call in storage.calls if call.startswith("write_at")]
    assert len(writes) == -(-pack.nbytes // (64 << 10))


def test_short_writes_are_completed(storage: Storage) -> None:
    faulty = FaultyStorage(storage, on("write_at", "short"))
    pack = written(faulty, list(chunks(50_000, 70_000)))
    read_pack(content(storage, pack_name(pack.id)), {})


def test_a_pack_is_durable_before_it_has_its_name_and_its_name_before_it_is_handed_out(storage: Storage) -> None:
    calls = count_calls(lambda faulty: written(faulty, [b"x"]), storage)
    kinds = [call.split()[0] for call in calls]
    assert kinds == ["create", "write_at", "sync", "rename", "sync_dir"]
    assert calls[-1] == "sync_dir packs"


@pytest.mark.parametrize("call", ["create", "write_at", "sync", "rename"])
@pytest.mark.parametrize("action", ["eio", "enospc", "eio-after"])
def test_a_disk_that_fails_leaves_no_file_and_no_pack(storage: Storage, call: str, action: Any) -> None:
    if (call, action) in {("create", "eio-after"), ("rename", "eio-after")}:
        pytest.skip("what happened all the same is left to the cleaner")
    faulty = FaultyStorage(storage, on(call, action, prefix="tmp"))
    with pytest.raises(StorageError) as raised:
        written(faulty, [b"x" * 100_000])
    assert isinstance(raised.value, StoreFull) == (action == "enospc")
    assert storage.list("tmp") == []
    assert storage.list("packs") == []


def test_abandoning_removes_the_file_and_may_be_said_twice(storage: Storage) -> None:
    writer = PackWriter(storage)
    writer.add(*raw(b"x"))
    assert len(storage.list("tmp")) == 1
    writer.abandon()
    writer.abandon()
    assert storage.list("tmp") == []


def test_a_flush_that_failed_is_not_tried_again(storage: Storage) -> None:
    faulty = FaultyStorage(storage, on("sync", "eio"))
    with pytest.raises(StorageError) as raised:
        written(faulty, [b"x"])
    assert raised.value.errno == errno.EIO
    assert sum(call.startswith("sync ") for call in faulty.calls) == 1
