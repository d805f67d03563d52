"""Many chunks at once, from wherever they lie into wherever they go."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from casckpt.errors import StorageError
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.odb.fetch import TASK_BYTES, ChunkLost, Want, fetch
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from tests.support.build import Pack, noise
from tests.unit.odb.support import NOW, chunks, new_repository, put_file

MIB = 1 << 20
GOLDEN = Path(__file__).parents[2] / "golden" / "v1"
THREADS = [1, 2, 4]


def nothing(task: Sequence[Want]) -> None:
    """Nobody listens."""


def publish(repository: Repository, *packs: PackRef) -> None:
    with repository.session() as session:
        session.publish(lambda: (Entry("test", NOW, packs=packs), []))


def adopt(repository: Repository, data: bytes, identity: Any) -> PackRef:
    """Make a finished pack one of the store."""
    ref = PackRef(identity, len(data))
    put_file(repository.storage, pack_name(identity), data)
    publish(repository, ref)
    return ref


def mixed(repository: Repository) -> dict[ObjectId, bytes]:
    """Chunks in two packs, raw and compressed in turn, in the journal, and deltas of the golden pack."""
    found: dict[ObjectId, bytes] = {}
    for seed in ("a", "b"):
        pack = Pack()
        lengths = (MIB, MIB, 70_000, 300, MIB, 4096, 5000, MIB, 1)
        for number, length in enumerate(lengths):
            compressed = number in (2, 5)
            plain = (noise(f"{seed}{number}", 100) * MIB)[:length] if compressed else noise(f"{seed}{number}", length)
            pack.add(plain, codec=Codec.ZSTD if compressed else Codec.RAW)
            found[object_id(Kind.CHUNK, plain)] = plain
        data = pack.finish()
        adopt(repository, data, pack.id)
    with repository.session() as session:
        for plain in chunks(10, 2000):
            session.put_chunk(plain, 0)
            session.end_leaf()
            found[object_id(Kind.CHUNK, plain)] = plain
        session.publish(lambda: (Entry("test", NOW), []))
    for name in ("delta.pack", "planes.pack"):
        data = (GOLDEN / name).read_bytes()
        identity, _, _ = p.decode_trailer(data[-p.TRAILER_BYTES :], len(data))
        ref = adopt(repository, data, identity)
        reader = PackReader(repository.storage)
        for record in reader.records(ref):
            if record.kind == Kind.CHUNK:
                found[record.id] = bytes(reader.read_record(pack_name(identity), record))
    return found


@pytest.fixture(scope="module")
def store() -> tuple[Repository, dict[ObjectId, bytes]]:
    repository = new_repository()
    return repository, mixed(repository)


def test_the_chunks_lie_in_every_way_there_is(store: tuple[Repository, dict[ObjectId, bytes]]) -> None:
    repository, plains = store
    codecs = {row.codec for row in map(repository.database.row, plains) if row is not None}
    assert codecs >= {Codec.RAW, Codec.ZSTD, Codec.PLANES, Codec.DELTA_PLANES}


def layout(plains: dict[ObjectId, bytes], seed: int) -> tuple[list[Want], list[tuple[memoryview, bytes]], memoryview]:
    """Wants of every kind in one buffer with gaps; every slot with what it should hold, and the buffer."""
    draw = random.Random(seed)
    order = list(plains)
    if seed:
        draw.shuffle(order)
    order += draw.choices(order, k=8)
    buffer = memoryview(bytearray(b"\xee") * (sum(len(plains[one]) for one in order) + 4096 * len(order)))
    wants, slots, at = [], [], 0
    for number, identity in enumerate(order):
        plain = plains[identity]
        kind = draw.choice(["memory", "memory", "own", "parts", "none"]) if seed else "memory"
        at += draw.choice([0, 0, 0, 64]) if seed else 0
        slot = buffer[at : at + len(plain)]
        if kind == "memory":
            wants.append(Want(identity, len(plain), buffer, at, number))
            slots.append((slot, plain))
        elif kind == "own":
            wants.append(Want(identity, len(plain), slot, 0, number))
            slots.append((slot, plain))
        elif kind == "parts":
            cuts = sorted(draw.randrange(len(plain) + 1) for _ in range(4))
            parts = [(cuts[0], slot[cuts[0] : cuts[1]]), (cuts[2], slot[cuts[2] : cuts[3]])]
            wants.append(Want(identity, len(plain), None, 0, number, parts=parts))
            slots += [(part, plain[start : start + len(part)]) for start, part in parts]
        else:
            wants.append(Want(identity, len(plain), None, 0, number))
        at += len(plain)
    return wants, slots, buffer


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("seed", range(4))
def test_every_want_is_filled_and_nothing_beside(
    store: tuple[Repository, dict[ObjectId, bytes]], seed: int, threads: int
) -> None:
    repository, plains = store
    wants, slots, buffer = layout(plains, seed)
    told: list[Want] = []
    fetch(repository.database, iter(wants), threads, told.extend)
    assert told == wants
    assert all(slot == plain for slot, plain in slots)
    for slot, _ in slots:
        slot[:] = b"\xee" * len(slot)
    assert buffer.tobytes().count(b"\xee") == len(buffer)


def test_tasks_are_told_of_in_order_and_are_not_too_large(store: tuple[Repository, dict[ObjectId, bytes]]) -> None:
    repository, plains = store
    wants = [Want(identity, len(plain), None, 0, None) for identity, plain in plains.items()] * 4
    for threads in THREADS:
        tasks: list[list[Want]] = []
        fetch(repository.database, wants, threads, lambda task: tasks.append(list(task)))  # noqa: B023
        assert [want for task in tasks for want in task] == wants
        sizes = [sum(want.length for want in task) for task in tasks]
        assert len(sizes) > 2 and max(sizes) <= TASK_BYTES and sum(sizes) == sum(want.length for want in wants)


def test_nothing_is_wanted(store: tuple[Repository, dict[ObjectId, bytes]]) -> None:
    for threads in THREADS:
        fetch(store[0].database, [], threads, nothing)


def test_wants_are_asked_for_as_they_are_needed(store: tuple[Repository, dict[ObjectId, bytes]]) -> None:
    repository, plains = store
    (identity, plain) = next((one, plain) for one, plain in plains.items() if len(plain) == MIB)
    asked = done = 0

    def wants() -> Any:
        nonlocal asked
        for _ in range(200):
            asked += 1
            assert asked - done <= (2 * 2 + 1) * TASK_BYTES // MIB + 1
            yield Want(identity, len(plain), None, 0, None)

    def advance(task: Sequence[Want]) -> None:
        nonlocal done
        done += len(task)

    fetch(repository.database, wants(), 2, advance)
    assert done == 200


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("casckpt-reader")]


@pytest.mark.parametrize("threads", THREADS)
def test_what_done_raises_ends_it_and_leaves_no_thread(
    store: tuple[Repository, dict[ObjectId, bytes]], threads: int
) -> None:
    repository, plains = store
    wants, _, _ = layout(plains, 0)
    calls = []

    def cancel(task: Sequence[Want]) -> None:
        calls.append(task)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(repository.database, wants, threads, cancel)
    assert len(calls) == 1 and not readers()


@pytest.mark.parametrize("threads", THREADS)
def test_what_the_wants_raise_ends_it_and_leaves_no_thread(
    store: tuple[Repository, dict[ObjectId, bytes]], threads: int
) -> None:
    repository, plains = store

    def wants() -> Any:
        yield from layout(plains, 0)[0]
        raise StorageError(operation="read", path="x", problem="broken")

    with pytest.raises(StorageError):
        fetch(repository.database, wants(), threads, nothing)
    assert not readers()


# ---- slack


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 300_000, MIB - 1])
def test_slack_reaches_to_the_next_page_and_no_further(length: int) -> None:
    repository = new_repository()
    pack = Pack()
    plains = [noise("first", MIB), noise("last", length), noise("next", MIB)]
    for plain in plains:
        pack.add(plain)
    adopt(repository, pack.finish(), pack.id)
    first, last, _ = (object_id(Kind.CHUNK, plain) for plain in plains)
    end = MIB + length
    room = end + -end % 4096
    for buffer in (bytearray(b"\xee") * (room + 8192), bytearray(b"\xee") * end):
        wants = [
            Want(first, MIB, memoryview(buffer), 0, None),
            Want(last, length, memoryview(buffer), MIB, None, slack=len(buffer) > end),
        ]
        wants[1] = wants[1]._replace(memory=wants[0].memory)
        fetch(repository.database, wants, 1, nothing)
        assert buffer[:end] == plains[0] + plains[1]
        assert set(buffer[room:]) <= {0xEE}
    without = bytearray(b"\xee") * (room + 8192)
    fetch(repository.database, [Want(last, length, memoryview(without), 0, None)], 1, nothing)
    assert without[:length] == plains[1] and set(without[length:]) == {0xEE}


# ---- damage


def two_packs(copies: int) -> tuple[Repository, list[bytes], list[Pack]]:
    """Twelve chunks of 1 MiB in one pack, the fifth of them damaged there; in `copies` packs more it is whole."""
    repository = new_repository()
    plains = [noise(f"chunk {number}", MIB) for number in range(12)]
    packs = []
    for number in range(copies + 1):
        pack = Pack()
        for plain in plains:
            pack.add(plain)
        if number:
            pack.add(noise(f"only in {number}", 100))
        packs.append(pack)
    # The one that comes last is the one that is read.
    for pack in packs:
        adopt(repository, pack.finish(), pack.id)
    return repository, plains, packs


def spoil(repository: Repository, identity: ObjectId, *, cut: bool = False) -> str:
    """Damage the copy of a chunk that the database reads first; the name of its file."""
    row = repository.database.row(identity)
    assert row is not None
    name = repository.database.file_of(row)
    assert name is not None
    file = repository.storage.open_write(name)
    if cut:
        file.truncate(row.offset + 100)
    else:
        file.write_at(b"damage", row.offset + 1000)
    file.close()
    return name


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("way", ["memory", "parts", "verify"])
@pytest.mark.parametrize("harm", ["flip", "cut", "unlink"])
def test_a_chunk_with_a_second_copy_is_healed_by_it(threads: int, way: str, harm: str) -> None:
    repository, plains, _ = two_packs(1)
    ids = [object_id(Kind.CHUNK, plain) for plain in plains]
    name = spoil(repository, ids[5], cut=harm == "cut")
    if harm == "unlink":
        repository.storage.unlink(name)
        repository = Repository(repository.storage)
    buffer = memoryview(bytearray(12 * MIB))
    wants = [Want(one, MIB, buffer, number * MIB, number) for number, one in enumerate(ids)]
    if way == "parts":
        wants = [want._replace(memory=None, parts=[(100, buffer[want.at + 100 : want.at + MIB])]) for want in wants]
    elif way == "verify":
        wants = [want._replace(memory=None) for want in wants]
    fetch(repository.database, wants, threads, nothing)
    for number, plain in enumerate(plains):
        if way != "verify":
            start = 100 if way == "parts" else 0
            assert buffer[number * MIB + start : (number + 1) * MIB] == plain[start:]
    if way == "verify":
        assert not np.frombuffer(buffer, np.uint8).any()


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("way", ["memory", "parts", "verify"])
def test_a_chunk_without_a_copy_is_lost_and_names_its_owner(threads: int, way: str) -> None:
    repository, plains, _ = two_packs(0)
    ids = [object_id(Kind.CHUNK, plain) for plain in plains]
    spoil(repository, ids[5])
    buffer = memoryview(bytearray(12 * MIB))
    wants = [Want(one, MIB, buffer, number * MIB, f"owner {number}") for number, one in enumerate(ids)]
    if way == "parts":
        wants = [want._replace(memory=None, parts=[(0, buffer[want.at : want.at + 10])]) for want in wants]
    elif way == "verify":
        wants = [want._replace(memory=None) for want in wants]
    with pytest.raises(ChunkLost) as found:
        fetch(repository.database, wants, threads, nothing)
    assert found.value.owner == "owner 5"
    assert found.value.error.facts["id"] == ids[5].hex()[:12]
    assert not readers()


def test_a_chunk_that_nobody_has_is_lost() -> None:
    repository, plains, _ = two_packs(0)
    for want in (
        Want(object_id(Kind.CHUNK, b"other"), 5, None, 0, "me"),
        Want(object_id(Kind.CHUNK, b"other"), 5, memoryview(bytearray(5)), 0, "me"),
        Want(object_id(Kind.CHUNK, plains[0]), MIB - 1, None, 0, "me"),
        Want(object_id(Kind.CHUNK, plains[0]), MIB - 1, memoryview(bytearray(MIB)), 0, "me"),
        Want(object_id(Kind.CHUNK, plains[0]), MIB + 1, memoryview(bytearray(MIB + 1)), 0, "me"),
    ):
        with pytest.raises(ChunkLost) as found:
            fetch(repository.database, [want], 1, nothing)
        assert found.value.owner == "me"


@pytest.mark.parametrize("name", ["delta.pack", "planes.pack"])
def test_a_damaged_golden_record_is_lost_by_name(name: str) -> None:
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    (entry,) = [one for one in vectors["files"] if one["file"] == name]
    data = (GOLDEN / name).read_bytes()
    storage = MemoryStorage()
    repository = new_repository(storage)
    identity, _, _ = p.decode_trailer(data[-p.TRAILER_BYTES :], len(data))
    adopt(repository, data, identity)
    records = PackReader(storage).records(PackRef(identity, len(data)))
    ids = [record.id for record in records]
    single = [record for record in records if record.kind == Kind.CHUNK and ids.count(record.id) == 1]
    victim = max(single, key=lambda record: (record.cost, record.stored))
    file = storage.open_write(pack_name(identity))
    middle = victim.offset + victim.stored // 2
    file.write_at(bytes([data[middle] ^ 0xFF]), middle)
    file.close()
    assert victim.id.hex() in {record["id"]["hex"] for record in entry["expect"]["records"]}
    for record in records:
        if record.kind != Kind.CHUNK:
            continue
        target = memoryview(bytearray(record.length))
        want = Want(record.id, record.length, target, 0, record.id)
        if record.id == victim.id:
            with pytest.raises(ChunkLost) as found:
                fetch(repository.database, [want], 1, nothing)
            assert found.value.owner == record.id
        else:
            fetch(repository.database, [want], 1, nothing)
            assert object_id(Kind.CHUNK, target) == record.id
