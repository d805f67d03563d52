from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import casckpt
from casckpt.errors import DamagedLeaf
from casckpt.format.entry import Entry
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.odb import fetch as fe
from casckpt.odb.fetch import ChunkLost, Want, fetch
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from tests.crash.promises import make_small
from tests.unit.odb.support import NOW, content, new_repository, noise, put_file

THREADS = [1, 2, 4]
SIZES = [1 + number * 9973 % 70_000 for number in range(40)]
PLAINS = [noise(f"fetched {number}", size) for number, size in enumerate(SIZES)]


class Odd(BaseException):
    """Nothing that anybody expects."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A store with one pack of many chunks, which are read in about twenty tasks."""
    monkeypatch.setattr(fe, "TASK_BYTES", 100_000)
    repository = new_repository()
    with repository.session() as session:
        for plain in PLAINS:
            session.put_chunk(plain, 0)
            session.end_leaf()
        session.publish(lambda: (Entry("test", NOW), []))
    return repository


def wants(target: memoryview) -> list[Want]:
    """All chunks into one memory, each owned by its number."""
    starts = itertools.accumulate(SIZES, initial=0)
    return [
        Want(object_id(Kind.CHUNK, plain), len(plain), target, start, number)
        for number, (plain, start) in enumerate(zip(PLAINS, starts, strict=False))
    ]


def nothing(done: Sequence[Want]) -> None:
    """Nobody wants to know."""


@pytest.mark.parametrize("threads", THREADS)
def test_every_chunk_gets_to_its_place_and_is_told_of_in_order(repository: Repository, threads: int) -> None:
    memory = bytearray(sum(SIZES))
    told: list[Any] = []
    fetch(repository.database, wants(memoryview(memory)), threads, lambda done: told.extend(w.owner for w in done))
    assert memory == b"".join(PLAINS)
    assert told == list(range(len(SIZES)))


@pytest.mark.parametrize("threads", THREADS)
def test_a_damaged_chunk_among_many_tasks_is_named_by_its_owner(repository: Repository, threads: int) -> None:
    (pack,) = repository.database.pack_set()
    name = pack_name(pack.id)
    whole = content(repository.storage, name)
    for bad in range(0, len(PLAINS), 5):
        damaged = bytearray(whole)
        damaged[whole.index(PLAINS[bad])] ^= 1
        storage = MemoryStorage(repository.storage.snapshot())
        put_file(storage, name, bytes(damaged))
        memory = memoryview(bytearray(sum(SIZES)))
        done: list[Sequence[Want]] = []
        with pytest.raises(ChunkLost) as raised:
            fetch(Repository(storage).database, wants(memory), threads, done.append)
        assert raised.value.owner == bad
        told = [want.owner for task in done for want in task]
        assert told == list(range(len(told)))
        assert len(told) <= bad


@pytest.mark.parametrize("threads", THREADS)
def test_of_several_damaged_chunks_the_first_one_is_named_whichever_worker_was_faster(
    repository: Repository, threads: int
) -> None:
    (pack,) = repository.database.pack_set()
    damaged = bytearray(content(repository.storage, pack_name(pack.id)))
    for bad in (9, 11, 17, 30):
        damaged[bytes(damaged).index(PLAINS[bad])] ^= 1
    put_file(repository.storage, pack_name(pack.id), bytes(damaged))
    again = Repository(repository.storage)
    for _ in range(20):
        with pytest.raises(ChunkLost) as raised:
            fetch(again.database, wants(memoryview(bytearray(sum(SIZES)))), threads, nothing)
        assert raised.value.owner == 9


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("error", [OSError, Odd, KeyboardInterrupt, MemoryError])
def test_an_error_in_a_worker_is_what_the_caller_gets(
    repository: Repository, threads: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = fe._Fetcher.run
    for number in itertools.count(1):
        tasks = itertools.count(1)

        def run(self: Any, task: Any, number: int = number, tasks: Iterator[int] = tasks) -> None:
            if next(tasks) == number:
                raise error
            inner(self, task)

        memory = bytearray(sum(SIZES))
        with monkeypatch.context() as patch:
            patch.setattr(fe._Fetcher, "run", run)
            try:
                fetch(repository.database, wants(memoryview(memory)), threads, nothing)
            except error:
                continue
        break
    assert number > 10
    assert memory == b"".join(PLAINS)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_in_the_one_who_asks_ends_the_workers_before_he_has_the_control_back(
    repository: Repository, threads: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[int] = []
    inner = fe._Fetcher.run

    def run(self: Any, task: Any) -> None:
        at_work.append(1)
        inner(self, task)
        at_work.pop()

    monkeypatch.setattr(fe._Fetcher, "run", run)
    for number in range(1, 12):
        calls = itertools.count(1)

        def done(task: Sequence[Want], number: int = number, calls: Iterator[int] = calls) -> None:
            if next(calls) == number:
                raise error

        def lazily(number: int = number, source: Callable[[memoryview], list[Want]] = wants) -> Iterator[Want]:
            for count, want in enumerate(source(memoryview(bytearray(sum(SIZES))))):
                if count == 3 * number:
                    raise error
                yield want

        with pytest.raises(error):
            fetch(repository.database, wants(memoryview(bytearray(sum(SIZES)))), threads, done)
        assert at_work == []
        with pytest.raises(error):
            fetch(repository.database, lazily(), threads, nothing)
        assert at_work == []


@pytest.mark.parametrize("threads", THREADS)
def test_a_checkout_with_a_damaged_chunk_names_the_leaf(tmp_path: Any, threads: int) -> None:
    import numpy as np

    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, threads)
        leaves = {f"leaf{number}": np.frombuffer(noise(f"leaf {number}", 300 << 10), "<f4") for number in range(12)}
        with casckpt.init(tmp_path / "store", threads=threads) as store:
            store.commit({"model": leaves})
            plain = leaves["leaf7"].tobytes()
            for path in (tmp_path / "store/packs").iterdir():
                data = bytearray(path.read_bytes())
                at = data.find(plain[:4096])
                if at >= 0:
                    data[at + 5000] ^= 1
                    path.write_bytes(data)
        with casckpt.open(tmp_path / "store", threads=threads) as store:
            with pytest.raises(DamagedLeaf) as raised:
                store.checkout()
            assert "leaf7" in str(raised.value)
            assert "leaf6" not in str(raised.value)


def test_a_want_that_is_nowhere_is_lost(repository: Repository) -> None:
    with pytest.raises(ChunkLost) as raised:
        fetch(repository.database, [Want(ObjectId(bytes(32)), 5, memoryview(bytearray(5)), 0, "it")], 2, nothing)
    assert raised.value.owner == "it"
