"""Tables: the view of a store as maps from bytes to bytes, kept by LMDB on disk or by dictionaries in memory.

    rows      object id -> where it is (Row)                 packs     pack id -> number, length (0: not in the set)
    commits   commit id -> bytes added, commit object        numbers   pack number -> pack id
    children  parent id + child id -> nothing                runs      run name -> settings
    refs      ref name -> commit id                          drops     commit id -> drop record
    marks     commit id + key -> value of a mark
    totals    present run name -> its commits and their plain bytes
    meta      `position` of the journal up to which the view is, `next` pack number, `gaps` met in the journal,
              `renamed` (former run name -> list of time, new name), `forgotten`, how often commits were forgotten

A `MemoryTables` over a base holds what changed since the base was written; without a base it holds everything.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

ROWS, COMMITS, CHILDREN, REFS = "rows", "commits", "children", "refs"
PACKS, NUMBERS, RUNS, DROPS, MARKS, TOTALS, META = "packs", "numbers", "runs", "drops", "marks", "totals", "meta"
TABLES = (ROWS, COMMITS, CHILDREN, REFS, PACKS, NUMBERS, RUNS, DROPS, MARKS, TOTALS, META)

IN_JOURNAL = 0x8000_0000
"""Set in `Row.pack` when the object lies in a journal file; the other bits are the number of the file."""
UNKNOWN_BYTES = (1 << 64) - 1

_ROW = struct.Struct("<IQIIBBBBI")
_PACK = struct.Struct("<IQ")
_ADDED = struct.Struct("<Q")
_TOTAL = struct.Struct("<QQ")


class Tables(Protocol):
    """Read access. Values are copies; safe from several threads."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, None if absent."""

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key starts with `prefix`, in no promised order."""

    def count(self, table: str) -> int:
        """How many keys a table has."""


class WritableTables(Tables, Protocol):
    """Tables that one writer changes; it reads its own changes."""

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set a key."""

    def delete(self, table: str, key: bytes) -> None:
        """Remove a key; absent is fine."""


class MemoryTables:
    """Tables in memory, over an optional base that they hide where they differ. One thread at a time writes."""

    def __init__(self, base: Tables | None = None) -> None:
        self._base = base
        self._maps: dict[str, dict[bytes, bytes | None]] = {table: {} for table in TABLES}

    def get(self, table: str, key: bytes) -> bytes | None:
        own = self._maps[table]
        if key in own:
            return own[key]
        return None if self._base is None else self._base.get(table, key)

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        own = dict(self._maps[table])
        if self._base is not None:
            for key, value in self._base.scan(table, prefix):
                if key not in own:
                    yield key, value
        for key, kept in own.items():
            if kept is not None and key.startswith(prefix):
                yield key, kept

    def count(self, table: str) -> int:
        if self._base is None:
            return sum(value is not None for value in self._maps[table].values())
        total = self._base.count(table)
        for key, value in list(self._maps[table].items()):
            total += (value is not None) - (self._base.get(table, key) is not None)
        return total

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._maps[table][key] = value

    def delete(self, table: str, key: bytes) -> None:
        if self._base is None:
            self._maps[table].pop(key, None)
        else:
            self._maps[table][key] = None


class Row(NamedTuple):
    """Where an object is: pack number (or IN_JOURNAL | journal file), offset in bytes, lengths, how it is encoded."""

    pack: int
    offset: int
    stored: int
    length: int
    kind: int
    codec: int
    element: int
    flags: int

    def encode(self, key: bytes) -> bytes:
        """The row's bytes, with a check that covers its key."""
        bare = _ROW.pack(*self, 0)[:-4]
        return bare + zlib.crc32(bare, zlib.crc32(key)).to_bytes(4, "little")

    @classmethod
    def decode(cls, key: bytes, value: bytes) -> Row | None:
        """The row, or None if the check does not match: a damaged row is no row."""
        if len(value) != _ROW.size or zlib.crc32(value[:-4], zlib.crc32(key)) != int.from_bytes(value[-4:], "little"):
            return None
        return cls(*_ROW.unpack(value)[:8])


def encode_pack(number: int, nbytes: int) -> bytes:
    """Value of the packs table."""
    return _PACK.pack(number, nbytes)


def decode_pack(value: bytes) -> tuple[int, int]:
    """(number, length) from the packs table."""
    number, nbytes = _PACK.unpack(value)
    return number, nbytes


def number_key(number: int) -> bytes:
    """Key of the numbers table."""
    return number.to_bytes(4, "big")


def encode_commit(added: int | None, data: bytes) -> bytes:
    """Value of the commits table: bytes the commit added to the store (None: unknown), and the commit object."""
    return _ADDED.pack(UNKNOWN_BYTES if added is None else added) + data


def decode_commit(value: bytes) -> tuple[int | None, bytes]:
    """(bytes added, commit object) from the commits table."""
    added = _ADDED.unpack_from(value)[0]
    return (None if added == UNKNOWN_BYTES else added), value[_ADDED.size :]


def encode_total(commits: int, nbytes: int) -> bytes:
    """Value of the totals table."""
    return _TOTAL.pack(commits, nbytes)


def decode_total(value: bytes | None) -> tuple[int, int]:
    """(commits, plain bytes) from the totals table."""
    if value is None:
        return 0, 0
    commits, nbytes = _TOTAL.unpack(value)
    return commits, nbytes
