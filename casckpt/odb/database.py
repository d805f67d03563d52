"""What a store contains at this moment: refs, commits and objects, by id.

A database is the index, plus what the journal gained since in memory (`MemoryTables` over it). Readers call
`refresh` and replay the tail; nobody waits for anybody. The index is brought up to date by whoever has a reason:
a pack was added, 256 frames are pending, or the store is closed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from casckpt.errors import BusyError, DamagedObject, FormatError, IntegrityError, StorageError
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId, PackId
from casckpt.format.pack import Record
from casckpt.odb import tables as t
from casckpt.odb.elsewhere import Elsewhere
from casckpt.odb.facts import Facts
from casckpt.odb.fold import Gap, fold, known_gaps, note_gaps
from casckpt.odb.index import Index
from casckpt.odb.journal import Journal, Placed, Position, Rewound, Tail, file_name
from casckpt.odb.notices import warn
from casckpt.odb.pack_reader import PackReader
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.positions import read_position, write_position
from casckpt.storage.base import Storage

PENDING_FRAMES = 256
INDEX_WAIT_S = 10.0
_Data = bytes | bytearray | memoryview


class Database(Facts):
    """Objects, refs and commits of one store. Thread-safe for reading; writing goes through `session`.

    Invariant: the tables are the fold of all valid frames up to `tail.position`.
    """

    def __init__(
        self, storage: Storage, uuid: bytes, *, current_run: str | None = None, health_gate: bool = True
    ) -> None:
        self.storage = storage
        self.current_run = current_run
        """The run that `@` means; None for the one committed to last."""
        self.health_gate = health_gate
        """Whether a commit with NaN or infinities in its state may not become `best` or `recovery`."""
        self.elsewhere: Elsewhere | None = None
        """Where to ask for what commits lost, or what never came."""
        self.journal = Journal(storage, uuid)
        self.packs = PackReader(storage)
        self.mutex = threading.RLock()
        """Held while the tables and the place in the journal change; taken after the journal lock, never before."""
        self._index: Index | None = None
        self.pending = 0
        """Frames that the index does not know yet."""
        self.rebuilt = False
        """Whether opening had to build the index anew."""
        super().__init__(t.MemoryTables())
        self.tail = Tail([], Position(0, 0, -1, bytes(32)), [], "clean")
        self._attach()

    # -- keeping up with the journal

    def _reattach(self) -> None:
        # The old index is not closed here: other threads may be reading it, and the last of them lets it go.
        self._index = None
        self._attach()

    def _attach(self) -> None:
        """Find a trustworthy index or make one, and start from the position it has; without one, replay in memory."""
        self._index = self._find_index()
        position = None if self._index is None else read_position(self._index)
        self.tables = t.MemoryTables(self._index)
        self.pending = 0
        if position is None:
            self.tail = self.journal.read_all()
            self._fold(self.tables, self.tail)
        else:
            self.tail = Tail([], position, [], "clean")
            self._replay()

    def _find_index(self) -> Index | None:
        if self.storage.path is None:
            return None
        folder = os.path.join(self.storage.path, "index")
        index = self._trusted(Index.open(folder))
        if index is not None or self.storage.read_only:
            return index
        try:
            with self.storage.lock("index", exclusive=True, wait_s=INDEX_WAIT_S):
                index = self._trusted(Index.open(folder, is_locked=True))
                if index is None and not Index.is_inherited(folder):
                    self.rebuilt = True
                    Index.remove_unfinished(folder)
                    index = Index.build(folder, self._fill)
                return index
        except (BusyError, StorageError) as error:
            warn("working without the index: %s", error)
            return None

    def _trusted(self, index: Index | None) -> Index | None:
        """The index, if the journal still has the frame it is up to."""
        if index is None:
            return None
        position = read_position(index)
        if position is not None and self.journal.holds(position):
            return index
        warn("the index knows a frame that the journal does not have; it is rebuilt")
        index.close()
        return None

    def _fill(self, tables: t.WritableTables) -> None:
        tail = self.journal.read_all()
        self._fold(tables, tail)
        write_position(tables, tail.position)

    def _fold(self, tables: t.WritableTables, tail: Tail) -> None:
        note_gaps(tables, tail.gaps)
        entries = [_decoded(placed) for placed in tail.frames]
        ends = {identity: number for number, entry in enumerate(entries) for identity in entry.gone}
        for number, (placed, entry) in enumerate(zip(tail.frames, entries, strict=True)):
            leaves = {pack.id for pack in entry.packs if number < ends.get(pack.id, 0)} if ends else ()
            fold(tables, entry, placed.file, placed.payload_offset, self, leaves)
            self.packs.let_go(pack_name(identity) for identity in entry.gone)

    def refresh(self) -> None:
        """Take in what any process appended to the journal since the last look."""
        with self.mutex:
            if self._index is not None:
                if not self._index.is_current():
                    self._reattach()
                    return
                position = read_position(self._index)
                ahead = -1 if position is None else position.seq - self.tail.position.seq
                if position is not None and (ahead > 0 or (ahead == 0 and self.pending)):
                    self._restart(position)
            try:
                self._replay()
            except Rewound:
                self._reattach()

    def _restart(self, position: Position) -> None:
        """Forget what memory holds: the index has it all."""
        self.tables = t.MemoryTables(self._index)
        self.tail = Tail([], position, [], "clean")
        self.pending = 0
        self.packs.let_go()  # of packs that frames which were not looked at may have removed

    def _replay(self) -> None:
        self.tail = self.journal.read(self.tail.position)
        self.take_in(self.tail)

    def take_in(self, tail: Tail) -> None:
        """Fold frames that were just read or written."""
        with self.mutex:
            self._fold(self.tables, tail)
            self.pending += len(tail.frames)
            self.tail = Tail([], tail.position, tail.gaps, tail.kind)

    def absorb(self, *, at_least: int = 1) -> None:
        """Bring the index up to date if so many frames are pending; skipped when another process is at it."""
        with self.mutex:
            if self._index is None or self._index.is_copy or self.pending < at_least or self.storage.read_only:
                return
            try:
                with self.storage.lock("index", exclusive=True, wait_s=0):
                    if self._index.is_current():
                        self._index.update(self._catch_up)
            except BusyError:
                return
            except Rewound:
                self._reattach()
                return
            except Exception as error:  # the index is a view: a failure to update it must never fail a commit
                warn("the index was not brought up to date: %s", error)
                return
            self.refresh()

    def _catch_up(self, tables: t.WritableTables) -> None:
        position = read_position(tables)
        tail = self.journal.read_all() if position is None else self.journal.read(position)
        self._fold(tables, tail)
        write_position(tables, tail.position)

    def rebuild_index(self) -> None:
        """Build the index anew from the journal and the packs, whatever it holds."""
        with self.mutex:
            if self._index is not None:
                with self.storage.lock("index", exclusive=True, wait_s=INDEX_WAIT_S):
                    self._index.discard()
            self.packs.close()
            self._reattach()

    def close(self) -> None:
        """Bring the index up to date and let go of all files."""
        self.absorb()
        self.release()

    def release(self) -> None:
        """Let go of all files at once."""
        with self.mutex:
            self.journal.close()
            self.packs.close()
            if self._index is not None:
                self._index.close()
                self._index = None

    @property
    def has_index(self) -> bool:
        """Whether it works with an index, not in memory alone."""
        return self._index is not None

    # -- what folding asks of packs

    def records(self, pack: PackRef) -> list[Record]:
        """All records of a pack, from its footer or its extents."""
        return self.packs.records(pack)

    def hints(self, pack: PackRef) -> dict[str, Any]:
        """The hints of a pack, empty if they cannot be read."""
        return self.packs.hints(pack)

    def read_plain(self, pack: PackRef, record: Record) -> bytes:
        """Plain bytes of an object of a pack, or of its copy in a journal file that was sealed into it."""
        try:
            return self.packs.read_plain(pack, record)
        except (IntegrityError, FileNotFoundError):
            for name, copy in self._journal_copies(record.id):
                with contextlib.suppress(DamagedObject):
                    return bytes(self.packs.read_record(name, copy))
            raise

    # -- looking up

    def row(self, identity: bytes) -> t.Row | None:
        """Where an object is, if its pack is in the pack set."""
        value = self.tables.get(t.ROWS, identity)
        row = None if value is None else t.Row.decode(identity, value)
        return row if row is not None and self.file_of(row) is not None else None

    def file_of(self, row: t.Row) -> str | None:
        """Name of the file a row points into; None if its pack left the pack set."""
        if row.pack & t.IN_JOURNAL:
            return file_name(row.pack & ~t.IN_JOURNAL)
        pack = self.pack_of(row)
        return None if pack is None else pack_name(pack.id)

    def pack_of(self, row: t.Row) -> PackRef | None:
        """The pack a row points into; None for the journal and for packs that left the pack set."""
        numbers: dict[int, PackRef] = self._once("packs", dict)
        known = numbers.get(row.pack)
        if known is not None:
            return known
        identity = self.tables.get(t.NUMBERS, t.number_key(row.pack))
        listed = None if identity is None else self.tables.get(t.PACKS, identity)
        if identity is None or listed is None:
            return None
        nbytes = t.decode_pack(listed)[1]
        if not nbytes:
            return None
        return numbers.setdefault(row.pack, PackRef(PackId(identity), nbytes))

    def has_pack(self, identity: PackId) -> bool:
        """Whether a pack is in the pack set."""
        value = self.tables.get(t.PACKS, identity)
        return value is not None and t.decode_pack(value)[1] > 0

    def pack_set(self) -> Iterator[PackRef]:
        """All packs of the store."""
        numbers: dict[int, PackRef] = self._once("packs", dict)
        for identity, value in self.tables.scan(t.PACKS):
            number, nbytes = t.decode_pack(value)
            if nbytes:
                yield numbers.setdefault(number, PackRef(PackId(identity), nbytes))

    def read(self, identity: ObjectId, kind: Kind, target: memoryview | None = None) -> _Data:
        """Plain, verified bytes of an object.

        Args:
            target: if given, as many writable bytes as the object has; undefined after an error.

        Raises:
            DamagedObject: it is nowhere, or no copy of it is whole.
        """
        row = self.row(identity)
        while True:
            try:
                if row is None or row.kind != kind:
                    raise _missing(identity, kind, "no pack of the store lists it")
                return self._read_row(identity, row, target)
            except DamagedObject as first:
                # A collector may have moved it since its row was read; each turn of this loop is another move.
                before = row
                self.refresh()
                row = self.row(identity)
                if row == before:
                    return self._read_copy(identity, kind, target, first)

    def _read_row(self, identity: ObjectId, row: t.Row, target: memoryview | None) -> _Data:
        name = self.file_of(row)
        if name is None or (target is not None and len(target) != row.length):
            raise _missing(identity, row.kind, "its length or pack is not as listed")
        record = Record(identity, row.offset, row.length, row.stored, row.kind, row.codec, row.element, row.flags)
        return self.packs.read_record(name, record, target)

    def _read_copy(self, identity: ObjectId, kind: Kind, target: memoryview | None, first: DamagedObject) -> _Data:
        """Try every other copy of an object: the slow path of damage. Raises `first` if there is none."""
        for name, record in self.copies(identity):
            if record.kind == kind and (target is None or len(target) == record.length):
                try:
                    return self.packs.read_record(name, record, target)
                except (DamagedObject, FormatError):
                    continue
        raise first

    def copies(self, identity: ObjectId) -> Iterator[tuple[str, Record]]:
        """Every place that claims to hold an object, from the packs' own tables and the journal files.

        Cost: reads the footers of all packs.
        """
        for pack in list(self.pack_set()):
            try:
                records = self.packs.records(pack)
            except (IntegrityError, FormatError, StorageError, FileNotFoundError):
                continue
            yield from ((pack_name(pack.id), record) for record in records if record.id == identity)
        yield from self._journal_copies(identity)

    def _journal_copies(self, identity: ObjectId) -> Iterator[tuple[str, Record]]:
        for placed, entry in self.history():
            for record, _ in entry.objects:
                if record.id == identity:
                    yield file_name(placed.file), record._replace(offset=placed.payload_offset + record.offset)

    # -- what facts are asked of

    def _place(self) -> int:
        return self.tail.position.seq

    def _stored_commit(self, identity: CommitId) -> bytes:
        return bytes(self.read(identity, Kind.COMMIT))

    def lacking(self, identity: CommitId) -> tuple[str, ...] | None:
        """Names of the components of a commit that can be had neither here nor elsewhere; None for all of it."""
        drop, commit = self.drop(identity), self.commit(identity)
        if drop is None or self.elsewhere is None or commit is None:
            return () if drop is None else drop.parts
        return self.elsewhere.lacking(identity, commit, drop.parts)

    # -- the journal itself

    def gaps(self) -> list[Gap]:
        """Damage in the journal that folding it met and no repair went over: what was there is not in the tables."""
        return known_gaps(self.tables)

    def history(self, notice: Callable[[Tail], None] | None = None) -> Iterator[tuple[Placed, Entry]]:
        """All entries of all journal files that are left, oldest first; `notice` receives what each file's scan saw."""
        for number in self.journal.files():
            tail = self.journal.read_file(number)
            if notice is not None:
                notice(tail)
            for placed in tail.frames:
                yield placed, Entry.decode(placed.frame.payload)


def _decoded(placed: Placed) -> Entry:
    try:
        return Entry.decode(placed.frame.payload)
    except IntegrityError as error:
        raise FormatError(object=f"frame {placed.frame.seq} of the journal", problem=str(error)) from error


def _missing(identity: bytes, kind: int, problem: str) -> DamagedObject:
    name = Kind(kind).name.lower() if kind in {int(known) for known in Kind} else "object"
    short = identity.hex()[:12]
    return DamagedObject(object=f"{name} {short}", kind=name, id=short, problem=problem, location="index")
