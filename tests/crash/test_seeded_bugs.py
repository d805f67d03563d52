"""The sweeps can fail: each protocol broken on purpose here is caught by one of them.

A seeded bug is one rule of the protocol left out: a flush, an order, a check. Some are made by a disk that skips a
call, the others by a small patch; beside each stands the sweep that must speak up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import casckpt
from casckpt.format import frame
from casckpt.format.entry import Entry, PackRef
from casckpt.format.finite import UNKNOWN, Scan
from casckpt.format.frame import HEADER_BYTES, NO_HASH, Frame, encode_frame
from casckpt.format.ids import checksum
from casckpt.odb import journal, pack_writer, repository, seal, session, staging, temporary
from casckpt.odb.database import Database
from casckpt.odb.journal import Journal, Placed, Position, Tail
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.repository import Repository
from casckpt.odb.session import Session
from casckpt.storage.base import Storage
from casckpt.storage.local import LocalStorage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage, on
from tests.crash.faultsweeps import fault_sweep
from tests.crash.folders import ram_folder
from tests.crash.promises import check_commits, check_store, look, settled_world, state_of
from tests.crash.recorder import RecordingStorage
from tests.crash.seeded import Bug, assert_caught
from tests.crash.sweeps import power_failures, twice
from tests.crash.workloads import WORKLOADS

# --- the sweeps, on small workloads -----------------------------------------------------------------------------------


def power(name: str, wrap: Callable[[RecordingStorage], Storage] = lambda recording: recording, parts: int = 1) -> Any:
    return lambda: power_failures(WORKLOADS[name], wrap, parts=parts, enough=1)[1]


def fault(name: str, action: Action, calls: str, **options: Any) -> Any:
    return lambda: fault_sweep(WORKLOADS[name], action, only=lambda call: call.startswith(calls), enough=1, **options)[
        1
    ]


def second_power_loss() -> list[str]:
    return twice(WORKLOADS["tiny"], count=4, enough=1)[1]


def skipped(call: str, prefix: str = "") -> Callable[[RecordingStorage], Storage]:
    """A program that leaves one kind of call out."""
    return lambda recording: FaultyStorage(recording, on(call, "skip", prefix=prefix))


def two_at_once() -> list[str]:
    """A committer has written a part of its pack when another one opens the store and commits."""
    with settled_world(), pytest.MonkeyPatch.context() as patch:
        storage = MemoryStorage(WORKLOADS["pack"].base())
        inner = Session.end_leaf
        others: list[Store] = []

        def end_leaf(self: Session) -> None:
            inner(self)
            if self._writer is not None and not others:
                others.append(Store(Repository(storage)))
                others[0].commit(state_of(2), step=2)

        patch.setattr(Session, "end_leaf", end_leaf)
        try:
            Store(Repository(storage)).commit(state_of(201), step=201)
            now = look(Repository(storage))
            assert now.steps == {1, 2, 201}
            check_commits(Repository(storage), now)
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return []


def index_ahead() -> list[str]:
    """The journal comes back from a backup, the index does not."""
    with ram_folder() as folder, casckpt.init(folder / "store") as store:
        store.commit(state_of(1), step=1)
        saved = (folder / "store/journal/0.log").read_bytes()
        store.commit(state_of(201), step=201)
        store.close()
        (folder / "store/journal/0.log").write_bytes(saved)
        try:
            repository = Repository(LocalStorage(folder / "store"))
            now = look(repository)
            assert now.steps == {1}
            check_store(repository, [now], first=0)
            repository.close()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return []


# --- the bugs ---------------------------------------------------------------------------------------------------------


def nothing(patch: pytest.MonkeyPatch) -> None:
    """The disk does it."""


def format_before_journal(patch: pytest.MonkeyPatch) -> None:
    def initialize(storage: Storage, *, time_ns: int, by: str) -> None:
        for folder in repository.FOLDERS:
            storage.make_dir(folder)
        uuid = bytes(range(16))
        temporary.write_whole(storage, "format", repository.StoreFormat(uuid).encode())
        entry = Entry("init", time_ns, reset=uuid, by=by)
        Journal(storage, uuid).start_file(Position(-1, 0, 0, NO_HASH), [entry.encode()])
        storage.sync_dir("")

    patch.setattr("tests.crash.promises.initialize", initialize)


def frame_before_pack(patch: pytest.MonkeyPatch) -> None:
    """Packs are flushed, but after the frame that names them."""
    late: list[Callable[[], None]] = []
    inner = Session.publish

    def finish(self: PackWriter, hints: dict[str, Any]) -> PackRef:
        self._close_extent()
        self._align(pack_writer.p.BLOCK)
        identity, end = pack_writer.p.encode_end(self._header, self.records, hints, self.offset)
        self._append(end)
        self._flush()
        self._storage.rename(self._name, pack_name(identity))
        late.extend((self._file.sync, lambda: self._storage.sync_dir("packs"), self._file.close))
        return PackRef(identity, self.offset)

    def publish(self: Session, settle: Any) -> None:
        inner(self, settle)
        while late:
            late.pop(0)()

    patch.setattr(PackWriter, "finish", finish)
    patch.setattr(Session, "publish", publish)


def acknowledged_before_flush(patch: pytest.MonkeyPatch) -> None:
    """The journal is flushed by the append that follows."""
    inner = Journal._open

    class Late:
        def __init__(self, file: Any) -> None:
            self._file = file
            self._dirty = False

        def sync(self) -> None:
            self._dirty = True

        def write_at(self, data: Any, offset: int) -> int:
            if self._dirty:
                self._file.sync()
                self._dirty = False
            return int(self._file.write_at(data, offset))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def opened(self: Journal, number: int) -> Any:
        file = inner(self, number)
        if not isinstance(file, Late):
            self._writer = (number, Late(file))  # type: ignore[assignment]
        assert self._writer is not None
        return self._writer[1]

    patch.setattr(Journal, "_open", opened)


def torn_tail_not_cut(patch: pytest.MonkeyPatch) -> None:
    """A frame goes behind whatever the file ends with."""
    inner = Journal.append

    def append(self: Journal, tail: Tail, payload: bytes) -> Placed:
        end = self._storage.size(journal.file_name(tail.position.file)) or 0
        return inner(self, Tail([], tail.position._replace(offset=end), [], "clean"), payload)

    patch.setattr(Journal, "append", append)


def torn_tail_overwritten(patch: pytest.MonkeyPatch) -> None:
    """The frame overwrites a torn tail that was not cut off first: what is longer stays behind it."""
    patch.setattr(Journal, "_cut", lambda self, writer, at: None)


def torn_tail_taken_for_damage(patch: pytest.MonkeyPatch) -> None:
    inner = frame._tail
    patch.setattr(frame, "_tail", lambda *given: "clean" if inner(*given) == "clean" else "damage")


def failed_append_not_cut(patch: pytest.MonkeyPatch) -> None:
    """A frame that could not be flushed stays in the file."""

    def append(self: Journal, tail: Tail, payload: bytes) -> Placed:
        position = tail.position
        writer = self._open(position.file)
        encoded = encode_frame(self._uuid, position.seq, position.hash, payload)
        journal.write_all(writer, encoded, position.offset)
        writer.sync()
        body = memoryview(encoded)[HEADER_BYTES:-32]
        return Placed(position.file, Frame(position.seq, position.offset, body, encoded[-32:]))

    patch.setattr(Journal, "append", append)


def named_before_flushed_at_seal(patch: pytest.MonkeyPatch) -> None:
    """The next journal file gets its name before its bytes are durable."""
    inner = RecordingStorage.create

    class Hasty:
        def __init__(self, storage: RecordingStorage, name: str, file: Any) -> None:
            self._storage, self._name, self._file = storage, name, file

        def sync(self) -> None:
            names = self._storage.list("journal")
            self._storage.rename(self._name, f"journal/{len(names)}.log")
            self._storage.create(self._name).close()
            self._file.sync()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def create(self: RecordingStorage, name: str, *, direct: bool = False) -> Any:
        file = inner(self, name, direct=direct)
        return Hasty(self, name, file) if name.startswith("tmp/journal") else file

    def rename(self: RecordingStorage, source: str, target: str) -> None:
        if source.startswith("tmp/journal"):
            self.unlink(source)
        else:
            moved(self, source, target)

    moved = RecordingStorage.rename
    patch.setattr(RecordingStorage, "create", create)
    patch.setattr(
        RecordingStorage, "rename", lambda self, a, b: moved(self, a, b) if self.size(b) is None else rename(self, a, b)
    )


def snapshot_without_packs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "pack_set", lambda self: iter(()))


def snapshot_without_tags(patch: pytest.MonkeyPatch) -> None:
    inner = seal._snapshot

    def snapshot(*given: Any) -> Iterator[Entry]:
        for entry in inner(*given):
            yield replace(entry, refs=tuple(move for move in entry.refs if not move.name.startswith("tags/")))

    patch.setattr(seal, "_snapshot", snapshot)


def snapshot_without_marks(patch: pytest.MonkeyPatch) -> None:
    inner = seal._snapshot

    def snapshot(*given: Any) -> Iterator[Entry]:
        for entry in inner(*given):
            yield replace(entry, marks=())

    patch.setattr(seal, "_snapshot", snapshot)


def snapshot_without_drops(patch: pytest.MonkeyPatch) -> None:
    inner = seal._snapshot

    def snapshot(*given: Any) -> Iterator[Entry]:
        for entry in inner(*given):
            yield replace(entry, drops=())

    patch.setattr(seal, "_snapshot", snapshot)


def pack_without_a_frame_trusted(patch: pytest.MonkeyPatch) -> None:
    """Dedup believes every file in packs/, named by the journal or not."""
    inner = Session.scan

    def scan(self: Session, identity: Any, kind: Any, length: int) -> Scan | None:
        found = inner(self, identity, kind, length)
        if found is not None:
            return found
        database = self._database
        for name in database.storage.list("packs"):
            contents = PackReader(database.storage).contents(bytes.fromhex(name.removesuffix(".pack")))
            if any(record.id == identity for record in contents.records):
                return UNKNOWN
        return None

    patch.setattr(Session, "scan", scan)


def short_writes_believed(patch: pytest.MonkeyPatch) -> None:
    for module in (journal, staging, temporary):
        patch.setattr(module, "write_all", lambda file, data, offset: file.write_at(data, offset))


def unfinished_pack_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PackWriter, "abandon", lambda self: self._file.close())


def leftovers_never_removed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Repository, "remove_abandoned", lambda self: None)


def refs_in_a_frame_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """The commit goes in with one frame, what it moves with the next."""
    inner = session.append

    def append(database: Database, uuid: bytes, entry: Entry) -> int:
        if entry.op != "commit":
            return inner(database, uuid, entry)
        inner(
            database,
            uuid,
            Entry("commit", entry.time_ns, refs=entry.refs[:1], packs=entry.packs, objects=entry.objects),
        )
        return inner(database, uuid, Entry("commit", time.time_ns(), refs=entry.refs[1:], runs=entry.runs))

    patch.setattr(session, "append", append)


def file_of_a_live_writer_removed(patch: pytest.MonkeyPatch) -> None:
    def unlink_abandoned(self: MemoryStorage, name: str) -> bool:
        self.unlink(name)
        return True

    patch.setattr(MemoryStorage, "unlink_abandoned", unlink_abandoned)


def index_always_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "holds", lambda self, position: True)


def checks_of_frames_not_compared(patch: pytest.MonkeyPatch) -> None:
    """A frame with a right header counts, whatever its bytes."""
    inner = frame._frame_at

    def frame_at(data: memoryview, position: int, offset: int, uuid: bytes) -> Any:
        found, length = inner(data, position, offset, uuid)
        if found is None and length:
            body = data[position : position + length - 32]
            return Frame(
                int.from_bytes(body[8:16], "little"), offset + position, body[HEADER_BYTES:], checksum(body)
            ), (length)
        return found, length

    patch.setattr(frame, "_frame_at", frame_at)


BUGS: dict[str, Bug] = {
    "packs are not flushed": (nothing, power("pack", skipped("sync", "tmp/pack"), parts=53)),
    "the names of packs are not flushed": (nothing, power("pack", skipped("sync_dir", "packs"), parts=5)),
    "the journal is not flushed": (nothing, power("tiny", skipped("sync", "journal/"))),
    "the journal is flushed late": (acknowledged_before_flush, power("tiny")),
    "the first journal file is not flushed": (nothing, power("init", skipped("sync", "tmp/journal"))),
    "the next journal file is not flushed": (nothing, power("seal once", skipped("sync", "tmp/journal"))),
    "the next journal file is named before it is flushed": (named_before_flushed_at_seal, power("seal once")),
    "the name of the first journal file is not flushed": (nothing, power("init", skipped("sync_dir", "journal"))),
    "the name of the next journal file is not flushed": (
        nothing,
        power("seal once", skipped("sync_dir", "journal")),
    ),
    "the format file is not flushed": (nothing, power("init", skipped("sync", "tmp/format"))),
    "the name of the format file is not flushed": (nothing, power("init", skipped("sync_dir", ""))),
    "the format file is named before the journal is there": (format_before_journal, power("init")),
    "the frame goes before its packs": (frame_before_pack, power("pack", parts=53)),
    "refs move in a frame of their own": (refs_in_a_frame_of_their_own, power("refs")),
    "a frame's hash is not compared": (checks_of_frames_not_compared, power("tiny")),
    "a torn tail is kept": (torn_tail_not_cut, power("tiny")),
    "a torn tail is written over": (torn_tail_overwritten, second_power_loss),
    "a torn tail is taken for damage": (torn_tail_taken_for_damage, power("tiny")),
    "a frame that failed is kept": (failed_append_not_cut, fault("tiny", "eio-after", "sync journal")),
    "sealing forgets packs": (snapshot_without_packs, power("seal", parts=3)),
    "sealing forgets tags": (snapshot_without_tags, power("seal", parts=3)),
    "sealing forgets marks": (snapshot_without_marks, power("names")),
    "sealing forgets drops": (snapshot_without_drops, power("names")),
    "dedup trusts packs that no frame names": (pack_without_a_frame_trusted, fault("pack", "kill", "sync journal")),
    "a short write is believed": (short_writes_believed, fault("tiny", "short", "write_at")),
    "an unfinished pack is left after an error": (unfinished_pack_left, fault("pack", "eio", "sync tmp/pack")),
    "what the dead left is never removed": (leftovers_never_removed, fault("pack", "kill", "sync tmp/pack")),
    "the file of a live writer is removed": (file_of_a_live_writer_removed, two_at_once),
    "the index is believed whatever the journal says": (index_always_believed, index_ahead),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert_caught(name, BUGS[name], monkeypatch)


@pytest.mark.parametrize("scene", [two_at_once, index_ahead])
def test_a_scene_is_silent_without_the_bug(scene: Callable[[], list[str]]) -> None:
    """So are the sweeps, in the tests that are theirs."""
    assert scene() == []
