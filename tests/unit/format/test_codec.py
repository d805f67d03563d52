"""zstd under strict checks, and the one place where records are decoded."""

import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import FormatError, IntegrityError, UsageError
from casckpt.format.codec import Codec, compress, compressor, decompress
from casckpt.format.decode import decode, decode_into
from casckpt.format.elements import element_code
from casckpt.format.encode import Encoder
from casckpt.format.ids import ObjectId
from casckpt.format.pack import Record
from tests.support.build import noise, zstd
from tests.support.floats import chunk

TEXT = b"plain " * 100


@settings(max_examples=60)
@given(st.binary(max_size=400) | st.integers(1, 3000).map(bytes))
def test_compressed_bytes_come_back(plain: bytes) -> None:
    codec, stored = compress(plain)
    assert len(stored) <= len(plain)
    assert (stored if codec == Codec.RAW else decompress(stored, len(plain))) == plain


def test_what_does_not_shrink_by_two_percent_stays_raw() -> None:
    plain = noise("raw", 5000)
    assert compress(plain) == (Codec.RAW, plain)
    assert compress(bytes(127)) == (Codec.RAW, bytes(127))
    assert compress(bytes(128))[0] == Codec.ZSTD


def test_a_tuned_frame_reads_like_any_other() -> None:
    plain = chunk("normal", "float8_e5m2", 100_000)
    frame = compressor(tuned=True)(plain)
    assert len(frame) < 0.75 * len(plain)
    assert decompress(frame, len(plain)) == plain


def test_a_refused_frame_leaves_nothing_behind_for_the_next() -> None:
    frame = zstd(TEXT)
    for _ in range(3):
        with pytest.raises(IntegrityError):
            decompress(frame[:-3], len(TEXT))
        assert decompress(frame, len(TEXT)) == TEXT


def test_threads_may_decompress_at_the_same_time() -> None:
    plains = [chunk("normal", "float8_e5m2", 300_000, seed) for seed in range(6)]
    frames = [zstd(plain) for plain in plains]
    with ThreadPoolExecutor(6) as threads:
        found = threads.map(lambda number: decompress(frames[number % 6], 300_000), range(60))
        assert list(found) == plains * 10


BAD = {
    "empty": b"",
    "no frame": b"plain",
    "cut short": zstd(TEXT)[:-1],
    "a byte behind": zstd(TEXT) + b"\0",
    "two frames": zstd(TEXT[:300]) + zstd(TEXT[300:]),
    "a frame and an empty one": zstd(TEXT) + zstd(b""),
    "no declared length": zstd(TEXT, write_content_size=False),
    "a longer frame": zstd(TEXT + b"x"),
    "a shorter frame": zstd(TEXT[:-1]),
    "a bomb of 64 MiB": zstd(bytes(64 << 20)),
    "a skippable frame": struct.pack("<II", 0x184D2A50, 600) + TEXT,
    "a skippable frame, then a right one": struct.pack("<II", 0x184D2A50, 600) + TEXT + zstd(TEXT),
    "a declared length of 1 TiB": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + b"\x01\x00\x00",
}


@pytest.mark.parametrize("frame", BAD.values(), ids=BAD)
def test_a_wrong_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(IntegrityError):
        decompress(frame, len(TEXT))


def test_a_header_that_lies_about_the_length_is_refused() -> None:
    frame = zstd(TEXT)
    at = frame.index(struct.pack("<H", len(TEXT) - 256))
    lying = frame[:at] + struct.pack("<H", len(TEXT) - 255) + frame[at + 2 :]
    assert zstandard.get_frame_parameters(lying).content_size == len(TEXT) + 1
    with pytest.raises(IntegrityError):
        decompress(lying, len(TEXT) + 1)


def test_a_frame_that_needs_a_dictionary_is_refused() -> None:
    block = (len(TEXT) << 3 | 1).to_bytes(3, "little") + TEXT  # the last block, raw
    size = struct.pack("<H", len(TEXT) - 256)
    assert decompress(b"\x28\xb5\x2f\xfd\x60" + size + block, len(TEXT)) == TEXT
    with pytest.raises(IntegrityError, match="dictionary"):
        decompress(b"\x28\xb5\x2f\xfd\x61\x07" + size + block, len(TEXT))


@settings(max_examples=150)
@given(st.integers(0, len(zstd(TEXT)) - 1), st.integers(1, 255))
def test_a_changed_frame_never_ends_in_another_error(at: int, change: int) -> None:
    frame = bytearray(zstd(TEXT))
    frame[at] ^= change
    try:
        assert len(decompress(frame, len(TEXT))) == len(TEXT)
    except IntegrityError:
        return


def record(codec: int, length: int, **fields: int) -> Record:
    return Record(ObjectId(bytes(32)), 4096, length, 0, 0, codec, **fields)


def test_raw_bytes_are_not_copied() -> None:
    stored = memoryview(b"abc")
    assert decode(record(Codec.RAW, 3), stored) is stored


def test_raw_bytes_of_another_length_are_refused() -> None:
    with pytest.raises(IntegrityError):
        decode(record(Codec.RAW, 4), b"abc")
    with pytest.raises(IntegrityError):
        decode_into(record(Codec.RAW, 4), b"abc", memoryview(bytearray(4)))


@pytest.mark.parametrize("target", [bytearray(2), bytearray(4), b"abc"], ids=["short", "long", "read-only"])
def test_a_target_that_does_not_fit_is_refused(target: bytes | bytearray) -> None:
    with pytest.raises(UsageError):
        decode_into(record(Codec.RAW, 3), b"abc", memoryview(target))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int64", "int8", "bytes"])
@pytest.mark.parametrize("length", [3, 5001, 300_001])
def test_a_target_may_be_any_part_of_an_array(name: str, length: int) -> None:
    element, data = element_code(name), chunk("normal", name, length)
    codec, stored = Encoder().encode(data, element)
    room = np.full(length + 20, 0xAA, np.uint8)
    decode_into(record(codec, length, element=element), stored, memoryview(room)[7 : 7 + length])
    assert room[7 : 7 + length].tobytes() == data
    assert (room[:7] == 0xAA).all() and (room[7 + length :] == 0xAA).all()
    if length % 3 == 0:
        wide = np.zeros((length // 3, 3), np.uint8)
        decode_into(record(codec, length, element=element), stored, memoryview(wide))
        assert wide.tobytes() == data


def peak(work: object) -> int:
    """Most bytes allocated at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64", "int64", "int8"])
@pytest.mark.parametrize("kind", ["normal", "zeros", "noise"])
def test_decoding_takes_little_more_memory_than_the_plain_bytes(name: str, kind: str) -> None:
    element, data = element_code(name), chunk(kind, name, 1 << 20)
    codec, stored = Encoder().encode(data, element)
    one, target = record(codec, 1 << 20, element=element), memoryview(bytearray(1 << 20))
    decode_into(one, stored, target)
    assert peak(lambda: decode_into(one, stored, target)) < 2 << 20


def test_a_bomb_allocates_nothing() -> None:
    element = element_code("bfloat16")
    bomb = struct.pack("<BI", 1, len(zstd(bytes(64 << 20)))) + zstd(bytes(64 << 20))
    for codec, stored in ((Codec.ZSTD, zstd(bytes(64 << 20))), (Codec.PLANES, bomb * 2)):

        def refused(codec: int = codec, stored: bytes = stored) -> None:
            with pytest.raises(IntegrityError):
                decode_into(record(codec, 600, element=element), stored, memoryview(bytearray(600)))

        refused()
        assert peak(refused) < 1 << 16


@pytest.mark.parametrize("codec", [8, 77, 255])
def test_an_unknown_codec_asks_for_a_newer_release(codec: int) -> None:
    with pytest.raises(FormatError):
        decode(record(codec, 3), b"abc")
    with pytest.raises(FormatError):
        decode_into(record(codec, 3), b"abc", memoryview(bytearray(3)))


@pytest.mark.parametrize("codec", [Codec.RAW, Codec.ZSTD, Codec.PLANES, Codec.ALIGNED_PLANES])
def test_a_codec_without_bases_takes_none(codec: int) -> None:
    with pytest.raises(IntegrityError):
        decode(record(codec, 3, base_1=1), b"abc", (b"abc",))


@pytest.mark.parametrize("codec", [Codec.DELTA_PLANES, Codec.RESIDUAL_2BIT, Codec.RESIDUAL_4BIT, Codec.CLASSED_PLANES])
def test_a_delta_needs_the_bases_that_its_record_names(codec: int) -> None:
    with pytest.raises(IntegrityError):
        decode(record(codec, 3), b"abc")
    with pytest.raises(IntegrityError):
        decode(record(codec, 3, base_1=1, base_2=2, weight=8), b"abc", (b"abc",))
