from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from casckpt.errors import DamagedObject
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop, Entry, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.odb import database as module
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.odb.session import Session
from casckpt.storage.base import Storage
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from tests.support.build import noise
from tests.unit.odb.support import NOW, content, new_repository, put_file


@pytest.fixture(params=["memory", "local"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    storage: Storage = MemoryStorage() if request.param == "memory" else LocalStorage(tmp_path / "store")
    return new_repository(storage)


def chunk(repository: Repository, plain: bytes, *moves: RefMove, **fields: Any) -> ObjectId:
    with repository.session() as session:
        identity, _ = session.put_chunk(plain, 0)
        session.publish(lambda: (Entry("test", NOW, refs=moves, **fields), []))
    return identity


def commit(repository: Repository, run: str, *parents: CommitId, added: int | None = None) -> CommitId:
    data = Commit(TreeId(ObjectId(b"t" * 32)), parents, run, NOW, nbytes=10, message=str(len(parents))).encode()
    identity = CommitId(object_id(Kind.COMMIT, data))
    moves = (RefMove(f"runs/{run}/last", None, identity),)
    with repository.session() as session:
        session.publish(lambda: (Entry("commit", NOW, refs=moves, added=added), [(identity, Kind.COMMIT, data)]))
    return identity


def again(repository: Repository) -> Database:
    return Database(repository.storage, repository.format.uuid)


def test_refs_commits_children_and_totals_are_looked_up(repository: Repository) -> None:
    first = commit(repository, "r", added=5)
    second = commit(repository, "r", first)
    other = commit(repository, "s", first)
    for database in (repository.database, again(repository)):
        assert database.ref("runs/r/last") == second
        assert database.ref("absent") is None
        assert database.refs("runs/s/") == {"runs/s/last": other}
        assert list(database.refs()) == ["runs/r/last", "runs/s/last"]
        found = database.commit(second)
        assert found is not None and found.parents == (first,)
        assert database.commit(CommitId(ObjectId(bytes(32)))) is None
        assert {identity for identity, _ in database.commits()} == {first, second, other}
        assert [identity for identity, _ in database.commits(first[:5])] == [first]
        assert database.children(first) == sorted([second, other])
        assert database.children(second) == []
        assert database.totals() == {"r": (2, 20), "s": (1, 10)}
        assert (database.added(first), database.added(second)) == (5, None)
        assert database.added(CommitId(ObjectId(bytes(32)))) is None


def test_settings_and_drops_are_looked_up(repository: Repository) -> None:
    name = CommitId(ObjectId(b"c" * 32))
    chunk(repository, b"x", runs={"r": {"best": ["a", "min"]}}, drops=(Drop(name, None, "rule", 5),))
    for database in (repository.database, again(repository)):
        assert database.run_settings("r") == {"best": ["a", "min"]}
        assert database.run_settings("s") == {}
        assert database.drop(name) == Drop(name, None, "rule", 5)
        assert database.drop(CommitId(ObjectId(bytes(32)))) is None


def test_objects_are_read_from_frames_and_packs_into_memory_or_a_target(repository: Repository) -> None:
    for plain in (b"small", noise("large", 100_000)):
        identity = chunk(repository, plain)
        for database in (repository.database, again(repository)):
            assert bytes(database.read(identity, Kind.CHUNK)) == plain
            target = memoryview(bytearray(len(plain)))
            database.read(identity, Kind.CHUNK, target)
            assert bytes(target) == plain
            for wrong in (len(plain) - 1, len(plain) + 1):
                with pytest.raises(DamagedObject):
                    database.read(identity, Kind.CHUNK, memoryview(bytearray(wrong)))
            with pytest.raises(DamagedObject):
                database.read(identity, Kind.META)


def test_an_object_that_is_nowhere_is_damage_that_names_it(repository: Repository) -> None:
    with pytest.raises(DamagedObject) as raised:
        repository.database.read(ObjectId(b"\1" * 32), Kind.TREE)
    assert (raised.value.facts["kind"], raised.value.facts["id"]) == ("tree", "010101010101")


def test_a_handle_sees_what_another_wrote_when_it_asks(repository: Repository) -> None:
    other = again(repository)
    identity = chunk(repository, noise("a", 90_000), RefMove("runs/r/last", None, CommitId(ObjectId(b"c" * 32))))
    assert bytes(other.read(identity, Kind.CHUNK)) == noise("a", 90_000)
    other.refresh()
    assert other.refs() == repository.database.refs()
    assert list(other.pack_set()) == list(repository.database.pack_set())
    assert other.has_pack(next(other.pack_set()).id)


def test_the_second_copy_of_a_damaged_object_is_read(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = noise("a", 90_000)
    identity = chunk(repository, plain)
    (first,) = repository.database.pack_set()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "scan", lambda self, identity, *_: self._known.get(identity))
        with repository.session() as session:
            session.put_chunk(plain, 0)
            session.hints = {"another": 1}
            session.publish(lambda: (Entry("test", NOW), []))
    second = next(pack for pack in repository.database.pack_set() if pack != first)
    whole = {pack: content(repository.storage, pack_name(pack.id)) for pack in (first, second)}
    for pack in (first, second):
        put_file(repository.storage, pack_name(pack.id), whole[pack][:4096] + bytes(len(whole[pack]) - 4096))
        for database in (repository.database, again(repository)):
            database.packs.close()
            assert bytes(database.read(identity, Kind.CHUNK)) == plain
            assert len(list(database.copies(identity))) >= 1
        put_file(repository.storage, pack_name(pack.id), whole[pack])
    for pack in (first, second):
        put_file(repository.storage, pack_name(pack.id), bytes(len(whole[pack])))
    with pytest.raises(DamagedObject):
        again(repository).read(identity, Kind.CHUNK)


def test_a_frame_that_was_taken_back_is_forgotten(repository: Repository) -> None:
    before = content(repository.storage, "journal/0.log")
    chunk(repository, b"x", RefMove("tags/gone", None, CommitId(ObjectId(b"c" * 32))))
    other = again(repository)
    assert list(other.refs()) == ["tags/gone"]
    repository.database.release()
    put_file(repository.storage, "journal/0.log", before)
    other.refresh()
    assert other.refs() == {}


# ---- the index


@pytest.fixture
def local(tmp_path: Path) -> Repository:
    return new_repository(LocalStorage(tmp_path / "store"))


def indexed(repository: Repository) -> int:
    """Up to which frame the index is."""
    position = module.read_position(repository.database._index)
    assert position is not None
    return position.seq


def test_the_index_follows_packs_at_once_and_small_steps_after_many_or_at_close(
    local: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.PENDING_FRAMES == 256
    monkeypatch.setattr("casckpt.odb.session.PENDING_FRAMES", 5)
    seq = indexed(local)
    for number in range(4):
        chunk(local, b"%d" % number)
        assert indexed(local) == seq
    chunk(local, b"the fifth")
    assert indexed(local) == seq + 5
    chunk(local, b"small")
    chunk(local, noise("large", 90_000))
    assert indexed(local) == seq + 7
    chunk(local, b"last")
    local.close()
    reopened = Repository(local.storage)
    assert not reopened.database.rebuilt
    assert indexed(reopened) == seq + 8


def test_an_index_that_is_ahead_of_the_journal_is_rebuilt(local: Repository, caplog: pytest.LogCaptureFixture) -> None:
    before = content(local.storage, "journal/0.log")
    chunk(local, noise("a", 90_000), RefMove("tags/gone", None, CommitId(ObjectId(b"c" * 32))))
    local.close()
    put_file(local.storage, "journal/0.log", before)
    database = again(local)
    assert database.rebuilt
    assert database.refs() == {}
    assert list(database.pack_set()) == []
    assert "does not have" in caplog.text


def test_an_index_that_vanishes_under_a_handle_is_replaced(local: Repository, tmp_path: Path) -> None:
    identity = chunk(local, noise("a", 90_000))
    shutil.rmtree(tmp_path / "store" / "index")
    chunk(local, noise("b", 90_000))
    assert bytes(local.database.read(identity, Kind.CHUNK)) == noise("a", 90_000)
    assert (tmp_path / "store" / "index" / "data.mdb").exists()
    assert not again(local).rebuilt


def test_an_index_that_another_process_updates_is_left_to_it(local: Repository) -> None:
    seq = indexed(local)
    with local.storage.lock("index", exclusive=True, wait_s=0):
        identity = chunk(local, noise("a", 90_000))
        assert indexed(local) == seq
        assert bytes(local.database.read(identity, Kind.CHUNK)) == noise("a", 90_000)
    chunk(local, noise("b", 90_000))
    assert indexed(local) == seq + 2


def test_a_store_whose_index_cannot_be_made_works_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "INDEX_WAIT_S", 0.01)
    storage = LocalStorage(tmp_path / "store")
    new_repository(storage).close()
    shutil.rmtree(tmp_path / "store" / "index")
    with storage.lock("index", exclusive=True, wait_s=0):
        repository = Repository(storage)
        identity = chunk(repository, noise("a", 90_000))
        assert bytes(repository.database.read(identity, Kind.CHUNK)) == noise("a", 90_000)
        assert "working without the index" in caplog.text
    repository.close()
    assert again(repository).rebuilt


def test_rebuilding_on_request_keeps_everything(local: Repository) -> None:
    identity = chunk(local, noise("a", 90_000), RefMove("tags/v", None, CommitId(ObjectId(b"c" * 32))))
    local.rebuild_index()
    assert list(local.database.refs()) == ["tags/v"]
    assert bytes(local.database.read(identity, Kind.CHUNK)) == noise("a", 90_000)
    local.close()
    assert not again(local).rebuilt


def test_rows_of_a_damaged_index_page_count_as_absent(local: Repository) -> None:
    identity = chunk(local, noise("a", 90_000))
    assert local.database._index is not None
    value = local.database._index.get("rows", identity)
    assert value is not None
    wrong = value[:4] + bytes([value[4] ^ 1]) + value[5:]
    local.database._index.update(lambda tables: tables.put("rows", identity, wrong))
    assert local.database.row(identity) is None
    assert bytes(local.database.read(identity, Kind.CHUNK)) == noise("a", 90_000)
    with local.session() as session:  # costs a duplicate, never data
        session.hints = {"again": 1}
        session.put_chunk(noise("a", 90_000), 0)
        session.publish(lambda: (Entry("test", NOW), []))
    assert local.database.row(identity) is not None
    assert len(list(local.database.pack_set())) == 2


def test_writing_an_equal_pack_again_gives_back_a_damaged_row(local: Repository) -> None:
    identity = chunk(local, noise("a", 90_000))
    index = local.database._index
    assert index is not None
    value = index.get("rows", identity)
    assert value is not None
    index.update(lambda tables: tables.put("rows", identity, value[:4] + bytes([value[4] ^ 1]) + value[5:]))
    assert local.database.row(identity) is None
    assert chunk(local, noise("a", 90_000)) == identity
    assert len(list(local.database.pack_set())) == 1
    assert index.get("rows", identity) == value
    with local.session() as session:
        session.put_chunk(memoryview(noise("a", 90_000)), 0, "x")
        assert session.added == 0
