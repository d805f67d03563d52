"""Byte planes, deltas and small residuals: what was encoded comes back, and nothing else is believed."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import FormatError, IntegrityError
from casckpt.format import planes
from casckpt.format.codec import Codec
from casckpt.format.elements import element_code
from casckpt.format.planes import CLASSED, CONSTANT, LOW_PAIR, RAW, ZSTD
from tests.support import plane_decoder
from tests.support import plane_encoder as pe

ELEMENT = {1: element_code("int8"), 2: element_code("bfloat16"), 4: element_code("float32"), 8: element_code("float64")}
PLAIN = [(Codec.PLANES, 1), (Codec.PLANES, 2), (Codec.PLANES, 4), (Codec.PLANES, 8)]
PLAIN += [(Codec.ALIGNED_PLANES, 2), (Codec.ALIGNED_PLANES, 4)]
DELTA = [(Codec.DELTA_PLANES, 1), (Codec.DELTA_PLANES, 2), (Codec.DELTA_PLANES, 4), (Codec.DELTA_PLANES, 8)]
DELTA += [(Codec.RESIDUAL_2BIT, 2), (Codec.RESIDUAL_4BIT, 2), (Codec.CLASSED_PLANES, 2), (Codec.CLASSED_PLANES, 4)]
BYTES = st.binary(min_size=1, max_size=100)


@st.composite
def like(draw: st.DrawFn, data: bytes, width: int) -> bytes:
    """Bytes of the same length, many of whose words are near."""
    noise = draw(st.lists(st.sampled_from([0, 0, 0, 1, -1, 2, 7, -7, 8, 300, -5000]), min_size=1, max_size=12))
    count = len(data) // width
    modulus = 1 << 8 * width
    words = struct.unpack(f"<{count}{'BHIQ'[width.bit_length() - 1]}", data[: count * width])
    near = [(word + noise[number % len(noise)]) % modulus for number, word in enumerate(words)]
    tail = draw(st.binary(min_size=len(data) % width, max_size=len(data) % width))
    return b"".join(word.to_bytes(width, "little") for word in near) + tail


@pytest.mark.parametrize(("codec", "width"), PLAIN)
@settings(max_examples=40)
@given(data=BYTES, form=st.sampled_from([None, RAW, ZSTD]))
def test_planes_of_any_bytes_come_back(codec: int, width: int, data: bytes, form: int | None) -> None:
    stored = pe.encode(codec, data, ELEMENT[width], [form] * width)
    assert planes.decode(codec, stored, len(data), ELEMENT[width]) == data
    assert plane_decoder.decode(codec, stored, len(data), width) == data


@pytest.mark.parametrize(("codec", "width"), DELTA)
@settings(max_examples=40)
@given(data=st.data(), plain=BYTES, form=st.sampled_from([None, RAW, ZSTD]), weight=st.integers(0, 15))
def test_deltas_of_any_bytes_come_back(
    codec: int, width: int, data: st.DataObject, plain: bytes, form: int | None, weight: int
) -> None:
    bases = tuple(data.draw(like(plain, width)) for _ in range(2 if weight else 1))
    stored = pe.encode_delta(codec, plain, ELEMENT[width], bases, weight, [form] * width)
    assert planes.decode_delta(codec, stored, len(plain), ELEMENT[width], bases, weight) == plain
    assert plane_decoder.decode(codec, stored, len(plain), width, bases, weight) == plain


@pytest.mark.parametrize("width", [2, 4])
@settings(max_examples=150)
@given(
    data=st.data(),
    plain=BYTES,
    weight=st.integers(0, 15),
    forms=st.lists(st.sampled_from([None, RAW, ZSTD, CLASSED, CLASSED]), min_size=4, max_size=4),
)
def test_planes_by_any_classes_come_back(
    width: int, data: st.DataObject, plain: bytes, weight: int, forms: list[int | None]
) -> None:
    bases = tuple(data.draw(like(plain, width)) for _ in range(2 if weight else 1))
    cuts = [bytes(sorted(data.draw(st.sets(st.integers(0, 255), max_size=15)))) for _ in range(2)]
    if not weight:
        cuts[0] = b""
    stored = pe.encode_delta(Codec.CLASSED_PLANES, plain, ELEMENT[width], bases, weight, forms, cuts)
    assert planes.decode_delta(Codec.CLASSED_PLANES, stored, len(plain), ELEMENT[width], bases, weight) == plain
    assert plane_decoder.decode(Codec.CLASSED_PLANES, stored, len(plain), width, bases, weight) == plain


def test_classes_are_as_the_format_draws_them() -> None:
    first, second = struct.pack("<4f", 1.0, 1.5, 2.0, -8.0), struct.pack("<4f", 1.0, 1.5, 2.5, -9.0)
    plain = struct.pack("<4I", 0x3F800001, 0x3FC00001, 0x40100002, 0xC1080003)
    # The spreads are those of 0, 0, 2^21 and 2^20: 0, 0, 148 and 147. 1.0 and 1.5 are of size 127, the others above.
    head = "02 01 94" + "01 80"
    low = "04 13000000  00 02000000 8181  02 01000000 83  02 01000000 82"
    rest = "02 01000000 80" * 3
    stored = bytes.fromhex(head + low + rest)
    assert planes.decode_delta(Codec.CLASSED_PLANES, stored, 16, ELEMENT[4], (first, second), 8) == plain


@pytest.mark.parametrize("weight", range(1, 16))
@pytest.mark.parametrize(("codec", "width"), DELTA)
def test_far_bases_of_every_weight_give_the_words_back(codec: int, width: int, weight: int) -> None:
    random = np.random.default_rng(weight)
    plain, first, second = (random.bytes(61) for _ in range(3))
    stored = pe.encode_delta(codec, plain, ELEMENT[width], (first, second), weight)
    assert planes.decode_delta(codec, stored, 61, ELEMENT[width], (first, second), weight) == plain


@pytest.mark.parametrize(("codec", "width"), [*PLAIN, *DELTA])
def test_nan_payloads_and_infinities_come_back(codec: int, width: int) -> None:
    special = {1: "807f", 2: "017fc07f80ff0180", 4: "010080 7f 0000c0ff 000080ff 00000080", 8: "01000000 0000f07f"}
    plain = bytes.fromhex(special[width]) * 5
    if codec in (Codec.PLANES, Codec.ALIGNED_PLANES):
        stored = pe.encode(codec, plain, ELEMENT[width])
        assert planes.decode(codec, stored, len(plain), ELEMENT[width]) == plain
    else:
        bases = (plain[::-1], bytes(len(plain)))
        stored = pe.encode_delta(codec, plain, ELEMENT[width], bases, 5)
        assert planes.decode_delta(codec, stored, len(plain), ELEMENT[width], bases, 5) == plain


@pytest.mark.parametrize("codec", [Codec.PLANES, Codec.ALIGNED_PLANES])
def test_a_low_pair_stands_for_two_planes(codec: int) -> None:
    plain = bytes(range(200)) + b"xyz"
    stored = pe.encode(codec, plain, ELEMENT[4], [LOW_PAIR])
    assert stored[0] == LOW_PAIR
    assert struct.unpack_from("<I", stored, 1) == (100,)
    assert planes.decode(codec, stored, 203, ELEMENT[4]) == plain


def test_a_low_pair_may_hold_a_delta() -> None:
    plain, base = bytes(range(200)), bytes(range(200))[::-1]
    stored = pe.encode_delta(Codec.DELTA_PLANES, plain, ELEMENT[4], (base,), 0, [LOW_PAIR, RAW])
    assert planes.decode_delta(Codec.DELTA_PLANES, stored, 200, ELEMENT[4], (base,), 0) == plain


def test_a_constant_plane_is_one_byte() -> None:
    stored = pe.encode(Codec.PLANES, b"\x01\x02" * 9, ELEMENT[2])
    assert stored == bytes.fromhex("02 01000000 01 02 01000000 02")
    assert planes.decode(Codec.PLANES, stored, 18, ELEMENT[2]) == b"\x01\x02" * 9


def test_aligned_planes_are_exponent_then_sign_with_mantissa() -> None:
    plain = struct.pack("<f", -1.5)
    stored = pe.encode(Codec.ALIGNED_PLANES, plain, ELEMENT[4], [RAW] * 4)
    assert stored == bytes.fromhex("00 01000000 00  00 01000000 00  00 01000000 c0  00 01000000 7f")
    assert planes.decode(Codec.ALIGNED_PLANES, stored, 4, ELEMENT[4]) == plain


def test_two_bit_residuals_are_as_the_format_draws_them() -> None:
    base = struct.pack("<5H", 10, 10, 10, 10, 10)
    plain = struct.pack("<5H", 9, 10, 11, 300, 10) + b"!"
    stored = bytes.fromhex("00 02000000 e455  02 01000000 22  02 01000000 01  21")
    assert pe.encode_delta(Codec.RESIDUAL_2BIT, plain, ELEMENT[2], (base + b"?",)) == stored
    assert planes.decode_delta(Codec.RESIDUAL_2BIT, stored, 11, ELEMENT[2], (base + b"?",), 0) == plain


def test_without_escapes_there_is_one_stream() -> None:
    base = bytes(64)
    stored = pe.encode_delta(Codec.RESIDUAL_4BIT, base, ELEMENT[2], (base,))
    assert stored == bytes.fromhex("02 01000000 77")
    assert planes.decode_delta(Codec.RESIDUAL_4BIT, stored, 64, ELEMENT[2], (base,), 0) == base


@pytest.mark.parametrize(("codec", "bits"), [(Codec.RESIDUAL_2BIT, 2), (Codec.RESIDUAL_4BIT, 4)])
def test_every_byte_of_symbols_is_taken_apart(codec: int, bits: int) -> None:
    bytes_of_symbols = [byte for byte in range(256) if all(byte >> at & 3 != 3 for at in range(0, 8, 2))]
    packed = bytes(bytes_of_symbols)
    mask, centre = (1 << bits) - 1, (1 << bits - 1) - 1
    symbols = [byte >> at & mask for byte in packed for at in range(0, 8, bits)]
    plain = struct.pack(f"<{len(symbols)}H", *((symbol - centre) % 65536 for symbol in symbols))
    base = (bytes(len(plain)),)
    assert planes.decode_delta(codec, pe.stream(RAW, packed), len(plain), ELEMENT[2], base, 0) == plain


def test_less_than_a_word_is_all_tail() -> None:
    assert planes.decode(Codec.PLANES, b"", 0, ELEMENT[4]) == b""
    assert planes.decode(Codec.PLANES, b"abc", 3, ELEMENT[4]) == b"abc"
    assert planes.decode(Codec.ALIGNED_PLANES, b"a", 1, ELEMENT[2]) == b"a"
    assert planes.decode_delta(Codec.DELTA_PLANES, b"abcde", 5, ELEMENT[8], (b"12345", b"67890"), 3) == b"abcde"
    assert planes.decode_delta(Codec.RESIDUAL_2BIT, b"a", 1, ELEMENT[2], (b"b",), 0) == b"a"


def test_complex128_is_coded_as_words_of_eight_bytes() -> None:
    plain = bytes(range(160))
    stored = pe.encode(Codec.PLANES, plain, element_code("complex128"))
    assert planes.decode(Codec.PLANES, stored, 160, element_code("complex128")) == plain
    assert planes.decode(Codec.PLANES, stored, 160, ELEMENT[8]) == plain


REFUSED = {
    "nothing": b"",
    "a stream cut short": pe.stream(RAW, bytes(9)) + pe.stream(RAW, bytes(9))[:-1],
    "a stream header cut short": pe.stream(RAW, bytes(9)) + b"\0\1",
    "a stream missing": pe.stream(RAW, bytes(9)),
    "bytes behind the tail": pe.encode(Codec.PLANES, bytes(18), ELEMENT[2]) + b"x",
    "a raw stream too short": pe.stream(RAW, bytes(8)) + pe.stream(RAW, bytes(10)),
    "a constant of two bytes": pe.stream(CONSTANT, bytes(2)) + pe.stream(CONSTANT, bytes(1)),
    "an empty constant": pe.stream(CONSTANT, b"") + pe.stream(CONSTANT, bytes(1)),
    "a zstd frame of another length": pe.stream(ZSTD, pe.zstd(bytes(10))) + pe.stream(CONSTANT, b"x"),
    "a zstd frame and more": pe.stream(ZSTD, pe.zstd(bytes(9)) + b"x") + pe.stream(CONSTANT, b"x"),
    "a bomb": pe.stream(ZSTD, pe.zstd(bytes(1 << 20))) + pe.stream(CONSTANT, b"x"),
    "a low pair of words of two bytes": pe.stream(LOW_PAIR, bytes(18)),
    "a length of 4 GiB": struct.pack("<BI", RAW, 0xFFFFFFFF) + bytes(20),
}


@pytest.mark.parametrize("stored", REFUSED.values(), ids=REFUSED)
def test_wrong_planes_are_refused(stored: bytes) -> None:
    with pytest.raises(IntegrityError):
        planes.decode(Codec.PLANES, stored, 18, ELEMENT[2])


@pytest.mark.parametrize(
    "forms",
    [[RAW, LOW_PAIR, RAW], [LOW_PAIR, LOW_PAIR], [CONSTANT, RAW, LOW_PAIR]],
    ids=["in the middle", "twice", "at the end"],
)
def test_a_low_pair_is_refused_anywhere_but_first(forms: list[int]) -> None:
    bodies = {RAW: bytes(9), LOW_PAIR: bytes(18), CONSTANT: b"x"}
    with pytest.raises(IntegrityError):
        planes.decode(Codec.PLANES, b"".join(pe.stream(form, bodies[form]) for form in forms), 36, ELEMENT[4])


def test_a_low_pair_of_another_length_is_refused() -> None:
    stored = pe.stream(LOW_PAIR, bytes(17)) + pe.stream(CONSTANT, b"x") * 2
    with pytest.raises(IntegrityError):
        planes.decode(Codec.PLANES, stored, 36, ELEMENT[4])


def test_an_unknown_form_asks_for_a_newer_release() -> None:
    with pytest.raises(FormatError):
        planes.decode(Codec.PLANES, pe.stream(5, bytes(9)) * 2, 18, ELEMENT[2])


@pytest.mark.parametrize(("codec", "width"), [(3, 1), (3, 8)])
def test_aligned_planes_take_words_of_two_or_four_bytes(codec: int, width: int) -> None:
    with pytest.raises(IntegrityError):
        planes.decode(codec, bytes(16), 16, ELEMENT[width])


@pytest.mark.parametrize("width", [1, 4, 8])
@pytest.mark.parametrize("codec", [5, 6])
def test_small_residuals_take_words_of_two_bytes(codec: int, width: int) -> None:
    with pytest.raises(IntegrityError):
        planes.decode_delta(codec, bytes(16), 16, ELEMENT[width], (bytes(16),), 0)


@pytest.mark.parametrize(
    ("bases", "weight"),
    [
        *[((), 0), ((bytes(9),), 0), ((bytes(7),), 0), ((bytes(8),), 8), ((bytes(8), bytes(8)), 0)],
        *[((bytes(8), bytes(8)), 16), ((bytes(8), bytes(9)), 8), ((bytes(8),) * 3, 8)],
    ],
)
def test_bases_that_do_not_fit_are_refused(bases: tuple[bytes, ...], weight: int) -> None:
    stored = pe.encode(Codec.PLANES, bytes(8), ELEMENT[2])
    with pytest.raises(IntegrityError):
        planes.decode_delta(Codec.DELTA_PLANES, stored, 8, ELEMENT[2], bases, weight)


def test_a_codec_of_the_other_kind_is_refused() -> None:
    with pytest.raises(IntegrityError):
        planes.decode(Codec.DELTA_PLANES, bytes(16), 16, ELEMENT[2])
    with pytest.raises(IntegrityError):
        planes.decode_delta(Codec.PLANES, bytes(16), 16, ELEMENT[2], (bytes(16),), 0)


ESCAPES = {
    "symbols missing": b"",
    "symbols not filled with the centre": pe.stream(RAW, b"\x55\x00"),
    "escapes missing": pe.stream(RAW, b"\x57\x55"),
    "one plane of escapes": pe.stream(RAW, b"\x57\x55") + pe.stream(RAW, b"x"),
    "more escapes than symbols": pe.stream(RAW, b"\x57\x55") + pe.stream(RAW, b"xy") * 2,
    "escapes of no symbol": pe.stream(RAW, b"\x55\x55") + pe.stream(RAW, b"x") * 2,
    "a low pair of escapes": pe.stream(RAW, b"\x57\x55") + pe.stream(LOW_PAIR, b"xy"),
}


@pytest.mark.parametrize("stored", ESCAPES.values(), ids=ESCAPES)
def test_wrong_residuals_are_refused(stored: bytes) -> None:
    with pytest.raises(IntegrityError):
        planes.decode_delta(Codec.RESIDUAL_2BIT, stored, 10, ELEMENT[2], (bytes(10),), 0)


CLASSES = {
    "no cuts": b"",
    "no cuts of size": b"\0",
    "cuts cut short": b"\2\1",
    "sixteen cuts": b"\x10" + bytes(range(16)) + b"\0" + pe.stream(CONSTANT, b"x") * 2,
    "cuts that descend": b"\2\2\1\0" + pe.stream(CONSTANT, b"x") * 2,
    "a cut twice": b"\2\1\1\0" + pe.stream(CONSTANT, b"x") * 2,
    "streams missing": b"\0\1\1" + pe.stream(CONSTANT, b"x"),
    "a class missing": b"\0\1\1" + pe.stream(CLASSED, b"") + pe.stream(CONSTANT, b"x"),
    "a stream of a class without words": b"\0\1\1"
    + pe.stream(CLASSED, pe.stream(CONSTANT, b"x") * 2)
    + pe.stream(CONSTANT, b"x"),
    "a class of another length": b"\0\0" + pe.stream(CLASSED, pe.stream(RAW, bytes(4))) + pe.stream(CONSTANT, b"x"),
    "classes in a class": b"\0\0"
    + pe.stream(CLASSED, pe.stream(CLASSED, pe.stream(RAW, bytes(5))))
    + pe.stream(CONSTANT, b"x"),
    "a low pair in a class": b"\0\0" + pe.stream(CLASSED, pe.stream(LOW_PAIR, bytes(10))) + pe.stream(CONSTANT, b"x"),
    "bytes behind the classes": b"\0\0"
    + pe.stream(CLASSED, pe.stream(RAW, bytes(5)) + b"x")
    + pe.stream(CONSTANT, b"x"),
}


@pytest.mark.parametrize("stored", CLASSES.values(), ids=CLASSES)
def test_wrong_classes_are_refused(stored: bytes) -> None:
    with pytest.raises(IntegrityError):
        planes.decode_delta(Codec.CLASSED_PLANES, stored, 10, ELEMENT[2], (bytes(10), bytes(10)), 8)


def test_cuts_of_a_spread_need_two_bases() -> None:
    stored = b"\1\1\0" + pe.stream(CONSTANT, b"\x80") * 2
    assert planes.decode_delta(7, stored, 10, ELEMENT[2], (bytes(10), bytes(10)), 8) == bytes(10)
    with pytest.raises(IntegrityError):
        planes.decode_delta(7, stored, 10, ELEMENT[2], (bytes(10),), 0)


def test_a_classed_plane_is_refused_in_another_codec() -> None:
    stored = pe.stream(CLASSED, pe.stream(RAW, bytes(5))) + pe.stream(CONSTANT, b"x")
    with pytest.raises(IntegrityError):
        planes.decode_delta(Codec.DELTA_PLANES, stored, 10, ELEMENT[2], (bytes(10),), 0)


LYING = {
    "a stream of 4 GiB": struct.pack("<BI", RAW, 0xFFFFFFFF),
    "a frame of 64 MiB": pe.stream(ZSTD, pe.zstd(bytes(64 << 20))),
    "every word an escape, and none there": pe.stream(CONSTANT, b"\xff"),
    "escapes of 4 GiB": pe.stream(CONSTANT, b"\xff") + struct.pack("<BI", ZSTD, 0xFFFFFFFF),
    "more escapes than words": pe.stream(CONSTANT, b"\xff") + pe.stream(ZSTD, pe.zstd(bytes(64 << 20))) * 2,
    "one escape, and planes of all words": pe.stream(RAW, b"\x57" + b"\x55" * 131071)
    + pe.stream(RAW, bytes(1 << 19)) * 2,
}


@pytest.mark.parametrize("codec", [4, 5, 6, 7])
@pytest.mark.parametrize("stored", LYING.values(), ids=LYING)
def test_lies_about_lengths_are_refused_in_little_memory(codec: int, stored: bytes) -> None:
    plain, bases = bytearray(1 << 20), (bytes(1 << 20),)
    if codec == Codec.CLASSED_PLANES:
        stored = b"\0\x0f" + bytes(range(15)) + pe.stream(CLASSED, stored)
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            planes.decode_delta_into(codec, stored, ELEMENT[2], memoryview(plain), bases, 0)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(stored=st.binary(max_size=60), codec=st.sampled_from(range(2, 8)), width=st.sampled_from([1, 2, 4, 8]))
def test_arbitrary_bytes_never_end_in_another_error(stored: bytes, codec: int, width: int) -> None:
    try:
        if codec < Codec.DELTA_PLANES:
            plain = planes.decode(codec, stored, 11, ELEMENT[width])
        else:
            plain = planes.decode_delta(codec, stored, 11, ELEMENT[width], (bytes(11), bytes(11)), 8)
    except (IntegrityError, FormatError):
        return
    assert len(plain) == 11
