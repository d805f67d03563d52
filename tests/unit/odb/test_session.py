from __future__ import annotations

import contextlib
from typing import Any

import pytest

from casckpt.errors import ConflictError, DamagedObject, StorageError, StoreFull, TooLarge
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.odb import session as s
from casckpt.odb.repository import Repository
from casckpt.odb.session import FRAME_OBJECT_BYTES, Session
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, never, on
from tests.support.build import noise
from tests.unit.odb.support import NOW, content, new_repository, raw


@pytest.fixture
def repository() -> Repository:
    return new_repository()


def publish(session: Session, *moves: RefMove, riding: Any = ()) -> None:
    session.publish(lambda: (Entry("test", NOW, refs=moves), list(riding)))


def put(repository: Repository, *chunks: bytes) -> None:
    with repository.session() as session:
        for chunk in chunks:
            session.put_chunk(chunk, 0)
            session.end_leaf()
        publish(session)


def packs(repository: Repository) -> list[str]:
    return repository.storage.list("packs")


def read(repository: Repository, plain: bytes, kind: Kind = Kind.CHUNK) -> bytes:
    return bytes(repository.database.read(object_id(kind, plain), kind))


# ---- where objects go


def test_a_session_without_publish_has_no_effect(repository: Repository) -> None:
    before = repository.storage.snapshot()  # type: ignore[attr-defined]
    with repository.session() as session:
        session.put_chunk(noise("a", 200_000), 0)
    with contextlib.suppress(KeyError), repository.session() as session:
        session.put_chunk(noise("b", 200_000), 0)
        raise KeyError
    assert repository.storage.snapshot() == before  # type: ignore[attr-defined]
    with repository.storage.lock("commit", exclusive=True, wait_s=0):
        pass


@pytest.mark.parametrize(("over", "expected"), [(-1, 0), (0, 0), (1, 1)])
def test_new_objects_of_up_to_64_kib_ride_in_the_frame(repository: Repository, over: int, expected: int) -> None:
    plain = noise("a", FRAME_OBJECT_BYTES + over)
    put(repository, plain)
    assert len(packs(repository)) == expected
    assert read(repository, plain) == plain


def test_what_rides_is_counted_over_all_objects_and_then_goes_into_one_pack_together(repository: Repository) -> None:
    pieces = [noise(str(number), 9000) for number in range(7)]
    put(repository, *pieces)
    assert packs(repository) == []
    more = [noise(f"more {number}", 9000) for number in range(8)]  # the eighth is too much
    put(repository, *more)
    assert len(packs(repository)) == 1
    for piece in pieces + more:
        assert read(repository, piece) == piece
    (pack,) = repository.database.pack_set()
    assert len(repository.database.packs.records(pack)) == 8


def test_compressed_bytes_are_what_counts(repository: Repository) -> None:
    plain = b"a" * 500_000
    with repository.session() as session:
        session.put(Kind.META, plain)
        assert session.added < 1000
        publish(session)
    assert packs(repository) == []
    assert read(repository, plain, Kind.META) == plain


def test_what_the_store_has_is_not_stored_again(repository: Repository) -> None:
    small, large = noise("small", 100), noise("large", 100_000)
    put(repository, small)
    put(repository, large)
    with repository.session() as session:
        for plain in (small, large, small):
            session.put_chunk(plain, 0)
        session.put_chunk(b"new", 0)
        session.put_chunk(b"new", 0)
        assert session.added == 3
        publish(session)
    assert len(packs(repository)) == 1


def test_the_kind_is_part_of_what_is_known(repository: Repository) -> None:
    with repository.session() as session:
        chunk, _ = session.put_chunk(b"same bytes", 0)
        meta, page = session.put(Kind.META, b"same bytes"), session.put(Kind.PAGE, b"same bytes")
        assert len({chunk, meta, page}) == 3
        assert not session.has(chunk, Kind.CHUNK, 11) or chunk in session._known
        publish(session)
    with repository.session() as session:
        assert session.has(chunk, Kind.CHUNK, 10)
        assert not session.has(chunk, Kind.META, 10)
        assert not session.has(chunk, Kind.CHUNK, 11)


def test_a_part_that_adds_much_ends_its_pack(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s.OWN_PACK_BYTES == 16 << 20
    monkeypatch.setattr(s, "OWN_PACK_BYTES", 200_000)
    parts = {"model": (150_000, 150_000), "tiny": (10,), "optimizer": (199_000,), "rest": (1000, 1001)}
    with repository.session() as session:
        for name, lengths in parts.items():
            session.begin_part()
            for length in lengths:
                session.put_chunk(noise(f"{name} {length}" + str(session.added), length), 0)
                session.end_leaf()
            session.end_part()
        publish(session)
    records = [len(repository.database.packs.records(pack)) for pack in repository.database.pack_set()]
    assert sorted(records) == [2, 4]


def test_after_a_pack_was_closed_even_small_objects_go_into_the_next(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s, "OWN_PACK_BYTES", 100_000)
    with repository.session() as session:
        session.begin_part()
        session.put_chunk(noise("a", 120_000), 0)
        session.end_part()
        session.put_chunk(b"small", 0)
        publish(session)
    assert len(packs(repository)) == 2
    assert read(repository, b"small") == b"small"


def test_a_pack_is_cut_at_the_end_of_a_leaf_when_it_is_full(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("casckpt.format.pack.PACK_BYTES", 250_000)
    put(repository, *(noise(str(number), 100_000) for number in range(7)))
    sizes = sorted(len(repository.database.packs.records(pack)) for pack in repository.database.pack_set())
    assert sizes == [1, 3, 3]


def test_hints_are_in_every_pack(repository: Repository) -> None:
    with repository.session() as session:
        session.hints = {"run": "r", "step": 5}
        session.put_chunk(noise("a", 100_000), 0)
        publish(session)
    (pack,) = repository.database.pack_set()
    assert repository.database.packs.hints(pack) == {"run": "r", "step": 5}


# ---- publishing


def test_refs_and_riding_objects_are_there_at_once(repository: Repository) -> None:
    identity = CommitId(object_id(Kind.META, b"rides"))
    with repository.session() as session:
        publish(session, RefMove("runs/r/last", None, identity), riding=[(identity, Kind.META, b"rides")])
    assert repository.database.refs() == {"runs/r/last": identity}
    assert read(repository, b"rides", Kind.META) == b"rides"
    again = Repository(repository.storage)
    assert again.database.refs() == {"runs/r/last": identity}


def test_a_step_that_is_refused_has_no_effect(repository: Repository) -> None:
    before = content(repository.storage, "journal/0.log")

    def refuse() -> Any:
        raise KeyError

    with repository.session() as session:
        session.put_chunk(b"x", 0)
        with pytest.raises(KeyError):
            session.publish(refuse)
    assert content(repository.storage, "journal/0.log") == before


def test_a_conflict_keeps_the_packs_for_the_next_try(repository: Repository) -> None:
    plain = noise("a", 100_000)

    def refuse() -> Any:
        raise ConflictError(ref="r", expected="a", actual="b")

    with repository.session() as session:
        session.put_chunk(plain, 0)
        with pytest.raises(ConflictError):
            session.publish(refuse)
    assert repository.database.refs() == {}
    with repository.session() as session:
        session.put_chunk(plain, 0)
        assert session.added == 0


def test_a_pack_a_step_relied_on_must_still_be_there(repository: Repository) -> None:
    plain = noise("a", 100_000)
    put(repository, plain)
    (name,) = packs(repository)
    for spoil in ("shorter", "gone"):
        with repository.session() as session:
            session.put_chunk(plain, 0)
            data = content(repository.storage, f"packs/{name}")
            repository.storage.unlink(f"packs/{name}")
            if spoil == "shorter":
                file = repository.storage.create(f"packs/{name}")
                file.write_at(data[:-4096], 0)
                file.close()
            with pytest.raises(DamagedObject) as raised:
                publish(session)
        assert name in str(raised.value)
    assert repository.database.tail.position.seq == 2


def test_a_pack_that_left_the_pack_set_is_not_relied_on(repository: Repository) -> None:
    plain = noise("a", 100_000)
    put(repository, plain)
    (pack,) = repository.database.pack_set()
    with repository.session() as session:
        session.put_chunk(plain, 0)
        with repository.session() as other:
            other.publish(lambda: (Entry("gc", NOW, gone=(pack.id,)), []))
        with pytest.raises(DamagedObject):
            publish(session)
    put(repository, plain)
    assert read(repository, plain) == plain


@pytest.mark.parametrize("call", ["create", "write_at", "sync", "rename", "sync_dir", "open_write"])
@pytest.mark.parametrize("large", [False, True])
def test_a_full_disk_at_any_call_is_an_error_that_changes_nothing(call: str, large: bool) -> None:
    inner = MemoryStorage()
    new_repository(inner)
    faulty = FaultyStorage(inner)
    repository = Repository(faulty)
    put(repository, noise("before", 70_000))
    before = {name: data for name, data in inner.snapshot().items() if not name.startswith("lock")}
    plain = noise("a", 100_000 if large else 100)
    count = len(faulty.calls)
    faulty.plan = on(call, "enospc")
    try:
        put(repository, plain)
    except StorageError as error:
        failed: StorageError | None = error
    else:
        failed = None
    after = {name: data for name, data in inner.snapshot().items() if not name.startswith("lock")}
    if failed is None:
        # A tiny step needs neither files nor names, and the journal is open already.
        assert not any(done.startswith(f"{call} ") for done in faulty.calls[count:])
    else:
        assert isinstance(failed, StoreFull)
        assert {n: d for n, d in after.items() if not n.startswith("packs/")} == {
            n: d for n, d in before.items() if not n.startswith("packs/")
        }
    faulty.plan = never
    put(repository, plain)
    assert read(repository, plain) == plain
    assert read(Repository(inner), plain) == plain


def test_objects_a_reader_would_refuse_are_refused_before_they_are_written(repository: Repository) -> None:
    with repository.session() as session, pytest.raises(TooLarge):
        session.put(Kind.PAGE, bytes(2048 * 36 + 1))
    identity = CommitId(ObjectId(bytes(32)))
    with repository.session() as session, pytest.raises(TooLarge):
        publish(session, riding=[(identity, Kind.COMMIT, bytes((1 << 20) + 1))])
    put(repository, b"fine")


# ---- objects from elsewhere


def test_what_is_kept_stays_without_a_step_and_is_known_from_then_on(repository: Repository) -> None:
    first, second = noise("first", 200_000), noise("second", 200_000)
    with contextlib.suppress(KeyError), repository.session() as session:
        session.take(*raw(first))
        session.keep()
        assert session.knows(object_id(Kind.CHUNK, first), Kind.CHUNK)
        session.take(*raw(second))
        raise KeyError
    assert read(repository, first) == first
    assert repository.database.row(object_id(Kind.CHUNK, second)) is None
    assert len(packs(repository)) == 1
    with repository.session() as session:
        assert not session.knows(object_id(Kind.CHUNK, second), Kind.CHUNK)
        assert not session.knows(object_id(Kind.CHUNK, first), Kind.TREE)


def test_little_is_kept_only_if_that_is_asked_for(repository: Repository) -> None:
    with repository.session() as session:
        session.take(*raw(b"little"))
        session.keep()
        assert not packs(repository)
        session.keep(least=1)
    assert read(repository, b"little") == b"little"


def test_after_something_was_kept_a_small_step_rides_in_its_frame_again(repository: Repository) -> None:
    with repository.session() as session:
        session.take(*raw(noise("large", 200_000)))
        session.keep()
        session.take(*raw(b"little"))
        publish(session)
    assert len(packs(repository)) == 1
    assert read(repository, b"little") == b"little"


def test_an_object_is_taken_once(repository: Repository) -> None:
    with repository.session() as session:
        for _ in range(3):
            session.take(*raw(noise("one", 200_000)))
        assert session.added == 200_000
