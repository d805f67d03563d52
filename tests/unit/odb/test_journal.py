from __future__ import annotations

from typing import Any

import pytest

from casckpt.errors import DamagedFile, StorageError, TooLarge
from casckpt.format.frame import HEADER_BYTES, MAGIC, NO_HASH, OVERHEAD, encode_frame
from casckpt.format.limits import MAX_FRAME_BYTES
from casckpt.odb import journal as j
from casckpt.odb.journal import Journal, Placed, Position, Rewound, Tail
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, never, on
from tests.unit.odb.support import content, put_file

UUID = bytes(range(16))
START = Position(0, 0, 0, NO_HASH)


@pytest.fixture
def storage() -> MemoryStorage:
    found = MemoryStorage({"journal": None, "tmp": None, "trash": None})
    Journal(found, UUID).start_file(Position(-1, 0, 0, NO_HASH), [b"first"])
    return found


def appended(journal: Journal, *payloads: bytes) -> list[Placed]:
    tail = journal.read_all()
    found = []
    for payload in payloads:
        placed = journal.append(tail, payload)
        tail = Tail([], Position(placed.file, placed.frame.end, placed.frame.seq + 1, placed.frame.hash), [], "clean")
        found.append(placed)
    return found


def payloads(tail: Tail) -> list[bytes]:
    return [bytes(placed.frame.payload) for placed in tail.frames]


def spoil(storage: Storage, at: int, *, file: int = 0) -> None:
    data = bytearray(content(storage, j.file_name(file)))
    data[at] ^= 1
    put_file(storage, j.file_name(file), bytes(data))


def test_what_is_appended_is_read_in_order_and_chained(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    made = appended(journal, b"a", b"", b"c" * 1000)
    tail = Journal(storage, UUID).read_all()
    assert payloads(tail) == [b"first", b"a", b"", b"c" * 1000]
    assert [placed.frame.seq for placed in tail.frames] == [0, 1, 2, 3]
    assert tail.frames[1:] == made
    assert (tail.kind, tail.gaps) == ("clean", [])
    assert tail.position == Position(0, storage.size("journal/0.log") or 0, 4, made[-1].frame.hash)
    data = content(storage, "journal/0.log")
    for placed in tail.frames:
        assert data[placed.payload_offset :].startswith(bytes(placed.frame.payload))


def test_reading_goes_on_from_any_position(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    position = journal.read_all().position
    assert payloads(journal.read(position)) == []
    appended(Journal(storage, UUID), b"a", b"b")
    tail = journal.read(position)
    assert payloads(tail) == [b"a", b"b"]
    assert payloads(journal.read(tail.position)) == []


def test_a_frame_of_another_store_is_no_frame(storage: MemoryStorage) -> None:
    other = Journal(storage, bytes(16))
    assert other.read_file(0).frames == []
    with pytest.raises(DamagedFile):
        other.read_all()


def test_without_a_file_there_is_no_journal() -> None:
    journal = Journal(MemoryStorage({"journal": None}), UUID)
    with pytest.raises(DamagedFile):
        journal.read_all()
    assert journal.files() == []
    assert journal.read_file(3).frames == []


def test_only_files_named_by_numbers_are_of_the_journal(storage: MemoryStorage) -> None:
    for name in ("x.log", "1.txt", "٣.log", ".log", "-1.log", "10.log"):
        put_file(storage, f"journal/{name}", b"")
    assert Journal(storage, UUID).files() == [0, 10]


# ---- what a writer does to the end


def test_an_append_is_one_write_and_one_flush(storage: MemoryStorage) -> None:
    faulty = FaultyStorage(storage)
    journal = Journal(faulty, UUID)
    appended(journal, b"a")
    opening = len(faulty.calls)
    appended(journal, b"b", b"c")
    assert [call.split()[0] for call in faulty.calls][opening:] == ["write_at", "sync"] * 2


@pytest.mark.parametrize("call", ["write_at", "sync"])
@pytest.mark.parametrize("action", ["eio", "enospc", "eio-after"])
def test_a_frame_that_may_not_be_durable_is_cut_off_again(storage: MemoryStorage, call: str, action: Any) -> None:
    before = content(storage, "journal/0.log")
    faulty = FaultyStorage(storage)

    def plan(n: int, called: str, name: str) -> Any:
        return action if called == call and any(done.startswith("write_at") for done in faulty.calls) else None

    faulty.plan = plan
    journal = Journal(faulty, UUID)
    with pytest.raises(StorageError):
        appended(journal, b"lost")
    assert content(storage, "journal/0.log") == before
    faulty.plan = never
    appended(journal, b"next")
    assert payloads(Journal(storage, UUID).read_all()) == [b"first", b"next"]
    # The descriptor whose flush failed is never used again.
    assert [call for call in faulty.calls if call.startswith("open_write")] == ["open_write journal/0.log"] * 2


def test_a_short_write_is_completed(storage: MemoryStorage) -> None:
    appended(Journal(FaultyStorage(storage, on("write_at", "short")), UUID), b"a" * 500)
    assert payloads(Journal(storage, UUID).read_all())[1:] == [b"a" * 500]


@pytest.mark.parametrize("cut", [1, 8, 55, 56, 57, OVERHEAD, OVERHEAD + 10, -1])
def test_a_torn_frame_is_cut_off_by_the_next_one(storage: MemoryStorage, cut: int) -> None:
    journal = Journal(storage, UUID)
    tail = journal.read_all()
    frame = encode_frame(UUID, 1, tail.position.hash, b"torn" * 30)
    whole = content(storage, "journal/0.log")
    put_file(storage, "journal/0.log", whole + frame[:cut])
    tail = journal.read_all()
    assert (payloads(tail), tail.kind, tail.position.offset) == ([b"first"], "torn", len(whole))
    appended(journal, b"next")
    assert content(storage, "journal/0.log").startswith(whole + MAGIC)
    assert payloads(Journal(storage, UUID).read_all()) == [b"first", b"next"]


def test_a_torn_tail_of_a_file_that_ends_is_no_lost_frame(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    whole = content(storage, "journal/0.log")
    put_file(storage, "journal/0.log", whole + encode_frame(UUID, 1, journal.read_all().position.hash, b"torn")[:-1])
    tail = journal.read_all()
    journal.end_file(tail)
    journal.start_file(tail.position, [b"second"])
    journal.close()
    assert content(storage, "journal/0.log") == whole
    found = Journal(storage, UUID).read_all()
    assert (payloads(found)[-1:], found.gaps) == ([b"second"], [])


def test_what_looks_torn_is_kept_in_the_trash(storage: MemoryStorage) -> None:
    torn = encode_frame(UUID, 1, NO_HASH, b"x" * 500)[:-1]
    put_file(storage, "journal/0.log", content(storage, "journal/0.log") + torn)
    appended(Journal(storage, UUID), b"next")
    (name,) = storage.list("trash")
    assert content(storage, f"trash/{name}") == torn


def test_zeros_behind_the_end_are_written_over(storage: MemoryStorage) -> None:
    put_file(storage, "journal/0.log", content(storage, "journal/0.log") + bytes(5000))
    tail = Journal(storage, UUID).read_all()
    assert (tail.kind, payloads(tail)) == ("clean", [b"first"])
    appended(Journal(storage, UUID), b"next")
    assert payloads(Journal(storage, UUID).read_all()) == [b"first", b"next"]


def test_a_frame_behind_the_end_that_a_writer_was_told_of_is_never_written_over(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    stale = journal.read_all()
    appended(Journal(storage, UUID), b"acknowledged")
    with pytest.raises(DamagedFile):
        journal.append(stale, b"too late")
    assert payloads(Journal(storage, UUID).read_all()) == [b"first", b"acknowledged"]


def test_no_frame_is_written_that_no_reader_accepts(storage: MemoryStorage) -> None:
    before = content(storage, "journal/0.log")
    with pytest.raises(TooLarge):
        appended(Journal(storage, UUID), bytes(MAX_FRAME_BYTES + 1))
    assert content(storage, "journal/0.log") == before


# ---- damage and rewinding


def test_damage_is_a_gap_that_hides_nothing_behind_it(storage: MemoryStorage) -> None:
    made = appended(Journal(storage, UUID), b"a" * 100, b"b" * 100, b"c" * 100)
    for part in (0, 9, 21, 30, HEADER_BYTES + 5, OVERHEAD + 99):
        spoil(storage, made[1].frame.offset + part)
        tail = Journal(storage, UUID).read_all()
        assert payloads(tail) == [b"first", b"a" * 100, b"c" * 100]
        assert tail.gaps == [(0, made[1].frame.offset, made[1].frame.end)]
        assert tail.kind == "clean"
        spoil(storage, made[1].frame.offset + part)


def test_a_damaged_last_frame_stays_and_the_next_goes_behind_it(storage: MemoryStorage) -> None:
    made = appended(Journal(storage, UUID), b"a" * 100, b"b" * 100)
    spoil(storage, made[1].frame.offset + HEADER_BYTES)
    tail = Journal(storage, UUID).read_all()
    assert (tail.kind, tail.position.offset, tail.position.after_damage) == ("damage", made[1].frame.end, True)
    kept = content(storage, "journal/0.log")
    appended(Journal(storage, UUID), b"next", b"more")
    assert content(storage, "journal/0.log").startswith(kept)
    for reader in (Journal(storage, UUID).read_all(), Journal(storage, UUID).read(tail.position)):
        assert payloads(reader)[-2:] == [b"next", b"more"]


def test_a_position_whose_frame_was_taken_back_is_rewound(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    before = content(storage, "journal/0.log")
    appended(journal, b"a")
    position = journal.read_all().position
    assert journal.holds(position)
    put_file(storage, "journal/0.log", before)
    assert not journal.holds(position)
    with pytest.raises(Rewound):
        journal.read(position)
    appended(Journal(storage, UUID), b"b")  # as long as the one that was taken back
    assert not journal.holds(position)
    with pytest.raises(Rewound):
        journal.read(position)


def test_a_position_in_a_file_that_is_gone_is_rewound(storage: MemoryStorage) -> None:
    position = Journal(storage, UUID).read_all().position
    storage.unlink("journal/0.log")
    assert not Journal(storage, UUID).holds(position)
    with pytest.raises(Rewound):
        Journal(storage, UUID).read(position)
    assert not Journal(storage, UUID).holds(START)


# ---- several files


def test_reading_starts_at_the_newest_snapshot_and_goes_through_all_files_from_a_position(
    storage: MemoryStorage,
) -> None:
    journal = Journal(storage, UUID)
    start = journal.read_all().position
    appended(journal, b"a")
    journal.start_file(journal.read_all().position, [b"snapshot", b"more"])
    tail = journal.read_all()
    assert payloads(tail) == [b"snapshot", b"more"]
    assert tail.position.file == 1
    assert [placed.frame.seq for placed in tail.frames] == [2, 3]
    assert payloads(journal.read(start)) == [b"a", b"snapshot", b"more"]
    appended(journal, b"b", b"c")
    assert [len(journal.read_file(number).frames) for number in journal.files()] == [2, 4]
    assert payloads(journal.read(start)) == [b"a", b"snapshot", b"more", b"b", b"c"]
    assert payloads(journal.read_file(0)) == [b"first", b"a"]


def test_a_file_whose_first_frame_is_damaged_is_read_with_the_one_before_it(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    journal.start_file(journal.read_all().position, [b"snapshot", b"more"])
    spoil(storage, HEADER_BYTES, file=1)
    tail = journal.read_all()
    assert payloads(tail) == [b"first", b"more"]
    assert {file for file, _, _ in tail.gaps} == {1}


def test_a_lost_end_of_a_file_that_has_a_successor_is_a_gap(storage: MemoryStorage) -> None:
    journal = Journal(storage, UUID)
    start = journal.read_all().position
    whole = content(storage, "journal/0.log")
    appended(journal, b"a" * 50, b"b" * 50)
    journal.start_file(journal.read_all().position, [b"snapshot"])
    full = content(storage, "journal/0.log")
    for length in (len(whole), len(whole) + 70, len(full) - OVERHEAD - 50, len(full) - 1):
        put_file(storage, "journal/0.log", full[:length])
        tail = journal.read(start)
        assert payloads(tail)[-1] == b"snapshot"
        assert tail.gaps, length


def test_a_new_file_is_durable_before_it_has_its_name(storage: MemoryStorage) -> None:
    faulty = FaultyStorage(storage)
    journal = Journal(faulty, UUID)
    journal.start_file(journal.read_all().position, [b"a", b"b"])
    kinds = [call.split()[0] for call in faulty.calls]
    assert kinds == ["create", "write_at", "write_at", "sync", "rename", "sync_dir"]


@pytest.mark.parametrize(
    ("call", "action"),
    [("create", "eio"), ("write_at", "enospc"), ("sync", "eio"), ("rename", "eio")],
)
def test_a_new_file_that_failed_is_not_there(storage: MemoryStorage, call: str, action: Any) -> None:
    faulty = FaultyStorage(storage, on(call, action))
    journal = Journal(faulty, UUID)
    with pytest.raises(StorageError):
        journal.start_file(journal.read_all().position, [b"a"])
    assert storage.list("journal") == ["0.log"]
    assert storage.list("tmp") == []


def test_a_file_is_full_by_frames_or_bytes(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (j.SEAL_FRAMES, j.SEAL_BYTES) == (1000, 16 << 20)
    journal = Journal(storage, UUID)
    monkeypatch.setattr(j, "SEAL_FRAMES", 3)
    assert not journal.is_full(journal.read_all().position)
    appended(journal, b"a")
    assert not journal.is_full(journal.read_all().position)
    appended(journal, b"b")
    assert journal.is_full(journal.read_all().position)
    journal.start_file(journal.read_all().position, [b"s"])
    assert not journal.is_full(journal.read_all().position)
    monkeypatch.setattr(j, "SEAL_BYTES", 50)
    assert journal.is_full(journal.read_all().position)


# ---- removing older files


def files(storage: Storage) -> list[str]:
    return storage.list("journal")


def sealed(storage: Storage, count: int, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """A journal of so many files, each with a frame behind its snapshot."""
    monkeypatch.setattr(j, "_is_of_snapshot", lambda payload: bytes(payload).startswith(b"snapshot"))
    journal = Journal(storage, UUID)
    for number in range(1, count):
        journal.start_file(journal.read_all().position, [b"snapshot one", b"snapshot two"])
        appended(journal, b"behind %d" % number)
    return journal


def test_older_files_go_and_the_rest_reads_as_before(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = sealed(storage, 4, monkeypatch)
    before = journal.read_all()
    assert journal.remove_before(3) == [0, 1, 2]
    assert files(storage) == ["3.log"]
    assert Journal(storage, UUID).read_all() == before
    assert journal.remove_before(3) == []
    appended(journal, b"more")
    assert payloads(Journal(storage, UUID).read_all())[-1] == b"more"


def test_a_reader_of_a_file_that_went_starts_over(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Journal(storage, UUID)
    position = reader.read_all().position
    sealed(storage, 3, monkeypatch).remove_before(2)
    assert not reader.holds(position)
    with pytest.raises(Rewound):
        reader.read(position)


@pytest.mark.parametrize("frame", [0, 1])
def test_no_file_goes_while_the_snapshot_behind_it_is_not_whole(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, frame: int
) -> None:
    journal = sealed(storage, 3, monkeypatch)
    spoil(storage, journal.read_file(2).frames[frame].payload_offset, file=2)
    with pytest.raises(DamagedFile):
        journal.remove_before(2)
    assert files(storage) == ["0.log", "1.log", "2.log"]


def test_a_name_is_durable_before_an_older_one_goes_and_the_oldest_goes_first(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(storage, 3, monkeypatch)
    faulty = FaultyStorage(storage)
    Journal(faulty, UUID).remove_before(2)
    calls = [call for call in faulty.calls if call.split()[0] in ("unlink", "sync_dir")]
    assert calls == ["sync_dir journal", "unlink journal/0.log", "unlink journal/1.log", "sync_dir journal"]
