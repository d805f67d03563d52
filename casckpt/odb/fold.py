"""Folding the journal into tables: the only place that says what an entry does to the view of a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from casckpt.errors import FormatError, IntegrityError, StorageError
from casckpt.format.canonical import decode, encode
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop, Entry, PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.format.pack import Record
from casckpt.odb import tables as t
from casckpt.odb.notices import warn


class PackSource(Protocol):
    """What folding needs to know of pack files."""

    def records(self, pack: PackRef) -> list[Record]:
        """All records of a pack, from its footer or, where that is damaged, from what can be salvaged."""

    def hints(self, pack: PackRef) -> dict[str, Any]:
        """The hints in its footer, empty if that is damaged."""

    def read_plain(self, pack: PackRef, record: Record) -> bytes:
        """Plain, verified bytes of a record without bases."""


def fold(tables: t.WritableTables, entry: Entry, file: int, payload_offset: int, source: PackSource) -> None:
    """Apply one entry.

    Args:
        file: number of the journal file that holds the entry.
        payload_offset: of its payload in that file, in bytes.

    An entry with `reset` restates what the entries before it said: for tables that hold those it is no news.
    A pack that cannot be read is listed all the same: what it held is then missing, and fsck says so.
    """
    for record, stored in entry.objects:
        _put_row(tables, record, t.IN_JOURNAL | file, payload_offset + record.offset)
        if record.kind == Kind.COMMIT and object_id(Kind.COMMIT, stored) == record.id:
            _put_commit(tables, record.id, bytes(stored), entry.added)
    for identity in entry.gone:
        _unlist(tables, identity)
    # After what is gone, so that objects of a replaced pack get rows into its successor.
    for pack in entry.packs:
        _add_pack(tables, pack, source, is_news=entry.op != "snapshot")
    for name, _, new in entry.refs:
        if new is None:
            tables.delete(t.REFS, name.encode())
        else:
            tables.put(t.REFS, name.encode(), new)
    for run, settings in entry.runs.items():
        old = tables.get(t.RUNS, run.encode())
        merged = {**(decode(old, "run settings") if old else {}), **settings}
        tables.put(t.RUNS, run.encode(), encode(merged))
    for drop in entry.drops:
        if drop.cancelled:
            tables.delete(t.DROPS, drop.commit)
        else:
            tables.put(t.DROPS, drop.commit, encode([drop.parts, drop.rule, drop.time_ns]))


def decode_drop(commit: bytes, value: bytes) -> Drop:
    """The drop record of a commit from the drops table."""
    parts, rule, time_ns = decode(value, "a drop record")
    return Drop(CommitId(ObjectId(commit)), None if parts is None else tuple(parts), rule, time_ns)


def _unlist(tables: t.WritableTables, identity: bytes) -> None:
    value = tables.get(t.PACKS, identity)
    if value is not None:
        tables.put(t.PACKS, identity, t.encode_pack(t.decode_pack(value)[0], 0))


def _add_pack(tables: t.WritableTables, pack: PackRef, source: PackSource, *, is_news: bool) -> None:
    """List a pack and give its objects rows, where they have no usable one.

    Args:
        is_news: whether somebody wrote or found the pack, so that it is worth reading though it is known: equal packs
            have equal ids, and whoever wrote it again did not find its objects, since their rows are damaged. A
            snapshot restates every pack of the store; those that are known must cost nothing.
    """
    value = tables.get(t.PACKS, pack.id)
    if value is None:
        number = int.from_bytes(tables.get(t.META, b"next") or b"", "little")
        tables.put(t.META, b"next", (number + 1).to_bytes(4, "little"))
        tables.put(t.NUMBERS, t.number_key(number), pack.id)
    else:
        number = t.decode_pack(value)[0]
    tables.put(t.PACKS, pack.id, t.encode_pack(number, pack.nbytes))
    if value is not None and not is_news:
        return
    try:
        records = source.records(pack)
    except (IntegrityError, FormatError, StorageError, FileNotFoundError) as error:
        warn("pack %s cannot be read: %s", pack.id.hex()[:12], error)
        return
    _put_records(tables, pack, number, records, source)


def _put_records(
    tables: t.WritableTables, pack: PackRef, number: int, records: Iterable[Record], source: PackSource
) -> None:
    added: dict[bytes, int] = {}
    for record in records:
        if not _usable(tables, record.id):
            _put_row(tables, record, number, record.offset)
        if record.kind == Kind.COMMIT and tables.get(t.COMMITS, record.id) is None:
            added = added or _added(source.hints(pack))
            try:
                _put_commit(tables, record.id, source.read_plain(pack, record), added.get(record.id))
            except (IntegrityError, FormatError, StorageError, FileNotFoundError) as error:
                warn("commit %s cannot be read: %s", record.id.hex()[:12], error)


def _added(hints: dict[str, Any]) -> dict[bytes, int]:
    """Bytes that each commit of a sealed pack added when it was made."""
    pairs = hints.get("added", [])
    if type(pairs) is not list or not all(type(pair) is list and len(pair) == 2 for pair in pairs):
        return {}
    return {key: count for key, count in pairs if type(key) is bytes and type(count) is int and 0 <= count < 1 << 63}


def _usable(tables: t.Tables, identity: ObjectId) -> bool:
    """Whether an object has a row that points into a pack of the set (rows of the journal give way to packs)."""
    value = tables.get(t.ROWS, identity)
    row = None if value is None else t.Row.decode(identity, value)
    if row is None or row.pack & t.IN_JOURNAL:
        return False
    pack = tables.get(t.NUMBERS, t.number_key(row.pack))
    listed = None if pack is None else tables.get(t.PACKS, pack)
    return listed is not None and t.decode_pack(listed)[1] > 0


def _put_row(tables: t.WritableTables, record: Record, pack: int, offset: int) -> None:
    row = t.Row(pack, offset, record.stored, record.length, record.kind, record.codec, record.element, record.flags)
    tables.put(t.ROWS, record.id, row.encode(record.id))


def _put_commit(tables: t.WritableTables, identity: ObjectId, data: bytes, added: int | None) -> None:
    try:
        commit = Commit.decode(data)
    except IntegrityError as error:
        warn("commit %s cannot be read: %s", identity.hex()[:12], error)
        return
    if tables.get(t.COMMITS, identity) is not None:
        return
    tables.put(t.COMMITS, identity, t.encode_commit(added, data))
    count, nbytes = t.decode_total(tables.get(t.TOTALS, commit.run.encode()))
    tables.put(t.TOTALS, commit.run.encode(), t.encode_total(count + 1, nbytes + commit.nbytes))
    for parent in commit.parents:
        tables.put(t.CHILDREN, parent + CommitId(identity), b"")
