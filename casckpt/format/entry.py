"""Entries of the journal: what one atomic step changes. One frame holds one entry.

    payload = head length u32 | head (canonical msgpack) | zeros to 64 | objects, each on a multiple of 64

An entry may move any number of refs, carry objects (the commit itself, and everything of a tiny commit), add packs
to the pack set and take packs out, change run settings, and record or cancel drops. An entry with `reset` restates
everything before it; it opens every journal file, so that readers need no older file.
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
from casckpt.format.pack import RECORD_BYTES, UNIT, Record, decode_records, pad

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


@dataclass(frozen=True, slots=True)
class Entry:
    """One atomic step of a store."""

    op: str
    time_ns: int
    refs: tuple[RefMove, ...] = ()
    packs: tuple[PackRef, ...] = ()
    gone: tuple[PackId, ...] = ()
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    drops: tuple[Drop, ...] = ()
    by: str = ""
    note: str = ""
    added: int | None = None
    """Bytes that the commit of this entry added to the store."""
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
            "drops": [(*drop[:4], *drop[4:]) if drop.cancelled else drop[:4] for drop in self.drops],
            "by": self.by,
            "note": self.note,
            "reset": self.reset,
            "records": bytes(RECORD_BYTES * len(self.objects)),
        }
        head = {**self.extra, **{key: item for key, item in value.items() if item or key in ("op", "time")}}
        if self.added is not None:
            head["added"] = self.added
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
        added = fields.get("added", int)
        return cls(
            op=fields.need("op", str),
            time_ns=fields.need("time", int),
            refs=tuple(_ref(item, fields) for item in fields.get("refs", list, [])),
            packs=tuple(_pack(item, fields) for item in fields.get("packs", list, [])),
            gone=tuple(PackId(identity) for identity in fields.ids("gone")),
            runs=_runs(fields),
            drops=tuple(_drop(item, fields) for item in fields.get("drops", list, [])),
            by=fields.get("by", str, ""),
            note=fields.get("note", str, ""),
            added=added,
            reset=uuid,
            extra=fields.unknown(_KNOWN),
            objects=tuple((record, payload[record.offset : record.offset + record.stored]) for record in records),
        )


_KNOWN = frozenset(("op", "time", "refs", "packs", "gone", "runs", "drops", "by", "note", "reset", "records", "added"))


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


def _runs(fields: Fields) -> dict[str, dict[str, Any]]:
    runs = fields.get("runs", dict, {})
    if not all(type(key) is str and type(item) is dict for key, item in runs.items()):
        raise fields.error("run settings are not maps by run name")
    return dict(runs)
