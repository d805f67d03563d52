"""Entries of the journal: one atomic step, with the objects that ride in it."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import IntegrityError
from casckpt.format import limits
from casckpt.format.canonical import decode, encode
from casckpt.format.entry import Drop, Entry, Mark, PackRef, RefMove, is_mark
from casckpt.format.ids import CommitId, Kind, PackId, object_id
from casckpt.format.pack import Record, check_of
from tests.support.build import entry_payload, identity, noise, zstd

A, B = CommitId(identity("a")), CommitId(identity("b"))
LEAST: dict[str, Any] = {"op": "commit", "time": 1}


def carried(plain: bytes, kind: int = Kind.CHUNK) -> tuple[Record, bytes]:
    name = object_id(kind, plain)
    return Record(name, 0, len(plain), len(plain), kind, check=check_of(0, name, kind, plain)), plain


FULL = Entry(
    "commit",
    5,
    refs=(RefMove("run/last", A, B), RefMove("tag", None, A), RefMove("gone", B, None)),
    packs=(PackRef(PackId(A), 4096),),
    gone=(PackId(B),),
    runs={"run": {"best": {"metric": "loss", "mode": "min"}}},
    before={"run": {"best": ["loss", "max"]}},
    marks=(
        *(Mark(A, "note", "no", "näh"), Mark(B, "note", "x", None), Mark(A, "pin", None, {"time": 1, "until": None})),
        *(Mark(A, "pin", {"time": 1, "until": 2}, None), Mark(B, "future", None, [1, {"a": b"\0"}])),
    ),
    drops=(Drop(A, None, "keep_last=1", 3), Drop(B, ("optimizer",), "thin", 4), Drop(A, None, "keep", 3, True)),
    by="ada@host",
    note="nöte",
    added=0,
    undoes=0,
    extra={"future": [1, {"a": b"\0"}]},
)


def test_an_entry_reads_back_whole() -> None:
    assert Entry.decode(FULL.encode()) == FULL


def test_the_least_entry_has_an_operation_and_a_time() -> None:
    entry = Entry("init", 0)
    assert Entry.decode(entry.encode()) == entry
    assert Entry.decode(entry_payload({"op": "init", "time": 0})) == entry


def test_an_entry_that_restates_everything_names_the_store() -> None:
    entry = Entry("seal", 1, reset=bytes(range(16)))
    assert Entry.decode(entry.encode()).reset == bytes(range(16))


def test_added_tells_nothing_from_zero() -> None:
    assert Entry.decode(Entry("commit", 1, added=0).encode()).added == 0
    assert Entry.decode(Entry("commit", 1).encode()).added is None


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.text(max_size=80))
def test_objects_ride_on_multiples_of_sixty_four(plains: list[bytes], note: str) -> None:
    entry = Entry("commit", 1, note=note, objects=tuple(carried(plain) for plain in plains))
    payload = entry.encode()
    found = Entry.decode(memoryview(payload)).objects
    assert [bytes(stored) for _, stored in found] == plains
    for record, stored in found:
        assert record.offset % 64 == 0
        assert payload[record.offset : record.offset + record.stored] == bytes(stored)
        assert object_id(Kind.CHUNK, bytes(stored)) == record.id


def test_stored_bytes_ride_as_they_are() -> None:
    plain = b"plain " * 100
    stored = zstd(plain)
    record = carried(plain)[0]._replace(codec=1, stored=len(stored), check=check_of(1, A, 0, stored))
    found, data = Entry.decode(Entry("commit", 1, objects=((record, stored),)).encode()).objects[0]
    assert found._replace(offset=0) == record
    assert bytes(data) == stored


def test_fields_of_newer_releases_are_kept() -> None:
    payload = entry_payload({**LEAST, "future": {"a": 1}})
    assert Entry.decode(payload).extra == {"future": {"a": 1}}
    assert Entry.decode(payload).encode() == payload


def test_empty_fields_of_newer_releases_are_kept_too() -> None:
    payload = entry_payload({**LEAST, "future": 0})
    assert Entry.decode(payload).encode() == payload


WRONG: dict[str, dict[str, Any]] = {
    "no operation": {"time": 1},
    "no time": {"op": "x"},
    "a time that is text": {"op": "x", "time": "1"},
    "a critical field": {**LEAST, "!future": 1},
    "a ref move of two": {**LEAST, "refs": [["a", None]]},
    "a ref move without a name": {**LEAST, "refs": [[None, None, None]]},
    "a ref with a long name": {**LEAST, "refs": [["a" * 1025, None, A]]},
    "a ref to 31 bytes": {**LEAST, "refs": [["a", None, bytes(31)]]},
    "a pack of no bytes": {**LEAST, "packs": [[A, 0]]},
    "a pack of a petabyte": {**LEAST, "packs": [[A, 1 << 50]]},
    "a pack without an id": {**LEAST, "packs": [[b"", 4096]]},
    "a gone pack of 31 bytes": {**LEAST, "gone": [bytes(31)]},
    "runs that are no maps": {**LEAST, "runs": {"a": []}},
    "runs by number": {**LEAST, "runs": {1: {}}},
    "what was before, as a list": {**LEAST, "before": []},
    "an undo of nothing": {**LEAST, "undoes": None},
    "a mark of three": {**LEAST, "marks": [[A, "note", None]]},
    "a mark of no commit": {**LEAST, "marks": [[b"", "note", None, "x"]]},
    "a mark without a key": {**LEAST, "marks": [[A, "", None, "x"]]},
    "a mark by number": {**LEAST, "marks": [[A, 1, None, "x"]]},
    "a mark with a long key": {**LEAST, "marks": [[A, "k" * 256, None, "x"]]},
    "an empty note": {**LEAST, "marks": [[A, "note", None, ""]]},
    "a note that was a number": {**LEAST, "marks": [[A, "note", 1, "x"]]},
    "a pin that is a text": {**LEAST, "marks": [[A, "pin", None, "x"]]},
    "a pin without its end": {**LEAST, "marks": [[A, "pin", None, {"time": 1}]]},
    "a pin that ends in a text": {**LEAST, "marks": [[A, "pin", None, {"time": 1, "until": "x"}]]},
    "forgotten as a text": {**LEAST, "marks": [[A, "forgotten", None, "x"]]},
    "forgotten without parents": {**LEAST, "marks": [[A, "forgotten", None, {"left": True}]]},
    "forgotten with a parent that is none": {
        **LEAST,
        "marks": [[A, "forgotten", None, {"left": True, "parents": [b""]}]],
    },
    "forgotten with bytes left in numbers": {**LEAST, "marks": [[A, "forgotten", None, {"left": 1, "parents": []}]]},
    "a mark of 64 KiB": {**LEAST, "marks": [[A, "future", None, bytes(1 << 16)]]},
    "a drop of three": {**LEAST, "drops": [[A, None, "x"]]},
    "a drop of no commit": {**LEAST, "drops": [[b"", None, "x", 1]]},
    "a drop of parts by number": {**LEAST, "drops": [[A, [1], "x", 1]]},
    "a drop without a rule": {**LEAST, "drops": [[A, None, None, 1]]},
    "records cut short": {**LEAST, "records": bytes(63)},
    "a record past the end": {**LEAST, "records": carried(b"x")[0]._replace(offset=1 << 20).pack()},
    "a delta": {**LEAST, "records": carried(b"x")[0]._replace(base_1=1, cost=2, codec=4).pack() * 2},
}


@pytest.mark.parametrize("head", WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_refused(head: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Entry.decode(entry_payload(head))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\1\0\0\0", b"\xff\xff\xff\xff\x80", struct.pack("<I", 5) + b"\x80"])
def test_a_head_that_does_not_fit_is_refused(payload: bytes) -> None:
    with pytest.raises(IntegrityError):
        Entry.decode(payload)


@settings(max_examples=200)
@given(st.data())
def test_damaged_entries_never_end_in_another_error(data: st.DataObject) -> None:
    facts = {"runs": FULL.runs, "before": FULL.before, "marks": FULL.marks}
    right = Entry("commit", 1, refs=FULL.refs, **facts, drops=FULL.drops, objects=(carried(noise("x", 100)),)).encode()
    raw = bytearray(right)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        Entry.decode(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except IntegrityError:
        return


def test_a_mark_is_as_long_as_the_format_allows_and_no_longer() -> None:
    longest = "n" * (limits.MAX_MARK_BYTES - 3)
    assert is_mark("note", longest)
    assert not is_mark("note", longest + "n")
    entry = Entry("note", 1, marks=(Mark(A, "note", None, longest),))
    assert Entry.decode(entry.encode()) == entry


def test_the_head_is_canonical() -> None:
    payload = FULL.encode()
    length = struct.unpack_from("<I", payload)[0]
    raw = payload[4 : 4 + length]
    assert encode(decode(raw, "an entry")) == raw
    assert not any(payload[4 + length :])
