from __future__ import annotations

from typing import Any

import pytest

from casckpt.errors import StorageError
from casckpt.format.canonical import decode
from casckpt.format.entry import Drop, Entry, Mark, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.format.limits import MAX_MARK_BYTES
from casckpt.odb import journal, seal
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository
from casckpt.ops.keep_policy import MAX_RUN_POLICY_BYTES
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, Killed, at, never, on
from tests.support.build import noise
from tests.unit.odb.support import NOW, new_repository

NAME = CommitId(ObjectId(b"c" * 32))


def step(repository: Repository, number: int, *, large: bool = False, **fields: Any) -> bytes:
    """One step with an object, and a ref that it moves."""
    plain = noise(f"object {number}", 90_000 if large else 200)
    with repository.session() as session:
        session.put_chunk(plain, 0)
        moves = (RefMove(f"runs/r{number % 3}/last", None, CommitId(object_id(Kind.CHUNK, plain))),)
        session.publish(lambda: (Entry("test", NOW + number, refs=moves, **fields), []))
    return plain


def sealed(repository: Repository) -> None:
    database = repository.database
    with database.storage.lock("journal", exclusive=True, wait_s=0):
        database.refresh()
        seal.seal(database, uuid=repository.format.uuid, time_ns=NOW, by="test")


def view(database: Database) -> dict[str, Any]:
    """Everything a snapshot must restate."""
    return {
        "refs": database.refs(),
        "runs": {run: decode(value, "x") for run, value in database.tables.scan(t.RUNS)},
        "drops": dict(database.tables.scan(t.DROPS)),
        "marks": dict(database.tables.scan(t.MARKS)),
        "commits": dict(database.tables.scan(t.COMMITS)),
    }


def test_the_next_file_restates_everything_and_objects_are_in_a_pack() -> None:
    repository = new_repository()
    plains = [step(repository, number, large=number == 2) for number in range(5)]
    facts: dict[str, Any] = {"runs": {"r0": {"best": ["loss", "min"]}}, "marks": (Mark(NAME, "note", None, "good"),)}
    step(repository, 5, drops=(Drop(NAME, ("opt",), "rule", 5),), **facts)
    before, seq = view(repository.database), repository.database.tail.position.seq
    packs = set(repository.database.pack_set())
    sealed(repository)
    fresh = Database(repository.storage, repository.format.uuid)
    for database in (repository.database, fresh):
        assert view(database) == before
        assert database.tail.position.file == 1
        assert database.tail.position.seq > seq
        assert set(database.pack_set()) > packs
        assert len(set(database.pack_set())) == len(packs) + 1
        for plain in plains:
            identity = object_id(Kind.CHUNK, plain)
            row = database.row(identity)
            assert row is not None and not row.pack & t.IN_JOURNAL
            assert database.read(identity, Kind.CHUNK) == plain
    repository.storage.unlink("journal/0.log")
    assert view(Database(repository.storage, repository.format.uuid)) == before


def test_a_file_without_objects_is_sealed_without_a_pack() -> None:
    repository = new_repository()
    sealed(repository)
    sealed(repository)
    assert repository.storage.list("packs") == []
    assert repository.database.tail.position.file == 2


def test_what_a_pack_holds_already_is_not_packed_again() -> None:
    repository = new_repository()
    plain = step(repository, 1)
    sealed(repository)
    (first,) = repository.database.pack_set()
    with repository.session() as session:  # it is known: nothing rides
        session.put_chunk(plain, 0)
        session.publish(lambda: (Entry("test", NOW), []))
    sealed(repository)
    assert list(repository.database.pack_set()) == [first]


def test_a_long_snapshot_is_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "SNAPSHOT_ITEMS", 4)
    repository = new_repository()
    moves = tuple(RefMove(f"tags/{number}", None, NAME) for number in range(21))
    with repository.session() as session:
        session.publish(lambda: (Entry("test", NOW, refs=moves), []))
    before = view(repository.database)
    sealed(repository)
    frames = repository.database.journal.read_file(1).frames
    assert len(frames) == 1 + 6
    assert view(Database(repository.storage, repository.format.uuid)) == before


def test_the_longest_notes_are_restated_in_frames_that_a_reader_takes() -> None:
    repository = new_repository()
    note = "n" * (MAX_MARK_BYTES - 3)
    for number in range(3):
        names = (CommitId(ObjectId(noise(f"{number} {n}", 32))) for n in range(seal.SNAPSHOT_MARKS))
        step(repository, number, marks=tuple(Mark(name, "note", None, note) for name in names))
    before = view(repository.database)
    sealed(repository)
    assert view(Database(repository.storage, repository.format.uuid)) == before
    assert len(before["marks"]) == 3 * seal.SNAPSHOT_MARKS


def test_the_longest_policies_of_runs_are_restated_in_frames_that_a_reader_takes() -> None:
    repository = new_repository()
    policy = {"keep_last": 1, "metric": "x" * (MAX_RUN_POLICY_BYTES - 20)}
    for number in range(3):
        names = (f"{number} {n}".ljust(200, "r") for n in range(seal.SNAPSHOT_RUNS))
        step(repository, number, runs={name: {"retention": policy} for name in names})
    before = view(repository.database)
    sealed(repository)
    assert view(Database(repository.storage, repository.format.uuid)) == before
    assert len(before["runs"]) == 3 * seal.SNAPSHOT_RUNS


def test_a_journal_seals_itself_and_steps_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 5)
    repository = new_repository()
    plains = [step(repository, number) for number in range(40)]
    assert len(repository.database.journal.files()) > 5
    for database in (repository.database, Database(repository.storage, repository.format.uuid)):
        for plain in plains:
            assert database.read(object_id(Kind.CHUNK, plain), Kind.CHUNK) == plain
        refs = {f"runs/r{n % 3}/last": object_id(Kind.CHUNK, plain) for n, plain in enumerate(plains)}
        assert database.refs() == refs


def test_a_reader_from_before_follows_through_a_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEAL_FRAMES", 4)
    writer = new_repository()
    reader = Repository(writer.storage)
    plains = []
    for number in range(20):
        plains.append(step(writer, number))
        if number % 7 == 0:
            reader.database.refresh()
    for plain in plains:
        assert reader.database.read(object_id(Kind.CHUNK, plain), Kind.CHUNK) == plain
    assert view(reader.database) == view(writer.database)


def prepared(monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryStorage, list[bytes]]:
    """A store whose next step seals its file."""
    monkeypatch.setattr(journal, "SEAL_FRAMES", 4)
    inner = MemoryStorage()
    repository = new_repository(inner)
    return inner, [step(repository, number) for number in range(3)]


@pytest.mark.parametrize("action", ["kill", "kill-mid-write"])
def test_a_seal_that_dies_at_any_call_loses_nothing(monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    inner, plains = prepared(monkeypatch)
    files = inner.snapshot()
    number = 0
    while True:
        number += 1
        storage = MemoryStorage(files)
        faulty = FaultyStorage(storage, at(number, action))
        try:
            step(Repository(faulty), 3)
        except Killed:
            pass
        else:
            break
        repository = Repository(storage)
        for plain in plains:
            assert repository.database.read(object_id(Kind.CHUNK, plain), Kind.CHUNK) == plain
        assert repository.database.refs()["runs/r2/last"] == object_id(Kind.CHUNK, plains[2])
        again = step(repository, 3)
        assert repository.database.read(object_id(Kind.CHUNK, again), Kind.CHUNK) == again
        assert storage.list("tmp") == []
    assert number > 12


@pytest.mark.parametrize(
    ("call", "prefix"),
    [("create", "tmp/pack"), ("sync", "tmp/pack"), ("create", "tmp/journal"), ("sync", "tmp/journal")],
)
def test_a_file_that_cannot_be_sealed_is_no_harm_to_the_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, prefix: str
) -> None:
    inner, _ = prepared(monkeypatch)
    faulty = FaultyStorage(inner, on(call, "eio", prefix=prefix))
    repository = Repository(faulty)
    made = step(repository, 3)
    assert "not sealed" in caplog.text
    assert inner.list("journal") == ["0.log"]
    assert repository.database.read(object_id(Kind.CHUNK, made), Kind.CHUNK) == made
    faulty.plan = never
    step(repository, 4)
    assert inner.list("journal") == ["0.log", "1.log"]
    assert Repository(inner).database.read(object_id(Kind.CHUNK, made), Kind.CHUNK) == made


def test_a_file_whose_name_may_be_lost_fails_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, plains = prepared(monkeypatch)
    faulty = FaultyStorage(inner, lambda n, call, name: "eio" if (call, name) in BROKEN else None)
    with pytest.raises(StorageError):
        step(Repository(faulty), 3)
    # It kept its name, so readers went on to it: nobody may append to the one before.
    repository = Repository(inner)
    assert repository.database.tail.position.file == 1
    for plain in plains:
        assert repository.database.read(object_id(Kind.CHUNK, plain), Kind.CHUNK) == plain
    step(repository, 5)


BROKEN = {("sync_dir", "journal"), ("unlink", "journal/1.log")}
