"""Packs: what is written reads back; every field is checked before it is used."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import limits, pack
from casckpt.format.codec import Codec
from casckpt.format.ids import Kind, object_id
from casckpt.format.pack import BLOCK, Record
from tests.support.build import Pack, noise
from tests.support.vectors import plain_bytes

CHUNK = Record(object_id(Kind.CHUNK, b"x" * 100), BLOCK, 100, 100, 0)


def contents(data: bytes) -> pack.PackContents:
    """What the end of a pack file says."""
    identity, offset, size = pack.decode_trailer(data[-64:], len(data))
    return pack.decode_footer(data[:BLOCK], data[offset : offset + size], offset, identity)


def built(sizes: list[int], close_every: int = 3) -> tuple[Pack, bytes]:
    one = Pack()
    for number, size in enumerate(sizes):
        one.add(noise(f"record {number}", size))
        if number % close_every == close_every - 1:
            one.close()
    return one, one.finish({"run": "a"})


@settings(max_examples=25)
@given(st.lists(st.integers(1, 70_000), max_size=8), st.integers(1, 4))
def test_a_pack_reads_back_whole(sizes: list[int], close_every: int) -> None:
    one, data = built(sizes, close_every)
    found = contents(data)
    assert (found.id, found.records, found.hints) == (one.id, one.records, {"run": "a"})
    assert plain_bytes(data, found.records) == [noise(f"record {number}", size) for number, size in enumerate(sizes)]
    assert len(data) % BLOCK == 0


def test_equal_content_gives_equal_bytes_and_names() -> None:
    assert built([100, 70_000])[1] == built([100, 70_000])[1]
    assert built([100])[0].id != built([101])[0].id


def test_extent_tables_alone_find_every_record() -> None:
    one, data = built([100, 200, 66_000, 5, 6, 7, 8])
    at, found = one.extents[-1]["offset"], []
    while at:
        assert pack.extent_bytes(data[at:]) > 0
        records, at = pack.decode_extent(data[at:], at, allow_bases=False)
        found = records + found
    assert found == one.records


def test_the_name_of_a_pack_binds_every_byte_of_header_and_footer() -> None:
    one, data = built([100])
    identity, offset, size = pack.decode_trailer(data[-64:], len(data))
    for at in range(offset, offset + size):
        wrong = bytearray(data)
        wrong[at] ^= 1
        with pytest.raises(IntegrityError):
            pack.decode_footer(bytes(wrong[:BLOCK]), bytes(wrong[offset : offset + size]), offset, identity)
    assert one.id == identity


@settings(max_examples=200)
@given(st.integers(0, 63), st.integers(1, 255))
def test_a_changed_trailer_is_refused_here_or_by_the_footer(at: int, change: int) -> None:
    data = bytearray(built([100])[1])
    data[len(data) - 64 + at] ^= change
    with pytest.raises(IntegrityError):
        contents(bytes(data))


@pytest.mark.parametrize("cut", [1, 63, 64, 4095, 4096, 8192])
def test_a_pack_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(IntegrityError):
        contents(built([100])[1][:-cut])


def test_headers_of_newer_formats_ask_for_a_newer_release() -> None:
    header = pack.encode_header()
    assert pack.decode_header(header) == 0
    assert pack.decode_header(pack.encode_header(pack.HAS_DELTAS, 0xFFFF)) == pack.HAS_DELTAS
    for wrong in (header[:8] + b"\2\0" + header[10:], pack.encode_header(2)):
        with pytest.raises(FormatError):
            pack.decode_header(wrong)


@pytest.mark.parametrize("wrong", [b"", pack.encode_header()[:-1], bytes(BLOCK), pack.encode_header()[:-1] + b"x"])
def test_a_wrong_header_is_refused(wrong: bytes) -> None:
    with pytest.raises(IntegrityError):
        pack.decode_header(wrong)


def test_a_record_is_sixty_four_bytes_with_every_field() -> None:
    record = Record(CHUNK.id, 1 << 37, 1 << 20, 5, 0, 4, 12, 2, b"checksum", 1, 2, 3, 15)
    raw = record.pack()
    assert len(raw) == 64
    expect = struct.pack("<IIIHH8sBBBBBBH", 1 << 31, 1 << 20, 5, 1, 2, b"checksum", 0, 4, 12, 2, 3, 15, 0)
    assert raw == record.id + expect
    first = [CHUNK.pack(), CHUNK._replace(offset=CHUNK.offset + 128).pack()]
    assert pack.decode_records(b"".join([*first, raw]), 4096, 1 << 38, allow_bases=True)[2] == record


WRONG: dict[str, dict[str, Any]] = {
    "past the end": {"offset": 1 << 20},
    "one byte past the end": {"offset": 8192 - 64, "stored": 65, "codec": 1},
    "a chunk of no bytes": {"length": 0, "stored": 0},
    "a chunk of more than 1 MiB": {"length": (1 << 20) + 1, "codec": 1},
    "a commit of more than 1 MiB": {"length": (1 << 20) + 1, "codec": 1, "kind": Kind.COMMIT},
    "a page of more than 2 048 ids": {"length": 2048 * 36 + 1, "codec": 1, "kind": Kind.PAGE},
    "stored far longer than plain": {"stored": 100 + limits.MAX_STORED_EXCESS + 1, "codec": 1},
    "raw with two lengths": {"stored": 99},
    "a cost without a base": {"cost": 2},
    "a weight without a base": {"weight": 8},
    "a second base alone": {"base_2": 1},
    "a base before the first record": {"base_1": 2, "cost": 2, "codec": 4},
    "a second base before the first record": {"base_1": 1, "base_2": 2, "weight": 8, "cost": 3, "codec": 4},
    "a delta of cost 1": {"base_1": 1, "cost": 1, "codec": 4},
    "a delta of cost 17": {"base_1": 1, "cost": 17, "codec": 4},
    "one base with a weight": {"base_1": 1, "cost": 2, "weight": 8, "codec": 4},
    "two bases without a weight": {"base_1": 1, "base_2": 1, "cost": 2, "codec": 4},
    "over the record before it": {"offset": 4096},
    "in the header block": {"offset": 0},
    "two bases of one cost too few": {"base_1": 1, "base_2": 1, "cost": 1, "weight": 8, "codec": 4},
    "a weight of 16": {"base_1": 1, "base_2": 1, "cost": 2, "weight": 16, "codec": 4},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_a_record_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    rows = CHUNK.pack() + CHUNK._replace(**{"offset": CHUNK.offset + 128, **fields}).pack()
    with pytest.raises(IntegrityError, match="record 1"):
        pack.decode_records(rows, 4096, 8192, allow_bases=True)


def test_deltas_need_the_flag_of_their_pack() -> None:
    rows = CHUNK.pack() + CHUNK._replace(offset=CHUNK.offset + 128, base_1=1, cost=2, codec=4).pack()
    assert pack.decode_records(rows, 4096, 8192, allow_bases=True)[1].base_1 == 1
    with pytest.raises(IntegrityError):
        pack.decode_records(rows, 4096, 8192, allow_bases=False)


def test_reserved_bytes_of_a_record_are_zero() -> None:
    for at in (62, 63):
        raw = bytearray(CHUNK.pack())
        raw[at] = 1
        with pytest.raises(IntegrityError):
            pack.decode_records(bytes(raw), 4096, 8192, allow_bases=True)


def test_records_of_newer_kinds_and_codecs_are_located() -> None:
    raw = CHUNK._replace(kind=99, codec=77, stored=50, length=1 << 30).pack()
    assert pack.decode_records(raw, 4096, 8192, allow_bases=False)[0].kind == 99


def test_the_check_of_a_raw_chunk_is_its_id() -> None:
    name = object_id(Kind.CHUNK, b"x")
    assert pack.check_of(Codec.RAW, name, Kind.CHUNK, b"x") == name[:8]
    assert pack.check_of(Codec.RAW, object_id(Kind.TREE, b"x"), Kind.TREE, b"x") == name[:8]
    assert pack.check_of(Codec.ZSTD, b"?" * 32, Kind.CHUNK, b"x") == name[:8]


def test_an_extent_table_says_its_own_length() -> None:
    table = pack.encode_extent([CHUNK] * 3, BLOCK, 0)
    assert len(table) == BLOCK
    assert pack.extent_bytes(table) == 32 + 3 * 64 + 32
    assert pack.extent_bytes(b"x" + table) == pack.extent_bytes(b"") == pack.extent_bytes(table[:31]) == 0
    assert pack.extent_bytes(table[:8] + b"\xff" * 4 + table[12:]) == 0


@settings(max_examples=100)
@given(st.integers(0, 32 + 64 + 31), st.integers(1, 255))
def test_a_changed_extent_table_is_refused(at: int, change: int) -> None:
    table = bytearray(pack.encode_extent([CHUNK], BLOCK, 0))
    table[at] ^= change
    with pytest.raises(IntegrityError):
        pack.decode_extent(bytes(table), 2 * BLOCK, allow_bases=False)


@pytest.mark.parametrize(("first", "previous"), [(3 * BLOCK, 0), (BLOCK, 2 * BLOCK), (BLOCK, 1 << 60)])
def test_an_extent_that_points_forward_is_refused(first: int, previous: int) -> None:
    with pytest.raises(IntegrityError):
        pack.decode_extent(pack.encode_extent([CHUNK], first, previous), 2 * BLOCK, allow_bases=False)


@pytest.mark.parametrize("hints", [b"\x01", b"\xc1", b"", b"\x80\x80"])
def test_hints_that_are_no_map_are_refused(hints: bytes) -> None:
    header = pack.encode_header()
    footer = struct.pack("<8sIIQ", pack.FOOTER_MAGIC, 0, len(hints), 0) + hints
    with pytest.raises(IntegrityError):
        pack.decode_footer(header, footer, BLOCK, pack.pack_id(header, footer))
