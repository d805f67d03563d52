"""The vectors of format v1 read as they say, and the script that wrote them writes them again."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from casckpt import errors
from casckpt.format import pack
from casckpt.format.canonical import decode, encode
from casckpt.format.chunking import group_blobs
from casckpt.format.commit import Commit
from casckpt.format.config import StoreFormat
from casckpt.format.decode import decode as decode_record
from casckpt.format.decode import decode_into
from casckpt.format.elements import word_bytes
from casckpt.format.entry import Entry
from casckpt.format.frame import scan
from casckpt.format.ids import Kind, checksum, object_id, pack_id
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.remote import RemoteRoot
from casckpt.format.remote_index import Segment
from tests.golden import make_v1
from tests.support.vectors import READERS, as_json, from_json

FOLDER = make_v1.FOLDER
VECTORS: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text())
FILES = {one["file"]: one for one in VECTORS["files"]}
REFUSED = {one["file"]: one for one in VECTORS["refused"]}
STREAMS = {
    *("a frame that declares no length", "a byte behind a frame", "two frames", "a base that is not as long"),
    *("a delta codec without a base", "a raw record with a base", "an unknown codec", "an unknown form of stream"),
    "a stream of 4 GiB",
}
"""What is wrong in the hostile packs of which only the stored bytes of the second record lie."""
WRITERS: dict[str, Any] = {
    "structure": Structure,
    "component": Component,
    "tree": Tree,
    "commit": Commit,
    "format": StoreFormat,
    "root": RemoteRoot,
    "segment": Segment,
}


def read(vector: dict[str, Any]) -> Any:
    """What the reader of its kind makes of a file."""
    context = {key: vector[key] for key in ("explicit",) if key in vector}
    context |= {key: bytes.fromhex(vector[key]) for key in ("uuid", "nonce") if key in vector}
    if "structure" in vector:
        context["structure"] = (FOLDER / vector["structure"]).read_bytes()
    return READERS[vector["kind"]]((FOLDER / vector["file"]).read_bytes(), context)


@pytest.mark.parametrize("name", FILES)
def test_a_vector_reads_as_it_says(name: str) -> None:
    assert read(FILES[name]) == FILES[name]["expect"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_with_its_error(name: str) -> None:
    with pytest.raises(errors.CasckptError) as caught:
        read(REFUSED[name])
    assert type(caught.value).__name__ == REFUSED[name]["error"]


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]["kind"] in WRITERS])
def test_what_was_read_is_written_as_the_same_bytes(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    kind = FILES[name]["kind"]
    if kind == "root" and VECTORS["zstd"] != make_v1.ZSTD:
        pytest.skip(f"the vectors were written with zstd {VECTORS['zstd']}, this is {make_v1.ZSTD}")
    assert WRITERS[kind].decode(data).encode() == data


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]["kind"] == "journal"])
def test_entries_that_were_read_are_written_as_the_same_bytes(name: str) -> None:
    data = memoryview((FOLDER / name).read_bytes())
    for frame in scan(data, bytes.fromhex(FILES[name]["uuid"])).frames:
        assert Entry.decode(frame.payload).encode() == bytes(frame.payload)


def test_every_file_is_the_one_that_is_described() -> None:
    described = {name: (one["bytes"], one["blake3"]) for name, one in {**FILES, **REFUSED}.items()}
    found = {}
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.name != "vectors.json":
            data = path.read_bytes()
            found[path.relative_to(FOLDER).as_posix()] = (len(data), checksum(data).hex())
    assert found == described


def test_the_script_writes_the_same_bytes_again() -> None:
    if VECTORS["zstd"] != make_v1.ZSTD:
        pytest.skip(f"the vectors were written with zstd {VECTORS['zstd']}, this is {make_v1.ZSTD}")
    for name, data in make_v1.build().items():
        assert (FOLDER / name).read_bytes() == data, name


@pytest.mark.parametrize("case", VECTORS["canonical"]["good"], ids=lambda case: case["what"])
def test_canonical_bytes_and_values_stand_for_each_other(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    value = decode(data, "a value")
    assert as_json(value) == as_json(decode(encode(from_json(case["value"])), "a value"))
    assert encode(from_json(case["value"])) == data
    assert encode(value) == data


@pytest.mark.parametrize("case", VECTORS["canonical"]["bad"], ids=lambda case: case["what"])
def test_bytes_that_are_not_canonical_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(errors.IntegrityError):
        decode(bytes.fromhex(case["hex"]), "a value")


@pytest.mark.parametrize("case", VECTORS["ids"], ids=lambda case: f"{case['kind']}-{len(case['plain']) // 2}")
def test_ids_are_the_ones_of_their_kind(case: dict[str, Any]) -> None:
    plain = bytes.fromhex(case["plain"])
    if case["kind"] == "pack":
        half = len(plain) // 2
        assert pack_id(plain[:half], plain[half:]).hex() == case["id"]
    else:
        assert object_id(Kind[case["kind"]], plain).hex() == case["id"]


@pytest.mark.parametrize("case", VECTORS["groups"], ids=lambda case: case["what"])
def test_groups_are_the_ones_of_the_format(case: dict[str, Any]) -> None:
    assert group_blobs(case["sizes"], case["elements"], case["paths"]) == case["groups"]


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]["kind"] == "pack"])
def test_a_record_is_decoded_alike_to_bytes_and_into_a_target(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    records, plains = records_of(data), []
    for number, record in enumerate(records):
        stored = data[record.offset : record.offset + record.stored]
        if record.kind not in set(Kind):
            plains.append(b"")
            continue
        bases = tuple(plains[number - distance] for distance in (record.base_1, record.base_2) if distance)
        plains.append(bytes(decode_record(record, stored, bases)))
        room = bytearray(b"\xaa" * (record.length + 9))
        decode_into(record, memoryview(stored), memoryview(room)[5 : 5 + record.length], bases)
        assert room == b"\xaa" * 5 + plains[-1] + b"\xaa" * 4


def records_of(data: bytes) -> list[pack.Record]:
    """The records of a pack file, from its footer."""
    identity, offset, size = pack.decode_trailer(data[-pack.TRAILER_BYTES :], len(data))
    return pack.decode_footer(data[: pack.BLOCK], data[offset : offset + size], offset, identity).records


@pytest.mark.parametrize(
    "name", [name for name in REFUSED if name.endswith(".pack") and REFUSED[name]["what"] in STREAMS]
)
def test_a_hostile_record_is_refused_by_a_target_too(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    records = records_of(data)
    target = memoryview(bytearray(records[1].length))
    stored = data[records[1].offset : records[1].offset + records[1].stored]
    with pytest.raises(errors.CasckptError) as caught:
        decode_into(records[1], stored, target, (bytes(300),) if records[1].base_1 else ())
    assert type(caught.value).__name__ == REFUSED[name]["error"]


def test_every_form_and_codec_occurs_in_a_vector() -> None:
    records = [record for one in FILES.values() if one["kind"] == "pack" for record in one["expect"]["records"]]
    assert {record["codec"] for record in records} >= set(range(7))
    deltas = [record for record in records if record["codec"] >= 4]
    assert {bool(record["base_2"]) for record in deltas} == {False, True}
    assert {record["weight"] for record in deltas} >= {0, 8, 1, 3, 15}
    assert max(record["cost"] for record in deltas) > 3
    forms = {(codec, form) for name in ("planes.pack", "delta.pack") for codec, form in forms_in(name)}
    assert forms >= {(codec, form) for codec in (2, 3, 4) for form in range(4)}
    assert forms >= {(codec, form) for codec in (5, 6) for form in range(3)}


def forms_in(name: str) -> Iterator[tuple[int, int]]:
    """(codec, form) of every stream in a pack."""
    data = (FOLDER / name).read_bytes()
    for record in FILES[name]["expect"]["records"]:
        if record["codec"] >= 2:
            at, tail = record["offset"], record["length"] % word_bytes(record["element"])
            while at < record["offset"] + record["stored"] - tail:
                form, size = struct.unpack_from("<BI", data, at)
                yield record["codec"], form
                at += 5 + size


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_500_000
