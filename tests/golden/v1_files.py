"""Vectors of journals, `format` files and remotes."""

from __future__ import annotations

import struct
from typing import Any

from casckpt.format import frame
from casckpt.format.canonical import encode
from casckpt.format.config import StoreFormat
from casckpt.format.entry import Drop, Entry, Mark, PackRef, RefMove
from casckpt.format.ids import CommitId, Kind, PackId, checksum, object_id
from casckpt.format.pack import Record, check_of
from casckpt.format.remote import Lock, Push, RemoteRef, RemoteRoot, SegmentRef, pack_key, root_key, segment_key
from casckpt.format.remote_index import Row, Segment, SegmentPack
from tests.golden import v1_objects as state
from tests.golden.v1_packs import PUSH_ID, push
from tests.support.build import UUID, Journal, entry_payload, identity, noise, root_file, segment_file, zstd
from tests.support.vectors import as_json, entry_as_json

TIME = state.TIME
FIRST = CommitId(object_id(Kind.COMMIT, state.FIRST.encode()))
FULL = CommitId(object_id(Kind.COMMIT, state.FULL.encode()))
PACK = PackRef(PackId(identity("pack")), 1 << 20)
NONCE = bytes.fromhex("0badcafe")


def carried(kind: int, plain: bytes, *, packed: bool = False) -> tuple[Record, bytes]:
    """An object as it rides in a frame."""
    stored = zstd(plain) if packed else plain
    name = object_id(kind, plain)
    return Record(
        name, 0, len(plain), len(stored), kind, int(packed), check=check_of(packed, name, kind, stored)
    ), stored


RESET = Entry("init", TIME, by="ada", reset=UUID)
COMMIT = Entry(
    "commit",
    TIME + 1,
    refs=(RefMove("mlp/last", None, FIRST), RefMove("mlp/best", None, FIRST)),
    packs=(PACK,),
    runs={"mlp": {"best": {"metric": "val/loss", "mode": "min"}}},
    by="ada@host",
    added=360_404,
    objects=(carried(Kind.COMMIT, state.FIRST.encode()),),
)
TINY = Entry(
    "commit",
    TIME + 2,
    refs=(RefMove("mlp/last", FIRST, FULL),),
    added=0,
    objects=(
        carried(Kind.CHUNK, noise("tiny", 300)),
        carried(Kind.CHUNK, b"tiny " * 100, packed=True),
        carried(Kind.TREE, state.TREE.encode()),
        carried(Kind.COMMIT, state.FULL.encode(), packed=True),
    ),
)
TAG = Entry("tag", TIME + 3, refs=(RefMove("v1", None, FULL), RefMove("old", FIRST, None)), note="first good one")
REPACK = Entry("repack", TIME + 4, packs=(PackRef(PackId(identity("merged")), 8192),), gone=(PACK.id,))
ENTRIES = (RESET, COMMIT, TINY, TAG, REPACK)
DROPS = (
    Entry("gc", TIME + 5, drops=(Drop(FIRST, None, "keep_last=1", TIME + 5),)),
    Entry("gc", TIME + 6, drops=(Drop(FULL, ("optimizer", "sampler"), "thin after 10", TIME + 6),)),
    Entry("pull", TIME + 7, drops=(Drop(FIRST, None, "keep_last=1", TIME + 5, cancelled=True),)),
)
PIN = {"time": TIME, "until": TIME + 86_400 * 10**9}
RENAMED = {"best": None, "renamed": [[TIME + 2, "net"]]}
RULE = ["val/loss", "min"]
MARKS = (
    Entry("note", TIME, marks=(Mark(FIRST, "note", None, "läuft noch"), Mark(FULL, "note", "first", None))),
    Entry("pin", TIME, marks=(Mark(FULL, "pin", {"time": 1, "until": None}, PIN), Mark(FIRST, "later", 1, [True, {}]))),
    Entry(
        "run-rename",
        TIME + 2,
        refs=(RefMove("runs/mlp/last", FULL, None), RefMove("runs/net/last", None, FULL)),
        runs={"mlp": RENAMED, "net": {"best": RULE}},
        before={"mlp": {"best": RULE}, "net": {}},
    ),
    Entry(
        "undo",
        TIME + 3,
        refs=(RefMove("runs/mlp/last", None, FULL), RefMove("runs/net/last", FULL, None)),
        runs={"mlp": {"best": RULE, "renamed": None}, "net": {"best": None}},
        before={"mlp": {"renamed": RENAMED["renamed"]}, "net": {"best": RULE}},
        undoes=3,
    ),
)
UNKNOWN = Entry("commit", TIME + 8, refs=(RefMove("mlp/last", FULL, FIRST),), extra={"future": {"a": [1, b"\1"]}})
SNAPSHOT = Entry(
    "seal",
    TIME + 9,
    refs=(RefMove("mlp/last", None, FULL), RefMove("mlp/best", None, FIRST)),
    packs=(PACK, PackRef(PackId(identity("merged")), 8192)),
    runs=COMMIT.runs,
    drops=(DROPS[0].drops[0], DROPS[1].drops[0]),
    reset=UUID,
)


def journal(*entries: Entry, seq: int = 0, previous: bytes = frame.NO_HASH) -> Journal:
    """A file of these entries."""
    built = Journal(seq, previous)
    for entry in entries:
        built.add(entry)
    return built


def journals(vectors: Any) -> None:
    """All files of journals."""
    right = journal(*ENTRIES)
    data = bytes(right.data)
    middle = right.frames[2]
    _journal(vectors, "plain", "an empty store, commits, a tag and a repack", data, right.frames, ENTRIES)
    _journal(
        vectors, "zeros", "room that a writer filled ahead", data + bytes(4096), right.frames, ENTRIES, end=len(data)
    )
    start = right.frames[4]["offset"]
    torn = {"frames": right.frames[:4], "entries": ENTRIES[:4], "tail": "torn", "end": start}
    _journal(vectors, "torn", "the last frame reaches past the end", data[:-40], **torn)
    _journal(vectors, "torn-header", "the last frame ends in its header", data[: start + 30], **torn)
    hole = data[:start] + data[start : start + 100] + bytes(1024) + noise("after the hole", 200)
    _journal(vectors, "torn-hole", "a sector of zeros in the last frame", hole, **torn)
    first, last = right.frames[:2] + right.frames[3:], (*ENTRIES[:2], *ENTRIES[3:])
    gap = (middle["offset"], right.frames[3]["offset"])
    _journal(vectors, "damaged", "a bit differs in the third frame", _flip(data, gap[0] + 200), first, last, gaps=[gap])
    what = "a bit differs in the header of the third frame"
    _journal(vectors, "damaged-header", what, _flip(data, gap[0] + 17), first, last, gaps=[gap])
    what, gap = "a bit differs in the last frame", (start, len(data))
    damaged = {"frames": right.frames[:4], "entries": ENTRIES[:4], "tail": "damage", "gaps": [gap]}
    _journal(vectors, "damaged-tail", what, _flip(data, start + 90), **damaged)
    built = journal(RESET, *DROPS)
    what = "a commit is dropped, one is thinned, the first comes back"
    _journal(vectors, "drops", what, bytes(built.data), built.frames, (RESET, *DROPS))
    built = journal(RESET, *MARKS)
    what = "notes and pins of commits, a run that is renamed, and the renaming taken back"
    _journal(vectors, "marks", what, bytes(built.data), built.frames, (RESET, *MARKS))
    built = journal(RESET, UNKNOWN)
    _journal(vectors, "unknown", "fields of a newer release", bytes(built.data), built.frames, (RESET, UNKNOWN))
    built = journal(SNAPSHOT, TAG, seq=1001, previous=bytes(right.frames[-1]["hash"]))
    _journal(
        vectors, "snapshot", "a later file: it restates everything", bytes(built.data), built.frames, (SNAPSHOT, TAG)
    )
    _embedded(vectors)
    for name, what, head in (
        ("critical", "an unknown field that must be known", {"op": "x", "time": 1, "!future": None}),
        ("ref", "a ref move of two fields", {"op": "x", "time": 1, "refs": [["a", None]]}),
        ("mark", "a note that is a number", {"op": "x", "time": 1, "marks": [[bytes(32), "note", None, 1]]}),
        ("pack", "a pack of no bytes", {"op": "x", "time": 1, "packs": [[bytes(32), 0]]}),
        (
            "records",
            "a record past the end",
            {"op": "x", "time": 1, "records": COMMIT.objects[0][0]._replace(offset=4096)},
        ),
    ):
        if "records" in head:
            head["records"] = head["records"].pack()
        built = Journal()
        built.add(entry_payload(head))
        vectors.refuse(f"journal-{name}.log", "journal", "IntegrityError", what, bytes(built.data), uuid=UUID)
    built = Journal()
    built.add(struct.pack("<I", 0xFFFFFFFF) + b"\x80")
    what = "a head of 4 GiB"
    vectors.refuse("journal-head.log", "journal", "IntegrityError", what, bytes(built.data), uuid=UUID)


def _embedded(vectors: Any) -> None:
    """Frames of another store, and old frames of this one, inside the objects of damaged frames."""
    other = Journal(5, uuid=noise("other", 16))
    other.add(TAG)
    own = journal(RESET, TAG)
    inside = bytes(other.data) + bytes(own.data)
    entry = Entry("commit", TIME + 5, objects=(carried(Kind.CHUNK, inside),))
    built = journal(RESET, TAG, entry, REPACK)
    at, end = built.frames[2]["offset"], built.frames[3]["offset"]
    kept, entries = [*built.frames[:2], built.frames[3]], (RESET, TAG, REPACK)
    for name, where in (("embedded", end - 40), ("embedded-header", at + 9)):
        data = _flip(bytes(built.data), where)
        what = "frames inside a damaged frame are nobody's"
        _journal(vectors, name, what, data, kept, entries, gaps=[(at, end)])


def _journal(
    vectors: Any,
    name: str,
    what: str,
    data: bytes,
    frames: list[dict[str, Any]],
    entries: tuple[Entry, ...],
    *,
    tail: str = "clean",
    gaps: Any = (),
    end: int | None = None,
) -> None:
    expect = {
        "frames": as_json(frames),
        "entries": [_placed(entry) for entry in entries],
        "gaps": as_json(gaps),
        "end": len(data) if end is None else end,
        "tail": tail,
    }
    vectors.file(f"journal-{name}.log", "journal", what, data, expect, uuid=UUID)


def _placed(entry: Entry) -> Any:
    """The entry as it reads back: its objects have the offsets that they got."""
    payload = entry.encode()
    at, objects = 4 + struct.unpack_from("<I", payload)[0], []
    for record, stored in entry.objects:
        at += -at % 64
        objects.append(as_json((record._replace(offset=at), stored)))
        at += len(stored)
    return {**entry_as_json(entry), "objects": objects}


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def formats(vectors: Any) -> None:
    """All `format` files."""
    everything = ["read", "write", "gc"]
    for name, what, found, allows in (
        ("plain", "a store of this release", StoreFormat(UUID), everything),
        ("write", "a writer must know a feature", StoreFormat(UUID, write=("future",)), ["read", "gc"]),
        ("read", "every reader must know a feature", StoreFormat(UUID, read=("future",)), []),
        ("gc", "a collector must know two features", StoreFormat(UUID, gc=("future", "other")), ["read", "write"]),
    ):
        vectors.file(f"format-{name}", "format", what, found.encode(), {**as_json(found), "allows": allows})
    newer = StoreFormat(UUID, version=2).encode()
    vectors.refuse("format-newer", "format", "NewerFormat", "version 2", newer)
    right = StoreFormat(UUID).encode()
    for name, what, data in (
        ("damaged", "a digit of the uuid differs", right.replace(b"uuid 00", b"uuid 01")),
        ("cut", "the check is cut short", right[:-3]),
        ("none", "no bytes at all", b""),
        ("lines", "a line is missing", _checked(b"casckpt store\nversion 1\nuuid " + UUID.hex().encode() + b"\n")),
        ("foreign", "another program's file", _checked(b"something else\nversion 1\n")),
    ):
        vectors.refuse(f"format-{name}", "format", "DamagedFile", what, data)


def _checked(text: bytes) -> bytes:
    return text + b"check " + checksum(text).hex().encode() + b"\n"


# ---- remotes

ROOT_1 = RemoteRoot(1, None, 0, Push(PUSH_ID, "host", "ada", "casckpt 0.1.0", TIME))


def remotes(vectors: Any) -> None:
    """Roots and segments."""
    segment, nonce = _segments(vectors)
    live = [
        SegmentRef(segment_key(segment.encode(), nonce), 2, len(segment), len(segment.encode())),
        SegmentRef(segment_key(b"another", NONCE), 700, 1 << 20, 64 << 20),
    ]
    root_2 = RemoteRoot(
        seq=2,
        prev=checksum(ROOT_1.encode()),
        epoch=3,
        push=Push(noise("push", 16), "höst", "ada", "casckpt 0.1.0", TIME + 5, "nightly", {"future": 0}),
        refs={
            "mlp/best": RemoteRef(FIRST, TIME, "ada@host"),
            "mlp/last": RemoteRef(FULL, TIME + 4, "ada@host"),
            "conflicts/mlp/last/0123456789ab": RemoteRef(CommitId(identity("loser")), TIME + 1, "bob@other"),
        },
        segments=tuple(sorted(live)),
        condemned=tuple(sorted((pack_key(PACK.id, NONCE), segment_key(b"dead", NONCE)))),
        drops=tuple(sorted((DROPS[0].drops[0], DROPS[1].drops[0]), key=lambda drop: encode(drop[:4]))),
        runs={"mlp": {"best": {"metric": "val/loss", "mode": "min"}}},
        locks={"mlp": Lock("ada@host", noise("token", 16), 600)},
        extra={"future": [None, 0]},
    )
    for name, what, root in (
        ("1", "the first root", ROOT_1),
        ("2", "a root with everything, and fields of a newer release", root_2),
    ):
        data = root.encode()
        expect = {"key": root_key(root.seq), "hash": as_json(checksum(data)), **as_json(root)}
        vectors.file(f"root-{name}", "root", what, data, expect)
    _hostile_roots(vectors, root_2)


def _hostile_roots(vectors: Any, root: RemoteRoot) -> None:
    push = {"id": PUSH_ID, "host": "", "user": "", "tool": "", "time": 0, "note": ""}
    least: dict[str, Any] = {"seq": 2, "prev": bytes(32), "epoch": 0, "push": push}
    keys = [segment_key(b"a", NONCE), segment_key(b"b", NONCE)]
    drops = [[FULL, None, "", 0], [FIRST, None, "", 0]]
    for name, what, changes in (
        ("first", "root 1 with a link", {"seq": 1}),
        ("seq", "a number below 1", {"seq": -1}),
        ("link", "a link of 31 bytes", {"prev": bytes(31)}),
        ("critical", "an unknown field that must be known", {"!future": 1}),
        ("traversal", "a condemned key outside", {"condemned": ["packs/../../etc/passwd"]}),
        (
            "shard",
            "a pack under the wrong two digits",
            {"condemned": [pack_key(PACK.id, NONCE).replace("packs/", "packs/0")]},
        ),
        ("old-root", "a root cannot be condemned", {"condemned": [root_key(1)]}),
        ("order", "condemned keys that descend", {"condemned": sorted(keys, reverse=True)}),
        ("twice", "a condemned key twice", {"condemned": [keys[0], keys[0]]}),
        ("live", "a live segment is condemned", {"segments": [[keys[0], 1, 1, 1]], "condemned": keys[:1]}),
        ("segment", "a segment of 1 GiB", {"segments": [[keys[0], 1, 1, 1 << 30]]}),
        ("ref", "a ref that climbs", {"refs": {"a/../b": [bytes(32), 0, ""]}}),
        ("control", "a ref with an escape code", {"refs": {"a\x1b[2J": [bytes(32), 0, ""]}}),
        ("drops", "drops that descend", {"drops": sorted(drops, reverse=True)}),
        ("cancelled", "a cancelled drop", {"drops": [[FULL, None, "", 0, True]]}),
        ("lock", "a lock without a token", {"locks": {"a": ["ada", b"", 1]}}),
        ("push", "a push without an id", {"push": {**push, "id": b""}}),
    ):
        vectors.refuse(f"root-{name}", "root", "IntegrityError", what, root_file(encode({**least, **changes})))
    body, right = encode(least), root.encode()
    for name, what, data in (
        ("bomb", "a body that declares more than the header", root_file(body, codec=1, stored=zstd(bytes(1 << 24)))),
        ("size", "a body of more than 64 MiB", root_file(body, codec=1, length=(64 << 20) + 1, stored=zstd(body))),
        ("lengths", "a raw body of two lengths", root_file(body, length=len(body) + 1)),
        ("flip", "a bit of the body differs", _flip(right, 30)),
        ("cut", "the last byte is missing", right[:-1]),
        ("more", "a byte too many", right + b"\0"),
    ):
        vectors.refuse(f"root-{name}", "root", "IntegrityError", what, data)
    vectors.refuse("root-major", "root", "FormatError", "major version 2", root_file(body, major=2))
    vectors.refuse("root-codec", "root", "FormatError", "an unknown codec", root_file(body, codec=9))


def _segments(vectors: Any) -> tuple[Segment, bytes]:
    built, data = push()
    packs = [SegmentPack(built.id, NONCE, len(data)), SegmentPack(identity("other pack"), bytes(4), 1 << 25)]
    rows = [
        Row(record.id, 0, record.offset, record.stored, record.length, record.kind, record.codec)
        for record in built.records
    ]
    rows += [
        Row(identity(f"row {number}"), 1, 4096 + 64 * number, 64, 4 * number + 64, 0, 3, 12, 1) for number in range(60)
    ]
    segment = Segment.build(packs, rows)
    order = sorted(packs)
    places = [row._replace(pack=order.index(packs[row.pack])) for row in sorted(rows)]
    nonce = bytes.fromhex("00c0ffee")
    for name, what, one, expect_packs, expect_rows in (
        ("plain", "63 objects in two packs", segment, order, places),
        ("empty", "nothing", Segment((), b""), [], []),
    ):
        data = one.encode()
        expect = {"key": segment_key(data, nonce), "packs": as_json(expect_packs), "rows": as_json(expect_rows)}
        vectors.file(f"segment-{name}", "segment", what, data, expect, nonce=nonce)
    _hostile_segments(vectors, segment.encode(), nonce)
    return segment, nonce


def _hostile_segments(vectors: Any, right: bytes, nonce: bytes) -> None:
    pack = struct.pack("<32s4sQ", identity("pack"), NONCE, 1 << 20)

    def row(name: str, *fields: int) -> bytes:
        return struct.pack("<32sIIIIBBBB", identity(name), *[*fields, *(0, 64, 64, 64, 0, 0, 0, 0)[len(fields) :]])

    rows = sorted((row("a"), row("b")))
    most = 0xFFFFFFFF
    for name, what, data in (
        ("counts", "4 294 967 295 packs and rows", segment_file([pack], rows, counts=(most, most))),
        ("order", "rows that descend", segment_file([pack], rows[::-1])),
        ("twice", "an id twice", segment_file([pack], [rows[0], rows[0]])),
        ("packs", "a pack twice", segment_file([pack, pack], rows)),
        ("pack", "a pack that is not listed", segment_file([pack], [row("a", 1)])),
        ("outside", "an object past the end of its pack", segment_file([pack], [row("a", 0, 1 << 14)])),
        ("header", "an object in the header of its pack", segment_file([pack], [row("a", 0, 63)])),
        ("long", "a chunk of 4 GiB", segment_file([pack], [row("a", 0, 64, 64, most, 0, 1)])),
        ("raw", "raw bytes of two lengths", segment_file([pack], [row("a", 0, 64, 64, 65)])),
        ("fan-out", "a fan-out of other rows", segment_file([pack], rows, fan_out=[0] * 256)),
        ("flip", "a bit of a row differs", _flip(right, len(right) - 40)),
        ("cut", "the last byte is missing", right[:-1]),
        ("length", "a pack that is no multiple of 4096", segment_file([pack[:-8] + struct.pack("<Q", 5000)], [])),
    ):
        vectors.refuse(f"segment-{name}", "segment", "IntegrityError", what, data, nonce=nonce)
    data = segment_file([pack], rows, major=2)
    vectors.refuse("segment-major", "segment", "FormatError", "major version 2", data, nonce=nonce)
    data = segment_file([pack], rows, required=1)
    vectors.refuse("segment-flag", "segment", "FormatError", "an unknown required flag", data, nonce=nonce)
