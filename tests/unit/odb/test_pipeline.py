from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import StateChanged, StorageError, StoreFull
from casckpt.format import pack as p
from casckpt.format.entry import Entry
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.odb import pipeline as pl
from casckpt.odb.pipeline import Piece, Pipeline
from casckpt.odb.repository import Repository, initialize
from casckpt.odb.session import Session
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, on
from tests.unit.odb.support import noise

NOW = 1_700_000_000_000_000_000
THREADS = [1, 2, 4]


@pytest.fixture
def repository() -> Repository:
    return new_repository()


def new_repository(storage: Any = None) -> Repository:
    storage = storage or MemoryStorage()
    initialize(storage, time_ns=NOW, by="test")
    return Repository(storage)


def pieces(*plains: bytes | bytearray, leaf: int = 1, private: bool = False) -> list[Piece]:
    """One piece for each; every `leaf` of them are a leaf."""

    def reader(plain: bytes | bytearray) -> Callable[[int, int], memoryview]:
        return lambda start, stop: memoryview(plain)[start:stop].toreadonly()

    return [
        Piece(reader(plain), 0, len(plain), 0, f"leaf {number}", private, (number + 1) % leaf == 0)
        for number, plain in enumerate(plains)
    ]


def put(session: Session, given: list[Piece], threads: int) -> list[ObjectId]:
    with Pipeline(session, threads) as pipeline:
        for piece in given:
            pipeline.add(piece)
        ids = pipeline.drain().ids
    return [ObjectId(ids[at : at + 32]) for at in range(0, len(ids), 32)]


def publish(session: Session) -> None:
    session.publish(lambda: (Entry("test", NOW), []))


def read(repository: Repository, plain: bytes) -> bytes:
    return bytes(repository.database.read(object_id(Kind.CHUNK, plain), Kind.CHUNK))


@pytest.mark.parametrize("threads", THREADS)
def test_ids_come_in_the_order_of_the_pieces_and_every_chunk_can_be_read(
    repository: Repository, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 128 << 10)
    plains = [noise(str(number), 1 + number * 997 % 90_000) for number in range(60)]
    with repository.session() as session:
        assert put(session, pieces(*plains, leaf=7), threads) == [object_id(Kind.CHUNK, plain) for plain in plains]
        assert session.added == sum(map(len, plains))
        publish(session)
    for plain in plains:
        assert read(repository, plain) == plain
    again = Repository(repository.storage)
    with again.session() as session:
        put(session, pieces(*plains, leaf=7), threads)
        assert session.added == 0


@given(
    lengths=st.lists(st.integers(1, 70_000), min_size=1, max_size=40),
    repeats=st.integers(1, 3),
    leaf=st.integers(1, 9),
    threads=st.sampled_from(THREADS),
)
def test_any_pieces_are_stored_once_as_a_pack_wants_them(
    lengths: list[int], repeats: int, leaf: int, threads: int
) -> None:
    plains = [noise(str(number), length) for number, length in enumerate(lengths)] * repeats
    repository = new_repository()
    with pytest.MonkeyPatch.context() as patch, repository.session() as session:
        patch.setattr(pl, "TASK_BYTES", 96 << 10)
        put(session, pieces(*plains, leaf=leaf), threads)
        publish(session)
    assert session.added == sum(lengths)
    for pack in repository.database.pack_set():
        records = repository.database.packs.contents(pack.id).records
        assert len({record.id for record in records}) == len(records)
        for record in records:
            assert record.offset % (p.BLOCK if record.stored >= p.ALIGNED_FROM else p.UNIT) == 0
        assert repository.database.packs.salvage(pack.id) == records
    for plain in plains:
        assert read(repository, plain) == plain


def test_raw_chunks_of_a_leaf_stay_contiguous_across_tasks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 256 << 10)
    plains = [noise(str(number), 64 << 10) for number in range(20)]
    with repository.session() as session:
        put(session, pieces(*plains, leaf=20), 2)
        publish(session)
    (pack,) = repository.database.pack_set()
    offsets = [record.offset for record in repository.database.packs.contents(pack.id).records]
    assert offsets == list(range(offsets[0], offsets[0] + (20 * 64 << 10), 64 << 10))


def test_a_few_new_bytes_ride_in_the_frame(repository: Repository) -> None:
    with repository.session() as session:
        put(session, pieces(b"new", b"newer"), 2)
        publish(session)
    assert list(repository.database.pack_set()) == []
    assert read(repository, b"newer") == b"newer"


@pytest.mark.parametrize("threads", THREADS)
def test_memory_that_changes_between_the_look_and_the_copy_is_an_error_that_names_the_leaf(
    repository: Repository, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = b"known" * 30
    with repository.session() as session:
        put(session, pieces(known), 1)
        publish(session)
    memory = bytearray(noise("new", 1000))

    def look(kind: int, data: Any) -> ObjectId:
        identity = object_id(kind, data)
        if data.readonly:
            memory[0] ^= 1
        return identity

    monkeypatch.setattr(pl, "object_id", look)
    with repository.session() as session:
        # After a known piece the next one is looked at before it is copied.
        with pytest.raises(StateChanged) as raised:
            put(session, pieces(known, memory), threads)
        assert raised.value.facts == {"path": "leaf 1"}


def test_while_everything_is_new_the_private_copy_alone_is_hashed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bool] = []

    def look(kind: int, data: Any) -> ObjectId:
        hashed.append(data.readonly)
        return object_id(kind, data)

    monkeypatch.setattr(pl, "object_id", look)
    with repository.session() as session:
        put(session, pieces(*[noise(str(number), 5000) for number in range(6)]), 1)
    assert hashed == [True, *[False] * 6]  # the first one is looked at, then its copy is hashed


def test_what_is_stored_is_private(repository: Repository) -> None:
    memory = bytearray(noise("x", 50_000))
    original = bytes(memory)
    with repository.session() as session:
        put(session, pieces(memory), 1)
        memory[:] = bytes(50_000)
        publish(session)
    assert read(repository, original) == original


def test_another_thread_writing_all_the_time_leaves_an_error_or_chunks_that_verify() -> None:
    memory = np.zeros(4 << 20, np.uint8)
    stop = threading.Event()

    def scribble() -> None:
        value = 0
        while not stop.is_set():
            value = (value + 1) % 251
            memory[::4099] = value

    writer = threading.Thread(target=scribble)
    writer.start()
    outcomes = set()
    try:
        for _ in range(12):
            repository = new_repository()
            with repository.session() as session:
                given = [
                    Piece(lambda start, stop: memory.data[start:stop], start, start + (1 << 20), 0, "w", False, True)
                    for start in range(0, 4 << 20, 1 << 20)
                ]
                try:
                    put(session, given, 1)
                    ids = put(session, given, 2)  # a second look, where known chunks come before changed ones
                except StateChanged:
                    outcomes.add("changed")
                    continue
                publish(session)
            for identity in ids:
                data = repository.database.read(identity, Kind.CHUNK)
                assert object_id(Kind.CHUNK, data) == identity
            outcomes.add("consistent")
    finally:
        stop.set()
        writer.join()
    assert outcomes


@pytest.mark.parametrize("threads", THREADS)
def test_a_worker_that_fails_ends_the_session_and_leaves_no_thread_and_no_file(
    repository: Repository, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 128 << 10)

    def broken(start: int, stop: int) -> memoryview:
        raise OSError("unreadable")

    given = pieces(*[noise(str(number), 90_000) for number in range(20)])
    given[13] = given[13]._replace(read=broken)
    before = threading.active_count()
    with pytest.raises(OSError, match="unreadable"), repository.session() as session:
        put(session, given, threads)
    assert threading.active_count() == before
    assert repository.storage.list("tmp") == []
    assert repository.storage.list("packs") == []


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_disk_that_fails_in_the_middle_of_a_pack_ends_the_session(
    threads: int, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 128 << 10)
    storage = MemoryStorage()
    initialize(storage, time_ns=NOW, by="test")
    faulty = FaultyStorage(storage)
    repository = Repository(faulty)
    written = 0

    def plan(number: int, call: str, name: str) -> Any:
        nonlocal written
        written += call == "write_at"
        return action if call == "write_at" and written > 5 else None

    before = threading.active_count()
    given = pieces(*[noise(str(number), 90_000) for number in range(40)])

    def commit() -> None:
        with repository.session() as session:
            faulty.plan = plan
            put(session, given, threads)
            publish(session)

    with pytest.raises(StorageError):
        commit()
    assert written == 6  # nothing is written after a failure
    assert threading.active_count() == before
    assert storage.list("tmp") == []
    faulty.plan = on("nothing", "eio")
    with repository.session() as session:
        put(session, pieces(noise("a", 90_000)), threads)
        publish(session)


@pytest.mark.parametrize("later_first", [False, True])
def test_of_equal_new_chunks_in_tasks_at_work_together_one_is_stored_whichever_worker_was_faster(
    repository: Repository, later_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 192 << 10)
    equal, first, second = (noise(name, 90_000) for name in ("equal", "first", "second"))
    given = pieces(first, equal, equal, second)
    claimed = {True: threading.Event(), False: threading.Event()}
    inner = pl._Task._piece

    def piece(self: Any, wanted: Piece) -> ObjectId:
        is_later = wanted.path == "leaf 2"
        if wanted.path in ("leaf 1", "leaf 2") and is_later != later_first:
            assert claimed[later_first].wait(60)
        identity = inner(self, wanted)
        if wanted.path in ("leaf 1", "leaf 2"):
            claimed[is_later].set()
        return identity

    monkeypatch.setattr(pl._Task, "_piece", piece)
    with repository.session() as session:
        ids = put(session, given, 2)
        assert ids == [object_id(Kind.CHUNK, plain) for plain in (first, equal, equal, second)]
        assert session.added == 270_000
        publish(session)
    (pack,) = repository.database.pack_set()
    order = [record.id for record in repository.database.packs.contents(pack.id).records]
    assert order == [ids[number] for number in ((0, 2, 3) if later_first else (0, 1, 3))]
    for plain in (first, equal, second):
        assert read(repository, plain) == plain


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("bad", range(7))
def test_a_disk_that_was_full_in_the_middle_of_a_pack_takes_the_same_chunks_later(
    threads: int, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 128 << 10)
    storage = MemoryStorage()
    initialize(storage, time_ns=NOW, by="test")
    faulty = FaultyStorage(storage)
    repository = Repository(faulty)
    plains = [noise(str(number), 90_000) for number in range(12)]
    before = threading.active_count()

    def commit() -> None:
        with repository.session() as session:
            put(session, pieces(*plains), threads)
            publish(session)

    written = 0

    def plan(number: int, call: str, name: str) -> Any:
        nonlocal written
        written += call == "write_at"
        return "enospc" if call == "write_at" and written > bad else None

    faulty.plan = plan
    with pytest.raises(StoreFull):
        commit()
    assert threading.active_count() == before
    assert storage.list("tmp") == []
    faulty.plan = on("nothing", "eio")
    commit()
    for plain in plains:
        assert read(repository, plain) == plain


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_out_of_advance_ends_the_work_at_any_step(
    repository: Repository, threads: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 128 << 10)
    plains = [noise(str(number), 90_000) for number in range(12)]
    before = threading.active_count()

    def commit(number: int) -> None:
        calls: list[int] = []

        def advance(count: int) -> None:
            calls.append(count)
            if len(calls) == number:
                raise error

        with repository.session() as session:
            with Pipeline(session, threads, advance=advance) as pipeline:
                for piece in pieces(*plains):
                    pipeline.add(piece)
                pipeline.drain()
            assert sum(calls) == 12 * 90_000
            publish(session)

    for number in range(1, 13):
        with pytest.raises(error):
            commit(number)
        assert threading.active_count() == before
        assert repository.storage.list("tmp") == []
        assert repository.storage.list("packs") == []
    commit(0)
    for plain in plains:
        assert read(repository, plain) == plain


def test_no_more_tasks_are_in_flight_than_there_are_buffers(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "TASK_BYTES", 128 << 10)
    reading = most = 0
    mutex = threading.Lock()

    def read(start: int, stop: int) -> memoryview:
        nonlocal reading, most
        with mutex:
            reading += 1
            most = max(most, reading)
        with mutex:
            reading -= 1
        return memoryview(bytes(stop - start))

    made: list[int] = []
    pool = pl.Pool

    class Counting(pool):  # type: ignore[misc, valid-type]
        def try_take(self) -> Any:
            found = super().try_take()
            if found is not None and id(found) not in made:
                made.append(id(found))
            return found

    monkeypatch.setattr(pl, "Pool", Counting)
    with repository.session() as session:
        put(session, [Piece(read, 0, 100_000 + n, 0, "x", True, True) for n in range(50)], 2)
    assert most <= 2
    assert len(made) <= 4
