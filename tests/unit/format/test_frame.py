"""Journal frames: what is valid, what is torn, what is damage, and that nothing else is ever taken."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.format import limits
from casckpt.format.frame import HEADER_BYTES, MAGIC, NO_HASH, OVERHEAD, SECTOR, Scan, encode_frame, scan
from tests.support.build import UUID, Journal, noise

PAYLOADS = (b"first", b"second" * 50, b"", noise("third", 2000), b"fourth")


def journal(*payloads: bytes, seq: int = 0, uuid: bytes = UUID) -> Journal:
    built = Journal(seq, uuid=uuid)
    for payload in payloads:
        built.add(payload)
    return built


def read(data: bytes) -> Scan:
    return scan(memoryview(data), UUID)


def payloads(found: Scan) -> tuple[bytes, ...]:
    return tuple(bytes(frame.payload) for frame in found.frames)


RIGHT = bytes(journal(*PAYLOADS).data)
STARTS = [frame["offset"] for frame in journal(*PAYLOADS).frames]
REAL = {(frame["offset"], frame["hash"]) for frame in journal(*PAYLOADS).frames}


def flip(data: bytes, at: int, change: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]


def test_frames_read_back_in_order() -> None:
    found = read(RIGHT)
    assert payloads(found) == PAYLOADS
    assert [frame.seq for frame in found.frames] == [0, 1, 2, 3, 4]
    assert [frame.offset for frame in found.frames] == STARTS
    assert (found.end, found.tail, found.gaps) == (len(RIGHT), "clean", [])
    assert found.frames[-1].end == len(RIGHT)


def test_an_empty_file_is_clean() -> None:
    assert read(b"") == Scan([], [], 0, "clean")


def test_room_filled_ahead_is_clean_and_written_over() -> None:
    found = read(RIGHT + bytes(5000))
    assert payloads(found) == PAYLOADS
    assert (found.end, found.tail) == (len(RIGHT), "clean")


@pytest.mark.parametrize("cut", range(1, OVERHEAD + len(PAYLOADS[-1])))
def test_a_last_frame_that_is_cut_short_is_torn(cut: int) -> None:
    found = read(RIGHT[:-cut])
    assert payloads(found) == PAYLOADS[:-1]
    assert (found.end, found.tail, found.gaps) == (STARTS[-1], "torn", [])


@pytest.mark.parametrize("kept", [1, 8, 20, HEADER_BYTES])
def test_a_header_with_nothing_but_zeros_behind_it_is_torn(kept: int) -> None:
    found = read(RIGHT[: STARTS[-1] + kept] + bytes(9000))
    assert (found.end, found.tail) == (STARTS[-1], "torn")


def test_a_last_frame_with_an_unwritten_sector_is_torn() -> None:
    data = bytearray(journal(b"first", noise("long", 4000)).data)
    start = len(journal(b"first").data)
    hole = -(-start // SECTOR) * SECTOR + SECTOR
    data[hole : hole + SECTOR] = bytes(SECTOR)
    found = read(bytes(data))
    assert (found.end, found.tail, payloads(found)) == (start, "torn", (b"first",))


def test_a_hole_is_the_same_wherever_the_scan_starts() -> None:
    built = journal(b"first" * 20, b"second", noise("long", 4000))
    data, offset, start = built.data, built.frames[1]["offset"], built.frames[2]["offset"]
    hole = -(-start // SECTOR) * SECTOR + SECTOR
    data[hole : hole + SECTOR] = bytes(SECTOR)
    data[hole - 1] = data[hole + SECTOR] = 1
    assert read(bytes(data)).tail == "torn"
    rest = scan(memoryview(bytes(data))[offset:], UUID, offset=offset, seq=1, previous=built.frames[0]["hash"])
    assert (rest.tail, rest.end) == ("torn", start)


@pytest.mark.parametrize("at", range(STARTS[-1], len(RIGHT)))
def test_a_changed_bit_of_the_last_frame_is_damage_and_stays(at: int) -> None:
    found = read(flip(RIGHT, at))
    assert payloads(found) == PAYLOADS[:-1]
    if STARTS[-1] + 16 <= at < STARTS[-1] + 20 and found.tail == "torn":
        pytest.fail("a changed length must not look like a frame that reaches past the end")
    assert (found.tail, found.end) == ("damage", len(RIGHT))
    assert found.gaps == [(STARTS[-1], len(RIGHT))]


@pytest.mark.parametrize("at", range(STARTS[1], STARTS[2], 11))
def test_damage_in_the_middle_is_a_gap_and_reading_goes_on(at: int) -> None:
    found = read(flip(RIGHT, at))
    assert payloads(found) == PAYLOADS[:1] + PAYLOADS[2:]
    assert found.gaps == [(STARTS[1], STARTS[2])]
    assert (found.tail, found.end) == ("clean", len(RIGHT))


def test_the_next_frame_goes_behind_a_damaged_tail() -> None:
    damaged = flip(RIGHT, len(RIGHT) - 1)
    before = read(damaged)
    more = encode_frame(UUID, 5, before.frames[-1].hash, b"next")
    found = read(damaged + more)
    assert payloads(found) == (*PAYLOADS[:-1], b"next")
    assert found.gaps == [(STARTS[-1], len(RIGHT))]


@settings(max_examples=150)
@given(st.integers(0, len(RIGHT)), st.lists(st.tuples(st.integers(0, len(RIGHT) - 1), st.integers(1, 255)), max_size=5))
def test_no_damage_makes_a_frame_that_was_not_written(length: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(RIGHT)
    for at, change in changes:
        data[at] ^= change
    data = data[:length]
    found = read(bytes(data))
    taken = {(frame.offset, frame.hash) for frame in found.frames}
    assert taken <= REAL
    whole = {
        (start, RIGHT[end - 32 : end])
        for start, end in zip(STARTS, [*STARTS[1:], len(RIGHT)], strict=True)
        if bytes(data[start:end]) == RIGHT[start:end]
    }
    assert whole <= taken
    assert found.end <= len(data)
    assert found.end == len(data) or found.tail in ("torn", "clean")


@settings(max_examples=150)
@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_hold_no_frame(data: bytes, magic: bool) -> None:
    found = read(MAGIC * magic + data)
    assert found.frames == []
    assert found.tail in ("clean", "torn", "damage")


def test_frames_of_another_store_are_never_taken() -> None:
    other = bytes(journal(*PAYLOADS, uuid=bytes(16)).data)
    assert read(other).frames == []
    assert payloads(read(RIGHT[: STARTS[1]] + other)) == PAYLOADS[:1]


@pytest.mark.parametrize("uuid", [UUID, bytes(16)], ids=["of this store", "of another"])
@pytest.mark.parametrize("where", ["magic", "seq", "length", "check", "previous", "payload", "hash"])
def test_frames_inside_the_payload_of_a_damaged_frame_are_never_taken(uuid: bytes, where: str) -> None:
    inside = bytes(journal(*PAYLOADS, uuid=uuid).data)
    built = journal(*PAYLOADS, inside, b"last")
    start, end = built.frames[5]["offset"], built.frames[6]["offset"]
    offset = {"magic": 0, "seq": 9, "length": 16, "check": 21, "previous": 30, "payload": 100}
    data = flip(bytes(built.data), start + offset[where] if where in offset else end - 5)
    found = read(data)
    assert payloads(found) == (*PAYLOADS, b"last")
    assert found.gaps == [(start, end)]


def test_frames_inside_a_valid_frame_are_its_payload() -> None:
    built = journal(b"first", RIGHT, b"last")
    assert payloads(read(bytes(built.data))) == (b"first", RIGHT, b"last")


def test_frames_inside_a_torn_frame_are_never_taken() -> None:
    built = journal(*PAYLOADS, RIGHT)
    found = read(bytes(built.data)[:-1])
    assert payloads(found) == PAYLOADS
    assert (found.tail, found.end) == ("torn", len(RIGHT))


def test_a_frame_that_does_not_follow_the_one_before_it_is_damage() -> None:
    last = read(RIGHT).frames[-1].hash
    for seq, previous in ((6, last), (4, last), (5, NO_HASH)):
        found = read(RIGHT + encode_frame(UUID, seq, previous, b"odd"))
        assert payloads(found) == PAYLOADS
        assert found.tail == "damage"


def test_after_damage_an_older_frame_is_not_taken() -> None:
    old = RIGHT[STARTS[1] : STARTS[2]]
    found = read(flip(RIGHT, len(RIGHT) - 1) + old)
    assert payloads(found) == PAYLOADS[:-1]


def test_a_scan_goes_on_from_where_another_ended() -> None:
    before = read(RIGHT[: STARTS[2]])
    known = {"seq": 2, "previous": before.frames[-1].hash}
    found = scan(memoryview(RIGHT)[STARTS[2] :], UUID, offset=STARTS[2], **known)
    assert payloads(found) == PAYLOADS[2:]
    assert [frame.offset for frame in found.frames] == STARTS[2:]
    assert found.end == len(RIGHT)


def test_a_scan_from_the_wrong_place_takes_nothing() -> None:
    found = scan(memoryview(RIGHT)[STARTS[2] :], UUID, offset=STARTS[2], seq=2, previous=bytes(32))
    assert found.frames[:1] == [] or found.frames[0].seq > 2
    assert found.gaps[0][0] == STARTS[2]


def test_a_later_file_may_start_with_any_number() -> None:
    assert [frame.seq for frame in read(bytes(journal(b"a", b"b", seq=1000).data)).frames] == [1000, 1001]


def test_a_frame_longer_than_the_limit_is_never_taken() -> None:
    bare = journal(b"first").data
    frame = encode_frame(UUID, 1, bytes(bare[-32:]), bytes(limits.MAX_FRAME_BYTES + 1))
    assert payloads(read(bytes(bare) + frame)) == (b"first",)
