from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from casckpt.errors import DamagedObject, FormatError, IntegrityError
from casckpt.format import limits
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.elements import element_code
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, ObjectId, PackId, object_id
from casckpt.odb import pack_reader
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import pack_name
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from tests.support import plane_encoder
from tests.support.build import Pack, noise
from tests.unit.odb.support import content, put_file

INT32 = element_code("int32")


class Deltas:
    """A pack with deltas, built by hand, and the plain bytes of all its records."""

    def __init__(self) -> None:
        self.pack = Pack(deltas=True)
        self.plains: list[bytes] = []

    def key(self, plain: bytes, **wrong: Any) -> int:
        self.plains.append(plain)
        return self.pack.add(plain, element=INT32, **wrong)

    def delta(self, plain: bytes, bases: Sequence[int], weight: int = 0, **wrong: Any) -> int:
        stored = plane_encoder.encode_delta(4, plain, INT32, [self.plains[base] for base in bases], weight)
        self.plains.append(plain)
        return self.pack.add(
            plain, codec=Codec.DELTA_PLANES, stored=stored, element=INT32, bases=bases, weight=weight, **wrong
        )


def words(start: int, count: int = 500) -> bytes:
    return struct.pack(f"<{count}i", *((start + number) % 9999 for number in range(count)))


def stored(pack: Pack, storage: Storage | None = None) -> tuple[PackReader, PackRef, Storage]:
    """A reader of a storage that holds the pack."""
    data = pack.finish()
    storage = MemoryStorage({"packs": None}) if storage is None else storage
    put_file(storage, pack_name(pack.id), data)
    return PackReader(storage), PackRef(pack.id, len(data)), storage


def plain_pack() -> tuple[Pack, list[bytes]]:
    """Raw and compressed objects in three extents."""
    pack = Pack()
    plains = [noise("a", 100), noise("b", 70_000), b"zstd " * 999, noise("c", 1000), b"x", noise("d", 65_536)]
    for number, plain in enumerate(plains):
        pack.add(plain, codec=Codec.ZSTD if number == 2 else Codec.RAW)
        if number % 2:
            pack.close()
    return pack, plains


# ---- reading


def test_every_object_is_read_by_its_record() -> None:
    pack, plains = plain_pack()
    reader, ref, _ = stored(pack)
    for record, plain in zip(reader.records(ref), plains, strict=True):
        assert bytes(reader.read_record(pack_name(ref.id), record)) == plain
        assert reader.read_plain(ref, record) == plain
        target = bytearray(len(plain))
        assert bytes(reader.read_record(pack_name(ref.id), record, memoryview(target))) == plain
        assert target == plain


def test_a_chain_of_deltas_and_one_between_two_bases_is_decoded() -> None:
    built = Deltas()
    key = built.key(words(0))
    line = [key]
    for number in range(1, 8):
        line.append(built.delta(words(number * 3), [line[-1]]))
    middle = built.delta(words(9), [line[2], line[5]], 8)
    built.delta(words(10), [middle, key], 5)
    reader, ref, _ = stored(built.pack)
    records = reader.records(ref)
    for record, plain in reversed(list(zip(records, built.plains, strict=True))):
        assert bytes(reader.read_record(pack_name(ref.id), record)) == plain
        # A row of the index does not know the bases: the footer does.
        bare = record._replace(base_1=0, base_2=0, weight=0, cost=1, check=bytes(8))
        assert bytes(reader.read_record(pack_name(ref.id), bare)) == plain
        target = bytearray(len(plain))
        reader.read_record(pack_name(ref.id), record, memoryview(target))
        assert target == plain


def test_each_base_is_read_once_for_one_object() -> None:
    built = Deltas()
    line = [built.key(words(0)), built.key(words(5))]
    for number in range(2, 12):
        line.append(built.delta(words(number * 3), [line[-1], line[-2]], 7))
    reader, ref, storage = stored(built.pack)
    reads: list[int] = []
    file = reader.open(pack_name(ref.id))
    read_into = file.read_into
    file.read_into = lambda target, offset: (reads.append(offset), read_into(target, offset))[1]  # type: ignore
    last = reader.records(ref)[-1]
    reads.clear()
    reader.read_record(pack_name(ref.id), last)
    payloads = [offset for offset in reads if offset >= p.BLOCK]
    assert set(payloads) == {record.offset for record in reader.records(ref)}
    assert len(payloads) == len(line)
    assert storage.list("packs") == [pack_name(ref.id).removeprefix("packs/")]


def test_a_base_is_let_go_of_when_nothing_needs_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    built = Deltas()
    line = [built.key(words(0))]
    for number in range(1, 15):
        line.append(built.delta(words(number), [line[-1]]))
    reader, ref, _ = stored(built.pack)
    monkeypatch.setattr(pack_reader, "_idle", [])
    for _ in range(2):
        assert bytes(reader.read_record(pack_name(ref.id), reader.records(ref)[line[-1]])) == words(14)
        # Two bases in turn, and what is read: rooms that the next call takes again.
        assert len(pack_reader._idle) == 3


def test_rooms_that_nobody_uses_are_few() -> None:
    for _ in range(20):
        pack_reader._give_back(memoryview(bytearray(pack_reader._ROOM_BYTES)))
        pack_reader._give_back(memoryview(bytearray(1)))
    assert len(pack_reader._idle) == pack_reader._MOST_IDLE
    assert {len(room) for room in pack_reader._idle} == {pack_reader._ROOM_BYTES}


def test_a_damaged_base_is_an_error_of_what_needs_it() -> None:
    built = Deltas()
    first = built.key(words(0))
    second = built.delta(words(2), [first])
    built.delta(words(4), [second])
    other = built.key(words(77))
    reader, ref, storage = stored(built.pack)
    records = reader.records(ref)
    data = bytearray(content(storage, pack_name(ref.id)))
    data[records[first].offset + 5] ^= 1
    put_file(storage, pack_name(ref.id), bytes(data))
    reader = PackReader(storage)
    for number in (first, second, 2):
        with pytest.raises(DamagedObject) as raised:
            reader.read_record(pack_name(ref.id), records[number])
        assert raised.value.facts["id"] == records[number].id.hex()[:12]
        assert pack_name(ref.id) in raised.value.facts["location"]
    assert bytes(reader.read_record(pack_name(ref.id), records[other])) == words(77)


def test_a_delta_that_its_footer_does_not_list_is_refused() -> None:
    built = Deltas()
    built.delta(words(2), [built.key(words(0))])
    reader, ref, _ = stored(built.pack)
    record = reader.records(ref)[1]
    for wrong in (record._replace(offset=record.offset + 64), record._replace(id=ObjectId(bytes(32)))):
        with pytest.raises(DamagedObject):
            reader.read_record(pack_name(ref.id), wrong)


def test_no_more_bases_are_decoded_than_the_format_allows() -> None:
    built = Deltas()
    level = [built.key(words(number)) for number in range(16)]
    cost, tops = 1, []
    while len(level) > 1:
        cost += 1
        # The costs say less than the truth, as a hostile footer may.
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [built.delta(words(90 + n + 10 * cost), pair, 3, cost=cost) for n, pair in enumerate(pairs)]
        tops.append(level[0])
    assert limits.MAX_DECODE_COST == 16
    reader, ref, _ = stored(built.pack)
    records = reader.records(ref)
    for number in tops[:-1]:  # of 3, 7 and 15 records
        assert bytes(reader.read_record(pack_name(ref.id), records[number])) == built.plains[number]
    with pytest.raises(DamagedObject):  # of 31
        reader.read_record(pack_name(ref.id), records[tops[-1]])


@pytest.mark.parametrize("wrong", [{"kind": 200, "length": 1 << 31}, {"kind": 200}, {"length": 1 << 20}])
def test_a_base_of_another_length_or_an_unknown_kind_is_not_decoded(wrong: dict[str, Any]) -> None:
    built = Deltas()
    built.plains.append(words(0))
    base = built.pack.add(words(0), codec=Codec.ZSTD, element=INT32, id=ObjectId(bytes(32)), **wrong)
    delta = built.delta(words(2), [base])
    reader, ref, _ = stored(built.pack)
    with pytest.raises(DamagedObject, match="another length or kind"):
        reader.read_record(pack_name(ref.id), reader.records(ref)[delta])


def test_a_delta_of_which_the_footer_says_otherwise_is_not_decoded() -> None:
    built = Deltas()
    delta = built.delta(words(2), [built.key(words(0))], id=object_id(Kind.CHUNK, words(2)), kind=200)
    reader, ref, _ = stored(built.pack)
    with pytest.raises(DamagedObject, match="does not list it"):
        reader.read_record(pack_name(ref.id), reader.records(ref)[delta]._replace(kind=Kind.CHUNK))


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0},
        {"length": (1 << 20) + 1, "stored": (1 << 20) + 1},
        {"stored": 2000},
        {"length": 99},
        {"offset": 1 << 30},
        {"offset": 4096 + 64},
        {"codec": 1},
        {"codec": 2},
        {"codec": 3},
        {"kind": Kind.TREE},
        {"id": ObjectId(bytes(32))},
    ],
)
def test_a_record_that_does_not_fit_its_bytes_is_damage(wrong: dict[str, Any]) -> None:
    pack, _ = plain_pack()
    reader, ref, _ = stored(pack)
    record = reader.records(ref)[0]._replace(**wrong)
    with pytest.raises(DamagedObject):
        reader.read_record(pack_name(ref.id), record)
    with pytest.raises(DamagedObject):
        reader.read_record(pack_name(ref.id), record, memoryview(bytearray(record.length)))


@pytest.mark.parametrize("wrong", [{"kind": 200}, {"kind": 7}])
def test_a_kind_of_a_newer_release_is_no_damage(wrong: dict[str, Any]) -> None:
    pack, _ = plain_pack()
    reader, ref, _ = stored(pack)
    with pytest.raises(FormatError):
        reader.read_record(pack_name(ref.id), reader.records(ref)[0]._replace(**wrong))


def test_a_missing_file_is_named() -> None:
    pack, _ = plain_pack()
    reader, ref, storage = stored(pack)
    record = reader.records(ref)[0]
    storage.unlink(pack_name(ref.id))
    reader.forget(pack_name(ref.id))
    with pytest.raises(DamagedObject) as raised:
        reader.read_record(pack_name(ref.id), record)
    assert raised.value.facts["problem"] == "the file is missing"


def test_objects_of_journal_files_are_read_by_the_name_of_the_file() -> None:
    storage = MemoryStorage({"journal/0.log": b"#" * 64 + b"plain"})
    pack = Pack()
    pack.add(b"plain")
    record = pack.records[0]._replace(offset=64)
    assert bytes(PackReader(storage).read_record("journal/0.log", record)) == b"plain"


# ---- footers


def test_contents_are_kept_and_files_are_closed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_reader, "OPEN_FILES", 3)
    monkeypatch.setattr(pack_reader, "KEPT_FOOTERS", 2)
    storage = MemoryStorage({"packs": None})
    reader, refs = PackReader(storage), []
    for number in range(6):
        pack = Pack()
        pack.add(noise(str(number), 50))
        refs.append(stored(pack, storage)[1])
    for ref in [*refs, *refs]:
        (record,) = reader.records(ref)
        assert len(reader.read_plain(ref, record)) == 50
    assert len(reader._files) == 3
    assert len(reader._footers) == 2
    reader.close()
    assert (len(reader._files), len(reader._footers)) == (0, 0)
    assert reader.records(refs[0])


def test_a_pack_under_the_name_of_another_is_refused() -> None:
    pack, _ = plain_pack()
    _, ref, storage = stored(pack)
    other = PackId(bytes(32))
    put_file(storage, pack_name(other), content(storage, pack_name(ref.id)))
    reader = PackReader(storage)
    with pytest.raises(IntegrityError):
        reader.contents(other)
    with pytest.raises(FileNotFoundError):
        reader.contents(PackId(b"\1" * 32))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4095, 4096, 8192])
def test_a_file_that_is_no_pack_is_refused(size: int) -> None:
    for fill in (b"\0", b"\xff"):
        name = PackId(bytes(32))
        reader = PackReader(MemoryStorage({pack_name(name): fill * size}))
        with pytest.raises(IntegrityError):
            reader.contents(name)
        assert reader.salvage(name) == []
        assert reader.records(PackRef(name, size)) == []
        assert reader.hints(PackRef(name, size)) == {}


def test_threads_read_one_pack_at_once() -> None:
    pack, plains = plain_pack()
    reader, ref, _ = stored(pack)
    wrong: list[Any] = []

    def read() -> None:
        for _ in range(50):
            for record, plain in zip(reader.records(ref), plains, strict=True):
                if bytes(reader.read_record(pack_name(ref.id), record)) != plain:
                    wrong.append(record)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- salvage


def salvaged(pack: Pack, spoil: Any) -> list[p.Record]:
    data = bytearray(pack.finish())
    spoil(data)
    storage = MemoryStorage({pack_name(pack.id): bytes(data)})
    return PackReader(storage).records(PackRef(pack.id, len(data)))


def test_without_an_end_the_extents_tell_everything() -> None:
    pack, _ = plain_pack()
    end = pack.extents[-1]["offset"] + p.BLOCK
    assert salvaged(pack, lambda data: data.__delitem__(slice(end, None))) == pack.records
    assert salvaged(pack, lambda data: data.__setitem__(slice(-64, None), bytes(64))) == pack.records
    assert salvaged(pack, lambda data: data.__setitem__(slice(0, 4096), bytes(4096))) == pack.records


@pytest.mark.parametrize("number", range(3))
def test_every_whole_extent_is_salvaged_whatever_happened_to_the_others(number: int) -> None:
    pack, _ = plain_pack()

    def spoil(data: bytearray) -> None:
        data[-1] ^= 1
        data[pack.extents[number]["offset"] + 40] ^= 1

    assert salvaged(pack, spoil) == [r for at, r in enumerate(pack.records) if at // 2 != number]


def test_a_cut_pack_gives_the_extents_before_the_cut() -> None:
    pack, _ = plain_pack()
    for keep in range(4):
        cut = pack.extents[keep]["offset"] if keep < 3 else pack.extents[2]["offset"] + p.BLOCK
        assert salvaged(pack, lambda data, cut=cut: data.__delitem__(slice(cut, None))) == pack.records[: 2 * keep]


def test_salvage_works_across_the_steps_it_reads_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_reader, "SALVAGE_STEP", 4096)
    pack, _ = plain_pack()
    assert salvaged(pack, lambda data: data.__setitem__(-1, 0)) == pack.records


def test_deltas_without_a_footer_are_listed_but_not_decoded() -> None:
    built = Deltas()
    built.delta(words(2), [built.key(words(0))])
    data = bytearray(built.pack.finish())
    data[-1] ^= 1
    name = pack_name(built.pack.id)
    reader = PackReader(MemoryStorage({name: bytes(data)}))
    key, delta = reader.records(PackRef(built.pack.id, len(data)))
    assert bytes(reader.read_record(name, key)) == words(0)
    with pytest.raises(DamagedObject):
        reader.read_record(name, delta)


def test_a_pack_stored_as_data_is_not_salvaged_as_part_of_the_pack_it_lies_in() -> None:
    inner, _ = plain_pack()
    outer = Pack()
    outer.add(inner.finish())
    outer.add(b"other")
    assert salvaged(outer, lambda data: data.__setitem__(-1, 0)) == outer.records
