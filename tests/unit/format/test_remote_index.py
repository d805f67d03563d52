"""Index segments of a remote: sorted, checked, and found by id."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import CasckptError, FormatError, IntegrityError
from casckpt.format.ids import ObjectId, PackId
from casckpt.format.remote_index import Row, Segment, SegmentPack
from tests.support.build import identity, segment_file

PACKS = (
    SegmentPack(PackId(identity("b")), bytes(4), 1 << 20),
    SegmentPack(PackId(identity("a")), b"\1\2\3\4", 8192),
    SegmentPack(PackId(identity("b")), b"\0\0\0\1", 4096 * 3),
)
ROWS = [Row(identity(f"row {number}"), 0, 4096 + 64 * number, 60, 60, 0, 0, 12, 1) for number in range(50)]
RIGHT = Segment.build(PACKS, ROWS)
FILE = RIGHT.encode()


@settings(max_examples=60)
@given(st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(0, 2), max_size=30), st.permutations(PACKS))
def test_a_segment_reads_back_and_finds_every_row(names: dict[bytes, int], packs: list[SegmentPack]) -> None:
    rows = [Row(ObjectId(name), pack, 4096, 64, 64, 0) for name, pack in names.items()]
    segment = Segment.decode(Segment.build(packs, rows).encode())
    assert list(segment.packs) == sorted(packs)
    assert len(segment) == len(rows)
    for row in rows:
        found = segment.find(row.id)
        assert found is not None
        assert segment.packs[found.pack] == packs[row.pack]
        assert found._replace(pack=row.pack) == row
    assert [row.id for row in segment.rows()] == sorted(names)


def test_the_order_of_packs_and_rows_does_not_change_the_bytes() -> None:
    again = [row._replace(pack=2) for row in ROWS[::-1]]
    assert Segment.build(PACKS[::-1], again).encode() == FILE


def test_what_is_not_listed_is_not_found() -> None:
    for name in (bytes(32), b"\xff" * 32, identity("none"), b"", ROWS[0].id[:31], ROWS[0].id + b"\0"):
        assert RIGHT.find(name) is None
    assert Segment((), b"").find(bytes(32)) is None


def test_the_file_is_as_the_format_draws_it() -> None:
    packs, rows = len(PACKS), len(ROWS)
    assert len(FILE) == 32 + 44 * packs + 1024 + 52 * rows + 32
    fan_out = struct.unpack_from("<256I", FILE, 32 + 44 * packs)
    assert fan_out[255] == rows
    for byte in (0, 77, 254):
        assert fan_out[byte] == sum(row.id[0] <= byte for row in ROWS)
    first = min(ROWS)
    table = FILE[32 + 44 * packs + 1024 :]
    number = sorted(PACKS).index(PACKS[0])
    assert table[:52] == first.id + struct.pack("<IIIIBBBB", number, first.offset // 64, 60, 60, 0, 0, 12, 1)


def test_a_pack_knows_its_key() -> None:
    assert PACKS[1].key == f"packs/{PACKS[1].id.hex()[:2]}/{PACKS[1].id.hex()}.01020304"


WRONG = {
    "an id twice": [ROWS[0], ROWS[0]._replace(offset=8192)],
    "a pack that is not listed": [ROWS[0]._replace(pack=3)],
    "a negative pack": [ROWS[0]._replace(pack=-1)],
    "an offset between units": [ROWS[0]._replace(offset=4100)],
    "an offset in the header": [ROWS[0]._replace(offset=4032)],
    "bytes past the end of the pack": [ROWS[0]._replace(pack=1, offset=8128, stored=65, codec=1)],
    "a chunk of more than 1 MiB": [ROWS[0]._replace(length=(1 << 20) + 1, codec=1)],
    "a chunk of no bytes": [ROWS[0]._replace(length=0, stored=0)],
    "raw bytes of two lengths": [ROWS[0]._replace(length=61)],
    "stored far longer than plain": [ROWS[0]._replace(stored=2000, codec=1)],
}


@pytest.mark.parametrize("rows", WRONG.values(), ids=WRONG)
def test_wrong_rows_are_never_written(rows: list[Row]) -> None:
    with pytest.raises(IntegrityError):
        Segment.build(PACKS, rows)


@pytest.mark.parametrize(
    "packs",
    [
        [PACKS[0], PACKS[0]],
        [PACKS[0], PACKS[0]._replace(nbytes=8192)],
        [PACKS[0]._replace(nbytes=0)],
        [PACKS[0]._replace(nbytes=5000)],
        [PACKS[0]._replace(nbytes=1 << 40)],
        [PACKS[0]._replace(nonce=b"\0\0\0")],
    ],
    ids=["twice", "twice of two lengths", "no bytes", "no blocks", "a terabyte", "a short nonce"],
)
def test_wrong_packs_are_never_written(packs: list[SegmentPack]) -> None:
    with pytest.raises(IntegrityError):
        Segment.build(packs, [])


def test_rows_of_newer_kinds_are_listed() -> None:
    row = ROWS[0]._replace(kind=99, codec=77, length=1 << 30)
    assert Segment.decode(Segment.build(PACKS, [row]).encode()).find(row.id) is not None


@pytest.mark.parametrize("counts", [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0xFFFFFFFF), (4, 50), (3, 51), (3, 49)])
def test_counts_that_the_file_does_not_back_are_refused(counts: tuple[int, int]) -> None:
    packs = [FILE[32 + 44 * number :][:44] for number in range(3)]
    rows = [RIGHT.table[52 * number :][:52] for number in range(50)]
    assert segment_file(packs, rows) == FILE
    with pytest.raises(IntegrityError):
        Segment.decode(segment_file(packs, rows, counts=counts))
    with pytest.raises(IntegrityError):
        Segment.decode(segment_file(packs, rows, fan_out=[50] * 256))
    with pytest.raises(IntegrityError):
        Segment.decode(segment_file(packs, rows[::-1]))
    with pytest.raises(IntegrityError):
        Segment.decode(segment_file(packs[::-1], rows))


def test_newer_segments_ask_for_a_newer_release() -> None:
    for data in (segment_file([], [], major=2), segment_file([], [], required=1)):
        with pytest.raises(FormatError):
            Segment.decode(data)


@settings(max_examples=200)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    data = bytearray(FILE)
    data[at] ^= change
    with pytest.raises(CasckptError):
        Segment.decode(bytes(data))


@pytest.mark.parametrize("data", [b"", FILE[:-1], FILE + b"\0", FILE[:32], FILE[:100], bytes(2000)])
def test_a_file_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        Segment.decode(data)
