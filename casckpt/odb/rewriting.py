"""New packs for objects that the store has, in a better form: nothing is lost if any of it goes wrong.

    pack durable -> every record read back, decoded, compared with its id -> frame durable -> the next pack

A rewriting only adds. What lies twice then is redundant, and a collection removes the worse copy. Every pack is
listed by a frame of its own, so that an interrupt costs one pack at most; and between two packs the commit lock is
free, so that a collector waits for one pack at most.
"""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any, Self

from casckpt.errors import CasckptError, FormatError, IntegrityError, NotReadBack
from casckpt.format import pack as p
from casckpt.format.decode import decode
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import object_id, short_id
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.repository import Repository, writer_name
from casckpt.odb.session import Session
from casckpt.storage.base import ReadFile, read_exact

_Data = bytes | bytearray | memoryview


class Rewriting:
    """Packs being written and listed one after another. One thread; a context manager.

    What is listed stays whatever happens; what is not is removed at the end, also by an interrupt.

    Args:
        op: of the entries that list the packs.
        hints: of the packs.
        deltas: whether records may have bases.
    """

    def __init__(self, repository: Repository, op: str, hints: dict[str, Any], *, deltas: bool = False) -> None:
        self._repository = repository
        self._op = op
        self.hints = dict(hints)
        """Of the packs that are finished from now on."""
        self._deltas = deltas
        self._session: Session | None = None
        self._writer: PackWriter | None = None
        self.packs: list[PackRef] = []
        """Listed so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.abandon()
        finally:
            if self._session is not None:
                self._session.__exit__(kind, error, trace)

    def begin(self) -> bool:
        """Hold the commit lock until the next pack is listed; whether it was not held before.

        What is looked up from then on stays where it is.
        """
        if self._session is not None:
            return False
        session = self._repository.session()
        session.__enter__()
        self._session = session
        return True

    @property
    def records(self) -> int:
        """Records of the pack that is being written."""
        return 0 if self._writer is None else len(self._writer.records)

    def add(self, record: p.Record, stored: _Data) -> None:
        """Append a record; its offset is set here. Bases must lie in the same pack: nothing is cut before `end_leaf`.

        Args:
            stored: its stored bytes, copied.
        """
        self.begin()
        if self._writer is None:
            self._writer = PackWriter(self._repository.storage, deltas=self._deltas)
        self._writer.add(record, stored)

    def end_leaf(self) -> None:
        """Say that the pack may end here; a full one is listed."""
        if self._writer is not None and self._writer.end_leaf():
            self.publish()

    def publish(self) -> None:
        """Finish the pack, read it back and list it; nothing without records. The commit lock is let go of.

        Raises:
            NotReadBack: a record of it does not decode to what has its id; the pack is removed.
            StorageError: the disk failed or is full; the pack is removed.
        """
        writer, session, database = self._writer, self._session, self._repository.database
        if session is None:
            return
        if writer is not None:
            pack = writer.finish(self.hints)
            # Only now: until then an interrupt leaves an unfinished file, which is removed at the end.
            self._writer = None
            entry = Entry(self._op, time.time_ns(), packs=(pack,), by=writer_name())
            try:
                read_back(database, pack, writer.records)
                session.publish(lambda: (entry, []))
            except BaseException:
                self._remove(pack)
                raise
            self.packs.append(pack)
            database.absorb()
        self._session = None
        session.__exit__(None, None, None)

    def _remove(self, pack: PackRef) -> None:
        """Remove a pack that was not listed. An equal one may have been before, and a frame may be durable after all:
        then it stays."""
        database = self._repository.database
        with contextlib.suppress(CasckptError, FileNotFoundError):
            database.refresh()
            if not database.has_pack(pack.id):
                database.packs.forget(pack_name(pack.id))
                database.storage.unlink(pack_name(pack.id))


def read_back(database: Database, pack: PackRef, written: list[p.Record]) -> None:
    """Decode every record of a pack from its file and compare it with its id, each once.

    Args:
        written: the records that its footer must list.

    Raises:
        NotReadBack: anything differs.

    Memory: the plain bytes that later records are predicted from, for a pyramid half of it.
    """
    name = pack_name(pack.id)
    database.packs.forget(name)
    try:
        records = database.packs.contents(pack.id).records
        if records != written:
            raise IntegrityError(object="its footer", problem="it lists other records")
        _decode_all(database.packs.open(name), records)
    except (IntegrityError, FormatError, FileNotFoundError) as error:
        raise NotReadBack(pack=short_id(pack.id), problem=str(error)) from error


def _decode_all(file: ReadFile, records: list[p.Record]) -> None:
    bases = [
        [number - back for back in (record.base_1, record.base_2) if back] for number, record in enumerate(records)
    ]
    last_use = {base: number for number, needed in enumerate(bases) for base in needed}
    plains: dict[int, _Data] = {}
    for number, record in enumerate(records):
        stored = read_exact(file, record.offset, record.stored)
        if p.check_of(record.codec, record.id, record.kind, stored) != record.check:
            raise IntegrityError(object=f"record {number}", problem="its stored bytes differ")
        plain = decode(record, stored, tuple(plains[base] for base in bases[number]))
        if object_id(record.kind, plain) != record.id:
            raise IntegrityError(object=f"record {number}", problem="it decodes to other bytes")
        if number in last_use:
            plains[number] = plain
        for base in set(bases[number]):
            if last_use[base] == number:
                del plains[base]
