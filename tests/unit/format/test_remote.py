"""Roots of a remote: one state, chained by hash, with keys that cannot lead astray."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import CasckptError, FormatError, IntegrityError
from casckpt.format.canonical import encode
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, PackId, checksum
from casckpt.format.remote import (
    Lock,
    Push,
    RemoteRef,
    RemoteRoot,
    SegmentRef,
    check_key,
    pack_key,
    push_of,
    root_key,
    root_seq,
    segment_key,
)
from tests.support.build import identity, root_file, zstd

NONCE = b"\0\1\2\3"
PACK = PackId(identity("pack"))
PUSH = Push(bytes(16), "host", "ada", "casckpt 1", 7)
COMMIT = CommitId(identity("commit"))
FIRST = RemoteRoot(1, None, 0, PUSH)
KEYS = tuple(sorted(segment_key(bytes([number]), NONCE) for number in range(4)))
FULL = RemoteRoot(
    seq=9,
    prev=checksum(b"root 8"),
    epoch=2,
    push=replace(PUSH, note="nightly", extra={"future": 0}),
    refs={"run/last": RemoteRef(COMMIT, 5, "ada"), "v1": RemoteRef(COMMIT, 6, "")},
    segments=tuple(SegmentRef(key, 2, 100, 9000) for key in KEYS[:3]),
    condemned=(KEYS[3], pack_key(PACK, NONCE)),
    drops=(Drop(COMMIT, ("optimizer",), "thin", 3), Drop(COMMIT, None, "keep_last=1", 4)),
    runs={"run": {"best": {"metric": "loss", "mode": "min"}}, "empty": {}},
    locks={"run": Lock("ada", b"token", 60)},
    extra={"future": [], "nothing": None},
)


def test_keys_are_as_the_format_says() -> None:
    assert root_key(42) == "root/00000000000000000042"
    assert segment_key(b"x", NONCE) == f"index/{checksum(b'x').hex()}.00010203"
    assert pack_key(PACK, NONCE) == f"packs/{PACK.hex()[:2]}/{PACK.hex()}.00010203"


@pytest.mark.parametrize("key", [root_key(1), segment_key(b"x", NONCE), pack_key(PACK, NONCE)])
def test_a_key_is_of_one_room(key: str) -> None:
    room = key.split("/", maxsplit=1)[0]
    assert check_key(key, "root", "index", "packs") == check_key(key, room) == key
    for other in {"root", "index", "packs"} - {room}:
        with pytest.raises(IntegrityError):
            check_key(key, other)


SOME = pack_key(PACK, NONCE)


@pytest.mark.parametrize(
    "key",
    [
        *("", "root", "root/", "root/42", "/" + root_key(1), root_key(1) + "\n", root_key(1) + "/", "ROOT" + SOME),
        *(
            "packs/../../etc/passwd",
            SOME.upper(),
            SOME[:-1],
            SOME + "0",
            SOME.replace(".", "/"),
            SOME.replace("/", "//"),
        ),
        *(
            "packs/zz" + SOME[8:],
            "packs/00" + SOME[8:],
            "casckpt.json",
            root_key(1).replace("1", "١"),
            None,
            7,
            b"root",
        ),
        root_key(10**20),
    ],
)
def test_anything_else_is_no_key(key: object) -> None:
    with pytest.raises(IntegrityError):
        check_key(key, "root", "index", "packs")


def test_a_root_key_tells_its_number() -> None:
    assert root_seq(root_key(7)) == 7
    for key in (root_key(0), root_key(1 << 63), SOME):
        with pytest.raises(IntegrityError):
            root_seq(key)


@pytest.mark.parametrize("root", [FIRST, FULL], ids=["first", "full"])
def test_a_root_reads_back_whole(root: RemoteRoot) -> None:
    assert RemoteRoot.decode(root.encode()) == root
    assert RemoteRoot.decode(memoryview(root.encode())) == root


def test_a_large_root_is_compressed() -> None:
    refs = {f"run{number:03}/last": RemoteRef(COMMIT, number, "ada") for number in range(500)}
    data = replace(FULL, refs=refs).encode()
    assert data[12] == 1
    assert len(data) < 20_000
    assert RemoteRoot.decode(data).refs == refs


WRONG: dict[str, dict[str, Any]] = {
    "number 0": {"seq": 0},
    "a number of 64 bits": {"seq": 1 << 63},
    "root 1 with a link": {"seq": 1},
    "root 2 without a link": {"seq": 2, "prev": None},
    "a link of 31 bytes": {"prev": bytes(31)},
    "a negative epoch": {"epoch": -1},
    "keys that descend": {"condemned": FULL.condemned[::-1]},
    "a key twice": {"condemned": FULL.condemned[:1] * 2},
    "a condemned root": {"condemned": (root_key(3),)},
    "a condemned path": {"condemned": ("packs/../x",)},
    "segments that descend": {"segments": FULL.segments[::-1]},
    "a segment that is a pack": {"segments": (SegmentRef(SOME, 1, 1, 1),)},
    "a live segment that is condemned": {"condemned": KEYS[:1]},
    "a segment of no bytes": {"segments": (SegmentRef(KEYS[0], 1, 1, 0),)},
    "a segment of 1 GiB": {"segments": (SegmentRef(KEYS[0], 1, 1, 1 << 30),)},
    "a segment of -1 rows": {"segments": (SegmentRef(KEYS[0], 1, -1, 9),)},
    "drops that descend": {"drops": FULL.drops[::-1]},
    "a drop twice": {"drops": FULL.drops[:1] * 2},
    "a cancelled drop": {"drops": (FULL.drops[0]._replace(cancelled=True),)},
    "a ref without a name": {"refs": {"": FULL.refs["v1"]}},
    "a ref of 1025 bytes": {"refs": {"a" * 1025: FULL.refs["v1"]}},
    "a ref from the root": {"refs": {"/etc": FULL.refs["v1"]}},
    "a ref that climbs": {"refs": {"a/../b": FULL.refs["v1"]}},
    "a ref with an escape code": {"refs": {"a\x1b[1m": FULL.refs["v1"]}},
    "a ref to 31 bytes": {"refs": {"a": RemoteRef(bytes(31), 0, "")}},
    "a very long name of a person": {"refs": {"a": RemoteRef(COMMIT, 0, "a" * 5000)}},
    "a lock without a token": {"locks": {"run": Lock("ada", b"", 60)}},
    "a lock of no time": {"locks": {"run": Lock("ada", b"token", 0)}},
    "a push of 15 bytes": {"push": replace(PUSH, id=bytes(15))},
    "a critical field": {"extra": {"!future": 1}},
    "a critical field of the push": {"push": replace(PUSH, extra={"!future": 1})},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_a_wrong_root_is_never_written(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        replace(FULL, **fields).encode()


BODY: dict[str, Any] = {"seq": 1, "epoch": 0, "push": {"id": bytes(16), "time": 0}}
BODY["push"] |= {"host": "", "user": "", "tool": "", "note": ""}
BODIES: dict[str, dict[str, Any]] = {
    "a list of refs": {"refs": []},
    "a ref of two": {"refs": {"a": [COMMIT, 0]}},
    "a ref named by bytes": {"refs": {b"a": [COMMIT, 0, ""]}},
    "a segment of three": {"segments": [[KEYS[0], 1, 1]]},
    "a segment with text": {"segments": [[KEYS[0], 1, 1, "1"]]},
    "a condemned number": {"condemned": [1]},
    "a drop of five": {"drops": [[COMMIT, None, "", 0, True]]},
    "a drop of no commit": {"drops": [[b"", None, "", 0]]},
    "a drop of parts by number": {"drops": [[COMMIT, [1], "", 0]]},
    "run settings in a list": {"runs": {"a": []}},
    "a lock of two": {"locks": {"a": ["ada", b"token"]}},
    "a push without a host": {"push": {key: value for key, value in BODY["push"].items() if key != "host"}},
    "a push in a list": {"push": []},
}


@pytest.mark.parametrize("fields", BODIES.values(), ids=BODIES)
def test_a_wrong_body_is_refused(fields: dict[str, Any]) -> None:
    assert RemoteRoot.decode(root_file(encode(BODY))).seq == 1
    with pytest.raises(IntegrityError):
        RemoteRoot.decode(root_file(encode({**BODY, **fields})))


def test_newer_roots_ask_for_a_newer_release() -> None:
    for data in (root_file(encode(BODY), major=2), root_file(encode(BODY), codec=2)):
        with pytest.raises(FormatError):
            RemoteRoot.decode(data)


def test_a_body_that_is_a_bomb_is_refused_before_it_is_unpacked() -> None:
    body = encode(BODY)
    for data in (
        root_file(body, codec=1, stored=zstd(bytes(32 << 20))),
        root_file(body, codec=1, length=(64 << 20) + 1, stored=zstd(body)),
        root_file(body, codec=1, length=0xFFFFFFFF, stored=zstd(body)),
        root_file(body, length=len(body) + 1),
    ):
        with pytest.raises(IntegrityError):
            RemoteRoot.decode(data)


@settings(max_examples=200)
@given(st.integers(0, len(FULL.encode()) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    data = bytearray(FULL.encode())
    data[at] ^= change
    with pytest.raises(CasckptError):
        RemoteRoot.decode(bytes(data))


@pytest.mark.parametrize("data", [b"", FULL.encode()[:-1], FULL.encode() + b"\0", FULL.encode()[:40], bytes(100)])
def test_a_file_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        RemoteRoot.decode(data)


def test_the_hints_of_a_pack_name_its_push() -> None:
    assert push_of({"push": bytes(16), "run": "a"}) == bytes(16)
    assert push_of({}) is None
    for wrong in (bytes(15), "push", 7):
        with pytest.raises(IntegrityError):
            push_of({"push": wrong})
