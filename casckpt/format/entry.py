"""Entries of the journal: what one atomic step changes. One frame holds one entry.

    payload = head length u32 | head (canonical msgpack) | zeros to 64 | objects, each on a multiple of 64

An entry may move any number of refs, carry objects (the commit itself, and everything of a tiny commit), add packs
to the pack set and take packs out, change run settings, mark commits, and record or cancel drops. What it changes it
tells with the value before, so that another entry can take it back. An entry with `reset` restates everything before
it; it opens every journal file, so that readers need no older file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from casckpt.errors import IntegrityError
from casckpt.format import limits
from casckpt.format.canonical import Fields, decode, encode
from casckpt.format.ids import CommitId, PackId
from casckpt.format.marks import OF_LEAVES, is_leaves_mark
from casckpt.format.pack import RECORD_BYTES, UNIT, Record, decode_records, pad

FORGOTTEN = "forgotten"
"""Key of the mark of a commit that is known no more."""
_LENGTH = struct.Struct("<I")
_Data = bytes | bytearray | memoryview


class RefMove(NamedTuple):
    """A ref that named `old` names `new`; None is absence."""

    name: str
    old: CommitId | None
    new: CommitId | None


class PackRef(NamedTuple):
    """A pack by name, with the length its file must have."""

    id: PackId
    nbytes: int


class Drop(NamedTuple):
    """The record that a commit was dropped (`parts` None) or thinned of some components, by which rule, when.

    `cancelled` takes the record back: the tree is there again.
    """

    commit: CommitId
    parts: tuple[str, ...] | None
    rule: str
    time_ns: int
    cancelled: bool = False


class Mark(NamedTuple):
    """A fact about a commit that is no part of it: what it was and is; None is absence.

    `note` is a text, `pin` a map of `time`, when it was set, and `until`, when it ends (nil: never), in nanoseconds;
    `nonfinite` and `damaged` are as `format.marks` says; `forgotten`, that the commit is known no more, is a map of its
    `parents` and `left`, whether bytes of it may be.
    """

    commit: CommitId
    key: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One atomic step of a store."""

    op: str
    time_ns: int
    refs: tuple[RefMove, ...] = ()
    packs: tuple[PackRef, ...] = ()
    gone: tuple[PackId, ...] = ()
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of runs that change; None removes one."""
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the settings in `runs` were, for every run that is known of; those that were not set are not in it."""
    marks: tuple[Mark, ...] = ()
    drops: tuple[Drop, ...] = ()
    by: str = ""
    note: str = ""
    added: int | None = None
    """Bytes that the commit of this entry added to the store."""
    undoes: int | None = None
    """The number of the entry that this one takes back."""
    reset: bytes | None = None
    """The store's id in an entry that restates everything, None in all others."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    objects: tuple[tuple[Record, _Data], ...] = ()
    """Records and stored bytes; when decoded, the offsets count from the start of the payload."""

    def encode(self) -> bytes:
        value: dict[str, Any] = {
            "op": self.op,
            "time": self.time_ns,
            "refs": self.refs,
            "packs": self.packs,
            "gone": self.gone,
            "runs": dict(self.runs),
            "before": dict(self.before),
            "marks": self.marks,
            "drops": [(*drop[:4], *drop[4:]) if drop.cancelled else drop[:4] for drop in self.drops],
            "by": self.by,
            "note": self.note,
            "reset": self.reset,
            "records": bytes(RECORD_BYTES * len(self.objects)),
        }
        head = {**self.extra, **{key: item for key, item in value.items() if item or key in ("op", "time")}}
        numbers = {"added": self.added, "undoes": self.undoes}
        head |= {key: number for key, number in numbers.items() if number is not None}
        # The offsets lie in fixed-width records, so a first encoding tells how long the head will be.
        position = _LENGTH.size + len(encode(head))
        body, rows = bytearray(pad(position, UNIT)), []
        start = position
        for record, stored in self.objects:
            body += bytes(pad(len(body) + start, UNIT))
            rows.append(record._replace(offset=start + len(body)).pack())
            body += stored
        if rows:
            head["records"] = b"".join(rows)
        raw = encode(head)
        return _LENGTH.pack(len(raw)) + raw + bytes(body)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Entry:
        """The entry of a frame whose hash was checked.

        Raises:
            IntegrityError: for a head that is not canonical, an unknown critical field, or an object out of bounds.
        """
        what = "a journal entry"
        length = _LENGTH.unpack_from(payload)[0] if len(payload) >= _LENGTH.size else len(payload)
        if _LENGTH.size + length > len(payload):
            raise IntegrityError(object=what, problem="its head is longer than the frame")
        fields = Fields(decode(bytes(payload[_LENGTH.size : _LENGTH.size + length]), what), what)
        rows = fields.get("records", bytes, b"")
        if len(rows) % RECORD_BYTES:
            raise fields.error("its records are cut short")
        records = decode_records(rows, _LENGTH.size + length, len(payload), allow_bases=False)
        uuid = fields.get("reset", bytes)
        if uuid is not None and len(uuid) != 16:
            raise fields.error("the store's id has not 16 bytes")
        return cls(
            op=fields.need("op", str),
            time_ns=fields.need("time", int),
            refs=tuple(_ref(item, fields) for item in fields.get("refs", list, [])),
            packs=tuple(_pack(item, fields) for item in fields.get("packs", list, [])),
            gone=tuple(PackId(identity) for identity in fields.ids("gone")),
            runs=_runs("runs", fields),
            before=_runs("before", fields),
            marks=tuple(_mark(item, fields) for item in fields.get("marks", list, [])),
            drops=tuple(_drop(item, fields) for item in fields.get("drops", list, [])),
            by=fields.get("by", str, ""),
            note=fields.get("note", str, ""),
            added=fields.get("added", int),
            undoes=fields.get("undoes", int),
            reset=uuid,
            extra=fields.unknown(_KNOWN),
            objects=tuple((record, payload[record.offset : record.offset + record.stored]) for record in records),
        )


_KNOWN = frozenset(
    (
        *("op", "time", "refs", "packs", "gone", "runs", "before", "marks", "drops", "by", "note", "reset", "records"),
        *("added", "undoes"),
    )
)


def _is_id(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def _ref(item: Any, fields: Fields) -> RefMove:
    if type(item) is not list or len(item) != 3 or type(item[0]) is not str:
        raise fields.error("a ref move is not (name, old, new)")
    if len(item[0].encode()) > limits.MAX_REF_BYTES or not all(i is None or _is_id(i) for i in item[1:]):
        raise fields.error("a ref move names no commit")
    return RefMove(item[0], item[1], item[2])


def _pack(item: Any, fields: Fields) -> PackRef:
    if type(item) is not list or len(item) != 2 or not _is_id(item[0]) or type(item[1]) is not int:
        raise fields.error("a pack is not (id, length)")
    if not 0 < item[1] <= limits.MAX_PACK_BYTES:
        raise fields.error("a pack has an impossible length")
    return PackRef(PackId(item[0]), item[1])


def _drop(item: Any, fields: Fields) -> Drop:
    if (
        type(item) is not list
        or len(item) not in (4, 5)
        or not _is_id(item[0])
        or [type(x) for x in item[2:4]] != [str, int]
    ):
        raise fields.error("a drop is not (commit, parts, rule, time)")
    parts = item[1]
    if parts is not None and (type(parts) is not list or not all(type(part) is str for part in parts)):
        raise fields.error("a drop does not list names of parts")
    if len(item) == 5 and item[4] is not True:
        raise fields.error("the fifth field of a drop is not true")
    return Drop(item[0], None if parts is None else tuple(parts), item[2], item[3], len(item) == 5)


def _mark(item: Any, fields: Fields) -> Mark:
    if type(item) is not list or len(item) != 4 or not _is_id(item[0]) or type(item[1]) is not str:
        raise fields.error("a mark is not (commit, key, old, new)")
    if not 0 < len(item[1].encode()) <= limits.MAX_NAME_BYTES:
        raise fields.error("the key of a mark is empty or too long")
    for value in item[2:]:
        if value is not None and not is_mark(item[1], value):
            raise fields.error(f"a mark {item[1]!a} has an impossible value")
    return Mark(*item)


def is_mark(key: str, value: Any) -> bool:
    """Whether a mark can have a value; under keys that this release does not know, any that is not too large."""
    if key == "note" and (type(value) is not str or not value):
        return False
    if key == FORGOTTEN and (type(value) is not dict or type(value.get("left")) is not bool):
        return False
    if key == FORGOTTEN and (type(value.get("parents")) is not list or not all(map(_is_id, value["parents"]))):
        return False
    if key == "pin" and (type(value) is not dict or type(value.get("time")) is not int or "until" not in value):
        return False
    if key == "pin" and value["until"] is not None and type(value["until"]) is not int:
        return False
    if key in OF_LEAVES and not is_leaves_mark(value):
        return False
    return len(encode(value)) <= limits.MAX_MARK_BYTES


def _runs(name: str, fields: Fields) -> dict[str, dict[str, Any]]:
    runs = fields.get(name, dict, {})
    if not all(type(key) is str and type(item) is dict for key, item in runs.items()):
        raise fields.error("run settings are not maps by run name")
    return dict(runs)
