"""Reading packs and journal files: footers, salvage, and verified objects by their place."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from casckpt.errors import DamagedObject, FormatError, IntegrityError, StorageError
from casckpt.format import limits
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.decode import decode, decode_into
from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, PackId, object_id
from casckpt.odb.pack_writer import pack_name
from casckpt.storage.base import ReadFile, Storage, read_exact

if TYPE_CHECKING:
    from casckpt.format.pack_columns import Columns

OPEN_FILES = 64
KEPT_FOOTERS = 8
SALVAGE_STEP = 4 << 20
_DELTA_CODECS = 4
_Data = bytes | bytearray | memoryview
_Siblings = Callable[[], list[p.Record]]
_WHICH = attrgetter("offset", "id", "kind", "length")
_ROOM_BYTES = limits.MAX_OBJECT_BYTES[Kind.CHUNK] + limits.MAX_STORED_EXCESS
_MOST_IDLE = 8
_idle: list[memoryview] = []
"""Rooms for stored bytes and for plain bytes of bases that no call uses now, of any thread. Memory that a restore takes
from the system anew for every chunk costs it an eighth of its time."""
_KINDS = {int(kind): kind.name.lower() for kind in Kind}


class PackReader:
    """Open packs and journal files, and what their footers say. Thread-safe.

    Invariant: nothing is returned by `read_*` that was not compared with its id.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._mutex = threading.Lock()
        self._files: OrderedDict[str, ReadFile] = OrderedDict()
        self._footers: OrderedDict[bytes, p.PackContents] = OrderedDict()
        self._end_bytes = p.BLOCK
        """From the footer of the pack looked at last to its end: other packs of a run are about the same."""

    def close(self) -> None:
        """Close all files."""
        with self._mutex:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._footers.clear()

    def forget(self, name: str) -> None:
        """Drop an open file and what its footer said, so that the next read looks again."""
        with self._mutex:
            file = self._files.pop(name, None)
            for identity in [identity for identity in self._footers if pack_name(identity) == name]:
                del self._footers[identity]
        if file is not None:
            file.close()

    def let_go(self, names: Iterable[str] | None = None) -> None:
        """Keep files that were removed open no longer, since an open one keeps its room on the disk; None for all.

        Who is reading one goes on; it closes with the last of them.
        """
        with self._mutex:
            for name in list(self._files) if names is None else names:
                self._files.pop(name, None)

    def open(self, name: str) -> ReadFile:
        """An open file by name; kept open among the last 64 used. FileNotFoundError if absent."""
        with self._mutex:
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = self._storage.open_read(name)
                if len(self._files) > OPEN_FILES:
                    # The reader that may still use it holds a reference; it closes when that one is dropped.
                    self._files.popitem(last=False)
            self._files.move_to_end(name)
            return file

    def contents(self, identity: bytes) -> p.PackContents:
        """What the footer of a pack says; kept for the last 8 packs asked for.

        Raises:
            IntegrityError: if trailer, footer or header are damaged, or are of another pack.
            FileNotFoundError: if there is no such file.
        """
        with self._mutex:
            kept = self._footers.get(identity)
        if kept is not None:
            return kept
        found = _contents(self.open(pack_name(identity)), identity)
        with self._mutex:
            self._footers[identity] = found
            if len(self._footers) > KEPT_FOOTERS:
                self._footers.popitem(last=False)
        return found

    def columns(self, pack: PackRef) -> tuple[Columns, dict[str, Any]]:
        """All records of a pack as columns, and its hints; errors as for `contents`. Not kept, and the file neither."""
        from casckpt.format.pack_columns import columns  # few need numpy for it

        file = self._storage.open_read(pack_name(pack.id))
        try:
            file.expect_scattered(True)  # else both ends of every pack come with megabytes of its chunks
            header, footer, offset, named = _end(file, pack.id, self._end_bytes)
            self._end_bytes = file.size() - offset
        finally:
            file.close()
        return columns(header, footer, named), p.hints_of(footer)

    def identify(self, name: str) -> tuple[PackRef, p.PackContents]:
        """Which pack a file is, whatever its name says: its trailer names an id to which its footer hashes.

        Raises:
            IntegrityError, FormatError, StorageError: it is no pack, or its end is damaged.
            FileNotFoundError: there is no such file.
        """
        file = self._storage.open_read(name)
        try:
            contents = _contents(file)
            return PackRef(contents.id, file.size()), contents
        finally:
            file.close()

    def is_whole(self, name: str) -> bool:
        """Whether a file is a pack, under whatever name, and every object in it matches its id.

        Cost: reads the whole file once.
        """
        try:
            _, contents = self.identify(name)
            for record in contents.records:
                self._plain(name, record, lambda: contents.records)
        except (IntegrityError, FormatError, StorageError, FileNotFoundError):
            return False
        finally:
            self.forget(name)
        return True

    def records(self, pack: PackRef) -> list[p.Record]:
        """All records of a pack: from its footer, else from its extent tables."""
        try:
            return self.contents(pack.id).records
        except IntegrityError:
            return self.salvage(pack.id)

    def hints(self, pack: PackRef) -> dict[str, Any]:
        """The hints in the footer of a pack, empty if that is damaged."""
        try:
            return self.contents(pack.id).hints
        except IntegrityError:
            return {}

    def salvage(self, identity: bytes) -> list[p.Record]:
        """Records of every intact extent table of a pack, in file order, whatever else is damaged.

        Cost: reads the whole file once.
        """
        file = self.open(pack_name(identity))
        size, found = file.size(), []
        for start in range(0, size, SALVAGE_STEP):
            block = memoryview(read_exact(file, start, SALVAGE_STEP))
            for at in range(0, len(block), p.BLOCK):
                length = p.extent_bytes(block[at : at + 64])
                if not length:
                    continue
                try:
                    table = read_exact(file, start + at, length)
                    found += p.decode_extent(table, start + at, allow_bases=True)[0]
                except IntegrityError:
                    continue
        return found

    def read_plain(self, pack: PackRef, record: p.Record) -> bytes:
        """Plain, verified bytes of a record of a pack."""
        return bytes(self._plain(pack_name(pack.id), record, lambda: self.contents(pack.id).records))

    def read_record(self, name: str, record: p.Record, target: memoryview | None = None) -> _Data:
        """Plain, verified bytes of a record in a pack or journal file.

        Args:
            name: of the file.
            record: where and what; bases are looked up in the pack's footer.
            target: if given, `record.length` writable bytes that receive the plain bytes; undefined after an error.

        Raises:
            DamagedObject: the bytes are missing, do not decode, or do not have this id.
        """

        def siblings() -> list[p.Record]:
            return self.contents(bytes.fromhex(name[6:70])).records if name.startswith("packs/") else []

        try:
            plain = self._plain(name, record, siblings, target)
        except (IntegrityError, FileNotFoundError, StorageError) as error:
            problem = "the file is missing" if isinstance(error, FileNotFoundError) else _problem(error)
            raise DamagedObject(
                object=f"object {record.id.hex()[:12]}",
                kind=_KINDS.get(record.kind, "object"),
                id=record.id.hex()[:12],
                problem=problem,
                location=f"{name} at {record.offset}",
            ) from error
        return plain

    def read_alone(self, name: str, record: p.Record) -> _Data:
        """As `read_record`, where nothing near the record is wanted: a disk reads little more than this then."""
        try:
            file = self.open(name)
            file.expect_scattered(True)
        except (FileNotFoundError, StorageError):
            return self.read_record(name, record)  # which says what is wrong
        try:
            return self.read_record(name, record)
        finally:
            file.expect_scattered(False)

    def _plain(self, name: str, record: p.Record, siblings: _Siblings, target: memoryview | None = None) -> _Data:
        limit = limits.MAX_OBJECT_BYTES.get(record.kind)
        if limit is None:
            raise FormatError(object=f"object {record.id.hex()[:12]}", problem=f"unknown kind {record.kind}")
        if not 0 < record.length <= limit or record.stored > record.length + limits.MAX_STORED_EXCESS:
            raise IntegrityError(object="a record", problem="its length is not allowed")
        file = self.open(name)
        if record.codec == 0 and target is not None:
            if record.stored != record.length or file.read_into(target, record.offset) != record.length:
                raise IntegrityError(object="a record", problem="the file ends before it")
            plain: _Data = target
        else:
            plain = self._decode(file, record, siblings, target)
        if object_id(record.kind, plain) != record.id:
            raise IntegrityError(object="a record", problem="its bytes do not match its id")
        return plain

    def _decode(self, file: ReadFile, record: p.Record, siblings: _Siblings, target: memoryview | None) -> _Data:
        """Plain bytes, not compared with the id; in `target` if there is one."""
        if record.codec < _DELTA_CODECS:
            stored = read_exact(file, record.offset, record.stored)
            if len(stored) != record.stored:
                raise IntegrityError(object="a record", problem="the file ends before it")
            try:
                return _decoded(record, stored, (), target)
            except FormatError:
                if record.codec in set(Codec) and not _is_listed(record, stored, siblings):
                    raise IntegrityError(object="a record", problem="its stored bytes are damaged") from None
                raise
        rows = siblings()
        number = bisect_left(rows, record.offset, key=attrgetter("offset"))
        if number == len(rows) or _WHICH(rows[number]) != _WHICH(record):
            raise IntegrityError(object="a record", problem="the footer of its pack does not list it")
        return self._decode_closure(file, rows, number, target)

    def _decode_closure(self, file: ReadFile, rows: list[p.Record], number: int, target: memoryview | None) -> _Data:
        """Decode record `number` after the bases it needs, each of which is let go of after its last use."""
        needed = closure(rows, number)
        last_use = {base: user for user in needed for base in bases_of(rows, user)}
        rooms: dict[int, memoryview] = {}
        plains: dict[int, _Data] = {}
        aside = _room(max(rows[current].stored for current in needed))
        for current in needed:
            record, bases = rows[current], bases_of(rows, current)
            stored = aside[: record.stored]
            whole = file.read_into(stored, record.offset) == record.stored
            if not whole or p.check_of(record.codec, record.id, record.kind, stored) != record.check:
                raise IntegrityError(object="a delta record", problem="stored bytes of it or of a base are damaged")
            into = target
            if current != number:
                rooms[current] = _room(record.length)
                into = rooms[current][: record.length]
            plains[current] = _decoded(record, stored, tuple(plains[base] for base in bases), into)
            for base in set(bases):
                if last_use[base] == current:
                    del plains[base]
                    _give_back(rooms.pop(base))
        _give_back(aside)
        return plains[number]


def _room(nbytes: int) -> memoryview:
    """At least so many writable bytes."""
    import numpy as np

    try:
        room = _idle.pop()
    except IndexError:
        room = np.empty(0, np.uint8).data
    return room if len(room) >= nbytes else np.empty(max(nbytes, _ROOM_BYTES), np.uint8).data


def _give_back(room: memoryview) -> None:
    if len(_idle) < _MOST_IDLE and len(room) == _ROOM_BYTES:
        _idle.append(room)


def _decoded(record: p.Record, stored: _Data, bases: tuple[_Data, ...], target: memoryview | None) -> _Data:
    if target is None:
        return decode(record, stored, bases)
    decode_into(record, stored, target, bases)
    return target


def bases_of(rows: Sequence[p.Record] | Mapping[int, p.Record], number: int) -> list[int]:
    """Numbers of the bases of a record, in their order."""
    return [number - distance for distance in (rows[number].base_1, rows[number].base_2) if distance]


def closure(rows: list[p.Record], number: int) -> list[int]:
    """Numbers of the records that must be decoded for one, itself included, bases first; at most MAX_DECODE_COST."""
    needed, waiting = {number}, [number]
    while waiting:
        user = waiting.pop()
        for base in bases_of(rows, user):
            if base in needed:
                continue
            if len(needed) >= limits.MAX_DECODE_COST or base < 0 or rows[base].cost >= rows[user].cost:
                raise IntegrityError(object="a delta record", problem="it needs more bases than the format allows")
            # The limit of its kind holds for the record that is wanted. A base is as long, or nothing is allocated.
            if rows[base].kind not in limits.MAX_OBJECT_BYTES or rows[base].length != rows[user].length:
                raise IntegrityError(object="a delta record", problem="a base is of another length or kind")
            needed.add(base)
            waiting.append(base)
    return sorted(needed)


def _contents(file: ReadFile, identity: bytes | None = None) -> p.PackContents:
    """What the end of a pack file says, proven by its id; arguments as for `_end`."""
    header, footer, offset, named = _end(file, identity)
    return p.decode_footer(header, footer, offset, named)


def _end(file: ReadFile, identity: bytes | None, expected: int = p.BLOCK) -> tuple[bytes, memoryview, int, PackId]:
    """Header block and footer of a pack file, where the footer starts, and the id in its trailer.

    Args:
        identity: of the pack that it should be; None if it may be any.
        expected: so many bytes at the end are read at once; all from the footer on, if that starts before them.
    """
    size = file.size()
    start = max(size - expected, 0)
    end = _view(file, start, size)
    named, offset, length = p.decode_trailer(bytes(end[-p.TRAILER_BYTES :]), size)
    if identity is not None and named != identity:
        raise IntegrityError(object=f"pack {identity.hex()[:12]}", problem="its trailer names another pack")
    if offset < start:
        start, end = offset, _view(file, offset, size)
    return read_exact(file, 0, p.BLOCK), end[offset - start : offset - start + length], offset, named


def _view(file: ReadFile, start: int, end: int) -> memoryview:
    """Bytes of a file, where they were read to: a copy of a footer costs as much as its hash."""
    found = memoryview(bytearray(end - start))
    return found[: file.read_into(found, start)]


def _is_listed(record: p.Record, stored: _Data, siblings: _Siblings) -> bool:
    """Whether the pack's footer has a record with exactly these stored bytes: then they are strange, not damaged."""
    check = p.check_of(record.codec, record.id, record.kind, stored)
    return any(row.id == record.id and row.check == check for row in siblings())


def _problem(error: Exception) -> str:
    facts = getattr(error, "facts", {})
    return str(facts.get("problem", error))
