"""Where many objects are, for those who ask for thousands at a time. Thread-safe."""

from __future__ import annotations

from typing import NamedTuple

from casckpt.format.entry import PackRef
from casckpt.format.ids import Kind, ObjectId
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.odb.pack_writer import pack_name


class Place(NamedTuple):
    """Row of an object and the pack it lies in; None if that is a journal file."""

    row: t.Row
    pack: PackRef | None

    @property
    def name(self) -> str:
        """Name of the file."""
        return file_name(self.row.pack & ~t.IN_JOURNAL) if self.pack is None else pack_name(self.pack.id)


class Locator:
    """Looks objects up in what the database knows now. Remembers packs, so it serves one operation, not a life."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables: t.Tables = database.tables
        self._packs: dict[int, PackRef | None] = {}

    def find(self, identity: ObjectId, kind: Kind, length: int) -> Place | None:
        """The place of an object, None if no pack of the pack set lists it with this kind and length."""
        tables = self._database.tables
        value = tables.get(t.ROWS, identity)
        row = None if value is None else t.Row.decode(identity, value)
        if row is None or row.kind != kind or row.length != length:
            return None
        if row.pack & t.IN_JOURNAL:
            return Place(row, None)
        if tables is not self._tables:  # another index may number the packs in another way
            self._tables, self._packs = tables, {}
        packs = self._packs
        if row.pack not in packs:
            packs[row.pack] = self._database.pack_of(row)
        pack = packs[row.pack]
        return None if pack is None else Place(row, pack)
