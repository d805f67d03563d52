"""The root of a remote: one state of everything that changes there. Specification: format-v1.md, section 11.

A remote is a storage of immutable files, each created once and never overwritten:

    casckpt.json                                         what the remote is; not read here
    root/<20 digits>                                     the states, by sequence number from 1 on
    index/<BLAKE3 of the file, 64 hex>.<nonce, 8 hex>    where objects lie: see `remote_index`
    packs/<first 2 hex>/<pack id, 64 hex>.<nonce, 8 hex>
                                                         ordinary packs; one that a push wrote names it in its hints
                                                         as `push` (`push_of`)

The nonce is new for every upload, so that a key which was condemned once is never wanted again. A root names all
refs, the live segments and what may be deleted; creating the next root is the one step that changes a remote. Roots
are chained by hash, and the chain is the remote's reflog.

    offset  root file, little-endian
    0       magic `CKPTROOT`
    8       u16 major 1, u16 minor
    12      u8  codec of the body: 0 raw, 1 zstd
    13      zeros [3]
    16      u32 plain length of the body, at most 64 MiB
    20      u32 stored length of the body, at most the plain length
    24      stored body
    ..      BLAKE3[32] of everything before

    body = canonical msgpack map
    seq       number of the root, as in its key
    prev      BLAKE3 of the whole file of root seq - 1; absent in root 1 alone
    epoch     grows whenever keys are condemned
    refs      {name: [commit, time in ns, by]}
    segments  [[key, packs, rows, bytes]]: live index segments, ascending by key
    condemned [key]: keys of index and packs that may be deleted, ascending; none of them is a live segment
    drops     [[commit, parts or nil, rule, time in ns]]: as in the journal; ascending by their canonical bytes
    runs      {run: settings}
    locks     {name: [owner, token, ttl in s]}
    push      {id [16], host, user, tool, time in ns, note}: who made this root

`seq`, `epoch` and `push` are always there, the other fields if they are not empty. Unknown fields are kept, here and
in `push`; one that starts with `!` must be understood.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import limits
from casckpt.format.canonical import Fields, decode, encode
from casckpt.format.codec import Codec, compress, decompress
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, ObjectId, PackId, checksum

MAGIC = b"CKPTROOT"
MAX_ROOT_BYTES = 64 << 20
"""Plain bytes of the body of a root."""
MAX_SEGMENT_BYTES = 256 << 20
"""Bytes of an index segment."""
PUSH_ID_BYTES = 16
NONCE_BYTES = 4
_MAX_TEXT_BYTES = 4096
_MAX_TOKEN_BYTES = 64
_MAX_SEQ = (1 << 63) - 1
_HEADER = struct.Struct("<8sHHB3sII")
_KEYS = {
    "root": re.compile(r"root/[0-9]{20}", re.ASCII),
    "index": re.compile(r"index/[0-9a-f]{64}\.[0-9a-f]{8}", re.ASCII),
    "packs": re.compile(r"packs/([0-9a-f]{2})/\1[0-9a-f]{62}\.[0-9a-f]{8}", re.ASCII),
}
_WHAT = "a remote root"
_Data = bytes | memoryview


def root_key(seq: int) -> str:
    """The key of the root with this number."""
    return f"root/{seq:020d}"


def root_seq(key: object) -> int:
    """The number of the root with this key; IntegrityError for a key of anything else."""
    seq = int(check_key(key, "root")[5:])
    if not 1 <= seq <= _MAX_SEQ:
        raise IntegrityError(object="a key of a remote", problem=f"{seq} is not the number of a root")
    return seq


def segment_key(data: _Data, nonce: bytes) -> str:
    """The key of an index segment with these bytes."""
    return f"index/{checksum(data).hex()}.{nonce.hex()}"


def pack_key(identity: PackId, nonce: bytes) -> str:
    """The key of a pack."""
    return f"packs/{identity[:1].hex()}/{identity.hex()}.{nonce.hex()}"


def check_key(key: object, *rooms: str) -> str:
    """The key, if it has the form of the keys in one of `rooms`: `root`, `index`, `packs`.

    Raises:
        IntegrityError: it has not; such a key is never sent to a storage.
    """
    if type(key) is str and any(_KEYS[room].fullmatch(key) for room in rooms):
        return key
    raise IntegrityError(object="a key of a remote", problem=f"{str(key)[:120]!r} is not in {' or '.join(rooms)}")


def push_of(hints: Mapping[str, Any]) -> bytes | None:
    """The id of the push that wrote a pack, from the pack's hints; None for other packs."""
    identity = hints.get("push")
    if identity is not None and (type(identity) is not bytes or len(identity) != PUSH_ID_BYTES):
        raise IntegrityError(object="the hints of a pack", problem="the push is not an id of 16 bytes")
    return identity


class RemoteRef(NamedTuple):
    """What a ref of a remote names, since when, and who moved it there."""

    commit: CommitId
    time_ns: int
    by: str


class SegmentRef(NamedTuple):
    """A live index segment: its key, how many packs and rows it lists, and the length of its file."""

    key: str
    packs: int
    rows: int
    nbytes: int


class Lock(NamedTuple):
    """Who holds a lock, by which random token, and after how long without renewal it may be taken over."""

    owner: str
    token: bytes
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Push:
    """Who made a root: a random id of 16 bytes settles whether an upload of unknown outcome was ours."""

    id: bytes
    host: str
    user: str
    tool: str
    time_ns: int
    note: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteRoot:
    """One state of a remote.

    Invariants, checked by `encode` and `decode`: those of the fields in the first lines of this module.
    """

    seq: int
    prev: bytes | None
    epoch: int
    push: Push
    refs: Mapping[str, RemoteRef] = field(default_factory=dict)
    segments: tuple[SegmentRef, ...] = ()
    condemned: tuple[str, ...] = ()
    drops: tuple[Drop, ...] = ()
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    locks: Mapping[str, Lock] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The file of the root.

        Raises:
            IntegrityError: if a value breaks a rule of the format; nothing else would be read back.
        """
        push = self.push
        optional: dict[str, Any] = {
            "prev": self.prev,
            "refs": dict(self.refs),
            "segments": self.segments,
            "condemned": self.condemned,
            "drops": [_drop_row(drop) for drop in self.drops],
            "runs": {name: dict(settings) for name, settings in self.runs.items()},
            "locks": dict(self.locks),
        }
        body = encode(
            {
                **self.extra,
                **{key: item for key, item in optional.items() if item},
                "seq": self.seq,
                "epoch": self.epoch,
                "push": {
                    **push.extra,
                    "id": push.id,
                    "host": push.host,
                    "user": push.user,
                    "tool": push.tool,
                    "time": push.time_ns,
                    "note": push.note,
                },
            }
        )
        _root(body)
        codec, stored = compress(body)
        data = _HEADER.pack(MAGIC, 1, 0, codec, bytes(3), len(body), len(stored)) + stored
        return data + checksum(data)

    @classmethod
    def decode(cls, data: _Data) -> RemoteRoot:
        """The root in a file; the caller compares `seq` with the key and `prev` with the root before.

        Raises:
            FormatError: a newer version or an unknown codec.
            IntegrityError: anything else that breaks a rule.
        """
        return _root(_body(data))


def _body(data: _Data) -> bytes:
    """Plain body of a root file."""
    if len(data) < _HEADER.size + 32 or bytes(data[:8]) != MAGIC:
        raise _error("it does not start with the magic")
    _, major, _, codec, zero, length, stored = _HEADER.unpack_from(data)
    if major != 1 or codec not in (Codec.RAW, Codec.ZSTD):
        raise FormatError(object=_WHAT, problem=f"version {major}, codec {codec}")
    if any(zero) or length > MAX_ROOT_BYTES or stored > length or _HEADER.size + stored + 32 != len(data):
        raise _error("its lengths do not fit the file")
    if checksum(data[:-32]) != bytes(data[-32:]):
        raise _error("its hash does not match")
    body = bytes(data[_HEADER.size : -32])
    if codec == Codec.ZSTD:
        return decompress(body, length)
    if stored != length:
        raise _error("it is raw, but stored and plain lengths differ")
    return body


def _root(body: bytes) -> RemoteRoot:
    if len(body) > MAX_ROOT_BYTES:
        raise _error("it is longer than the format allows")
    fields = Fields(decode(body, _WHAT), _WHAT)
    root = RemoteRoot(
        seq=fields.need("seq", int),
        prev=fields.id("prev"),
        epoch=fields.need("epoch", int),
        push=_push(fields.need("push", dict)),
        refs=_named(fields, "refs", _ref),
        segments=tuple(_segment(item) for item in fields.get("segments", list, [])),
        condemned=tuple(check_key(key, "index", "packs") for key in fields.get("condemned", list, [])),
        drops=tuple(_drop(item) for item in fields.get("drops", list, [])),
        runs=_named(fields, "runs", _settings),
        locks=_named(fields, "locks", _lock),
        extra=fields.unknown(_KNOWN),
    )
    if not 1 <= root.seq <= _MAX_SEQ or root.epoch < 0 or (root.prev is None) != (root.seq == 1):
        raise _error("its number, epoch and link do not fit")
    if not (_ascending(one.key for one in root.segments) and _ascending(root.condemned)):
        raise _error("a list of keys is not ascending")
    if not _ascending(encode(_drop_row(drop)) for drop in root.drops):
        raise _error("its drops are not ascending")
    if not {one.key for one in root.segments}.isdisjoint(root.condemned):
        raise _error("a live segment is condemned")
    return root


_KNOWN = frozenset(
    ("seq", "prev", "epoch", "push", "refs", "segments", "condemned", "drops", "runs", "locks"),
)
_KNOWN_PUSH = frozenset(("id", "host", "user", "tool", "time", "note"))


def _push(value: Any) -> Push:
    fields = Fields(value, "the push of a remote root")
    identity = fields.need("id", bytes)
    if len(identity) != PUSH_ID_BYTES:
        raise fields.error("its id is not of 16 bytes")
    host, user, tool, note = (_text(fields.need(key, str)) for key in ("host", "user", "tool", "note"))
    return Push(identity, host, user, tool, fields.need("time", int), note, fields.unknown(_KNOWN_PUSH))


def _named(fields: Fields, key: str, item: Any) -> dict[str, Any]:
    """A map of names to what `item` makes of its values."""
    return {_name(name): item(value) for name, value in fields.get(key, dict, {}).items()}


def _name(name: Any) -> str:
    if type(name) is not str or not 0 < len(name.encode()) <= limits.MAX_REF_BYTES:
        raise _error("a name is not a text of 1 to 1024 bytes")
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in name) or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise _error("a name holds a control character or an empty or dotted part")
    return name


def _ref(value: Any) -> RemoteRef:
    _types(value, "a ref", bytes, int, str)
    if len(value[0]) != 32:
        raise _error("a ref names no commit")
    return RemoteRef(CommitId(ObjectId(value[0])), value[1], _text(value[2]))


def _segment(value: Any) -> SegmentRef:
    _types(value, "a segment", str, int, int, int)
    one = SegmentRef(check_key(value[0], "index"), *value[1:])
    if one.packs < 0 or one.rows < 0 or not 0 < one.nbytes <= MAX_SEGMENT_BYTES:
        raise _error("a segment has impossible counts")
    return one


def _lock(value: Any) -> Lock:
    _types(value, "a lock", str, bytes, int)
    if not 0 < len(value[1]) <= _MAX_TOKEN_BYTES or value[2] <= 0:
        raise _error("a lock has no token or no time")
    return Lock(_text(value[0]), value[1], value[2])


def _settings(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _error("the settings of a run are not a map")
    return value


def _drop(value: Any) -> Drop:
    if type(value) is not list or len(value) != 4:
        raise _error("a drop is not (commit, parts, rule, time)")
    commit, parts, rule, time_ns = value
    _types([commit, rule, time_ns], "a drop", bytes, str, int)
    if len(commit) != 32:
        raise _error("a drop names no commit")
    if parts is not None and (type(parts) is not list or not all(type(part) is str for part in parts)):
        raise _error("a drop does not list names of parts")
    return Drop(CommitId(ObjectId(commit)), None if parts is None else tuple(parts), _text(rule), time_ns)


def _drop_row(drop: Drop) -> tuple[Any, ...]:
    if drop.cancelled:
        raise _error("a root restates drops, so a cancelled one is left out")
    return drop[:4]


def _text(text: str) -> str:
    if len(text.encode()) > _MAX_TEXT_BYTES:
        raise _error("a text is longer than 4096 bytes")
    return text


def _types(value: Any, what: str, *kinds: type) -> None:
    if type(value) is not list or [type(item) for item in value] != list(kinds):
        raise _error(f"{what} is not a list of {', '.join(kind.__name__ for kind in kinds)}")


def _ascending(items: Iterable[Any]) -> bool:
    return all(first < second for first, second in pairwise(items))


def _error(problem: str) -> IntegrityError:
    return IntegrityError(object=_WHAT, problem=problem)
