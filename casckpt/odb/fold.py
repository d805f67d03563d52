"""Folding the journal into tables: the only place that says what an entry does to the view of a store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from casckpt.errors import FormatError, IntegrityError, StorageError
from casckpt.format.canonical import decode, encode
from casckpt.format.commit import Commit
from casckpt.format.entry import FORGOTTEN, Drop, Entry, Mark, PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId, PackId, object_id
from casckpt.format.pack import Record
from casckpt.odb import tables as t
from casckpt.odb.forgotten import forget, is_forgotten, living
from casckpt.odb.notices import warn
from casckpt.odb.renames import KEY, listed, present, renames_of

ADDED = "added"
"""Field of the hints of sealed packs."""
Gap = tuple[int, int, int]
"""(journal file, start, end) of bytes that hold no valid frame though frames or damage follow."""


class PackSource(Protocol):
    """What folding needs to know of pack files."""

    def records(self, pack: PackRef) -> list[Record]:
        """All records of a pack, from its footer or, where that is damaged, from what can be salvaged."""

    def hints(self, pack: PackRef) -> dict[str, Any]:
        """The hints in its footer, empty if that is damaged."""

    def read_plain(self, pack: PackRef, record: Record) -> bytes:
        """Plain, verified bytes of a record without bases."""


def fold(
    tables: t.WritableTables,
    entry: Entry,
    file: int,
    payload_offset: int,
    source: PackSource,
    leaves: Collection[PackId] = (),
) -> None:
    """Apply one entry.

    Args:
        file: number of the journal file that holds the entry.
        payload_offset: of its payload in that file, in bytes.
        leaves: packs of the entry that a later one takes out: their files are gone, and nobody needs what was in them.

    An entry with `reset` restates what the entries before it said: for tables that hold those it is no news.
    A pack that cannot be read is listed all the same: what it held is then missing, and fsck says so.
    """
    for record, stored in entry.objects:
        if record.kind == Kind.COMMIT and is_forgotten(tables, record.id):
            continue
        _put_row(tables, record, t.IN_JOURNAL | file, payload_offset + record.offset)
        if record.kind == Kind.COMMIT and object_id(Kind.COMMIT, stored) == record.id:
            _put_commit(tables, record.id, bytes(stored), entry.added)
    for identity in entry.gone:
        _unlist(tables, identity)
    # After what is gone, so that objects of a replaced pack get rows into its successor.
    for pack in entry.packs:
        _add_pack(tables, pack, source, is_news=entry.op != "snapshot", leaves=pack.id in leaves)
    for name, _, new in entry.refs:
        if new is None:
            tables.delete(t.REFS, name.encode())
        else:
            tables.put(t.REFS, name.encode(), new)
    for run, settings in entry.runs.items():
        _put_settings(tables, run, settings)
    if any("renamed" in settings for settings in entry.runs.values()):
        _rename(tables, entry.runs)
    unknown: list[Mark] = []
    for mark in entry.marks:
        key = mark.commit + mark.key.encode()
        if mark.new is None:
            tables.delete(t.MARKS, key)
        else:
            tables.put(t.MARKS, key, encode(mark.new))
            if mark.key == FORGOTTEN:
                unknown.append(mark)
    for drop in entry.drops:
        if drop.cancelled:
            tables.delete(t.DROPS, drop.commit)
        else:
            tables.put(t.DROPS, drop.commit, encode([drop.parts, drop.rule, drop.time_ns]))
    # Last, as it ends what else the entry or those before it say of these commits.
    for mark in unknown:
        forget(tables, mark)
    repaired = repaired_gaps(entry)
    if repaired:
        _put_gaps(tables, [gap for gap in known_gaps(tables) if not any(map(_covers(gap), repaired))])


def note_gaps(tables: t.WritableTables, gaps: Sequence[Gap]) -> None:
    """Remember bytes of the journal that hold no valid frame, until a repair has gone over them.

    Note what a scan of the journal saw before folding the frames it found: a repair among them may end a gap.
    """
    known = known_gaps(tables)
    fresh = [gap for gap in dict.fromkeys(gaps) if gap not in known]
    if fresh:
        _put_gaps(tables, [*known, *fresh])


def known_gaps(tables: t.Tables) -> list[Gap]:
    """Gaps of the journal that whoever filled these tables met, and that no repair has gone over."""
    value = tables.get(t.META, b"gaps")
    try:
        return [] if value is None else _gaps_in(decode(value, "the gaps of the journal"))
    except IntegrityError:  # a damaged index; fsck finds the gaps in the journal itself
        return []


def repaired_gaps(entry: Entry) -> list[Gap]:
    """Gaps of the journal that a repair entry says it has gone over."""
    return _gaps_in(entry.extra.get("gaps")) if entry.op == "repair" else []


def _gaps_in(value: Any) -> list[Gap]:
    """The (file, start, end) in a decoded list; whatever else is in it comes from elsewhere and means nothing here."""
    found = [item for item in value if type(item) is list and len(item) == 3] if type(value) is list else []
    return [(item[0], item[1], item[2]) for item in found if all(type(number) is int for number in item)]


def _covers(gap: Gap) -> Callable[[Gap], bool]:
    # Who reads the journal in steps meets a gap that grows in parts; a check reads whole files.
    return lambda other: other[0] == gap[0] and other[1] <= gap[1] and gap[2] <= other[2]


def _put_gaps(tables: t.WritableTables, gaps: list[Gap]) -> None:
    tables.put(t.META, b"gaps", encode([list(gap) for gap in gaps]))


def decode_drop(commit: bytes, value: bytes) -> Drop:
    """The drop record of a commit from the drops table."""
    parts, rule, time_ns = decode(value, "a drop record")
    return Drop(CommitId(ObjectId(commit)), None if parts is None else tuple(parts), rule, time_ns)


def mark_of(tables: t.Tables, commit: CommitId, key: str) -> Any:
    """One mark of a commit, None if it has none. Cost: one look-up."""
    value = tables.get(t.MARKS, commit + key.encode())
    return None if value is None else decode(value, "a mark")


def all_marks(tables: t.Tables) -> Iterator[tuple[CommitId, str, Any]]:
    """(commit, key, value) of every mark."""
    for key, value in tables.scan(t.MARKS):
        yield CommitId(ObjectId(key[:32])), key[32:].decode(), decode(value, "a mark")


def _put_settings(tables: t.WritableTables, run: str, settings: Mapping[str, Any]) -> None:
    old = tables.get(t.RUNS, run.encode())
    merged = {**(decode(old, "run settings") if old else {}), **settings}
    kept = {key: value for key, value in merged.items() if value is not None}
    if kept:
        tables.put(t.RUNS, run.encode(), encode(kept))
    else:
        tables.delete(t.RUNS, run.encode())


def _rename(tables: t.WritableTables, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Take over renames, and count the commits of every run anew, where that is news.

    Counted from the commits themselves, since a rebuild of the index may meet them before or after their rename.
    """
    known = renames_of(tables)
    changed = {run: listed(settings["renamed"]) for run, settings in runs.items() if "renamed" in settings}
    renames = {run: found for run, found in {**known, **changed}.items() if found}
    if renames == known:
        return
    tables.put(t.META, KEY, encode(renames))
    totals: dict[str, tuple[int, int]] = {}
    for _, value in tables.scan(t.COMMITS):
        with contextlib.suppress(IntegrityError):  # a row of a damaged index too large to be hashed
            commit = present(Commit.decode(t.decode_commit(value)[1]), renames)
            count, nbytes = totals.get(commit.run, (0, 0))
            totals[commit.run] = count + 1, nbytes + commit.nbytes
    for run, _ in list(tables.scan(t.TOTALS)):
        tables.delete(t.TOTALS, run)
    for name, (count, nbytes) in totals.items():
        tables.put(t.TOTALS, name.encode(), t.encode_total(count, nbytes))


def _unlist(tables: t.WritableTables, identity: bytes) -> None:
    value = tables.get(t.PACKS, identity)
    if value is not None:
        tables.put(t.PACKS, identity, t.encode_pack(t.decode_pack(value)[0], 0))


def _add_pack(tables: t.WritableTables, pack: PackRef, source: PackSource, *, is_news: bool, leaves: bool) -> None:
    """List a pack and give its objects rows, where they have no usable one.

    Args:
        is_news: whether somebody wrote or found the pack, so that it is worth reading though it is known: equal packs
            have equal ids, and whoever wrote it again did not find its objects, since their rows are damaged. A
            snapshot restates every pack of the store; those that are known must cost nothing.
        leaves: whether a later entry takes it out.
    """
    value = tables.get(t.PACKS, pack.id)
    fresh = int.from_bytes(tables.get(t.META, b"next") or b"", "little")
    number = fresh if value is None else t.decode_pack(value)[0]
    if value is None:
        tables.put(t.NUMBERS, t.number_key(number), pack.id)
    if number >= fresh:
        # Also of a pack that is known: an index below these tables, which another process brought up to date
        # meanwhile, may know it before them, and the next pack must not get the same number.
        tables.put(t.META, b"next", (number + 1).to_bytes(4, "little"))
    tables.put(t.PACKS, pack.id, t.encode_pack(number, pack.nbytes))
    if leaves or (value is not None and not is_news):
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
        if record.kind == Kind.COMMIT and is_forgotten(tables, record.id):
            continue
        if not _usable(tables, record.id):
            _put_row(tables, record, number, record.offset)
        if record.kind == Kind.COMMIT and tables.get(t.COMMITS, record.id) is None:
            added = added or added_hints(source.hints(pack))
            try:
                _put_commit(tables, record.id, source.read_plain(pack, record), added.get(record.id))
            except (IntegrityError, FormatError, StorageError, FileNotFoundError) as error:
                warn("commit %s cannot be read: %s", record.id.hex()[:12], error)


def added_hints(hints: dict[str, Any]) -> dict[bytes, int]:
    """Bytes that each commit of a sealed pack added when it was made."""
    pairs = hints.get(ADDED, [])
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
    commit = present(commit, renames_of(tables))
    count, nbytes = t.decode_total(tables.get(t.TOTALS, commit.run.encode()))
    tables.put(t.TOTALS, commit.run.encode(), t.encode_total(count + 1, nbytes + commit.nbytes))
    for parent in living(tables, commit.parents):
        tables.put(t.CHILDREN, parent + CommitId(identity), b"")
