"""Encoding of chunks: whatever they hold comes back, and what training makes becomes as small as promised."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import UsageError
from casckpt.format.codec import Codec
from casckpt.format.decode import decode, decode_into
from casckpt.format.elements import element_code, word_bytes
from casckpt.format.encode import PLANES_FROM, SAMPLE_BYTES, TUNED_FROM, Encoder
from casckpt.format.ids import ObjectId
from casckpt.format.pack import Record
from casckpt.format.planes import CONSTANT, LOW_PAIR, RAW, ZSTD
from tests.support import plane_encoder
from tests.support.build import noise
from tests.support.floats import KINDS, NAMES, chunk
from tests.support.turns import turns_of_another_thread

MIB = 1 << 20
ENCODER = Encoder()
LENGTHS = st.sampled_from([0, 1, 3, PLANES_FROM - 1, PLANES_FROM, PLANES_FROM + 5, TUNED_FROM + 1]) | st.integers(
    0, 9000
)
ALIGNED = {"float32", "bfloat16"}


def record(codec: int, length: int, stored: int, element: int) -> Record:
    return Record(ObjectId(bytes(32)), 4096, length, stored, 0, codec, element)


def forms(stored: bytes, tail: int) -> list[int]:
    """The form of every stream of a record of planes."""
    found, at = [], 0
    while at < len(stored) - tail:
        form, size = struct.unpack_from("<BI", stored, at)
        found.append(form)
        at += 5 + size
    return found


def assert_comes_back(data: bytes, element: int) -> None:
    codec, stored = ENCODER.encode(data, element)
    assert len(stored) <= len(data)
    assert codec == Codec.RAW or len(stored) < 0.98 * len(data)
    one = record(codec, len(data), len(stored), element)
    assert decode(one, stored) == data
    target = bytearray(noise("before", 64) * (len(data) // 64 + 1))[: len(data)]
    decode_into(one, stored, memoryview(target))
    assert target == data


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(kind=st.sampled_from(KINDS), length=LENGTHS, seed=st.integers(0, 1000))
def test_chunks_of_every_type_come_back(name: str, kind: str, length: int, seed: int) -> None:
    assert_comes_back(chunk(kind, name, length, seed), element_code(name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64", "int32", "int8", "bytes"])
def test_the_longest_chunks_come_back(name: str, kind: str) -> None:
    for length in (MIB, MIB - 1):
        assert_comes_back(chunk(kind, name, length), element_code(name))


@settings(max_examples=100)
@given(data=st.binary(max_size=60), times=st.integers(1, 400), element=st.integers(0, 30))
def test_any_bytes_come_back(data: bytes, times: int, element: int) -> None:
    assert_comes_back(data * times, element)


@pytest.mark.parametrize("name", NAMES)
def test_words_are_encoded_by_their_planes(name: str) -> None:
    element = element_code(name)
    codec = ENCODER.encode(chunk("normal", name, 1 << 17), element)[0]
    planes = Codec.ALIGNED_PLANES if name in ALIGNED else Codec.PLANES
    assert codec == (planes if word_bytes(element) > 1 else Codec.ZSTD)


RATIOS = [
    *[("normal", "float32", 0.84), ("normal", "bfloat16", 0.68), ("normal", "float16", 0.86)],
    *[("normal", "float64", 0.89), ("normal", "complex64", 0.85), ("normal", "float8_e4m3fn", 0.78)],
    *[("normal", "float8_e5m2", 0.72), ("normal", "int8", 0.56), ("normal", "int64", 0.25)],
    *[("counting", "int64", 0.002), ("counting", "int32", 0.003), ("zeros", "float32", 0.0001)],
    *[("same", "float64", 0.0001), ("half zeros", "float32", 0.5), ("zeros", "bool", 0.001)],
]


@pytest.mark.parametrize(("kind", "name", "most"), RATIOS)
def test_what_training_makes_shrinks_as_promised(kind: str, name: str, most: float) -> None:
    data = chunk(kind, name, MIB)
    assert len(ENCODER.encode(data, element_code(name))[1]) <= most * MIB


def test_alignment_makes_floats_smaller() -> None:
    for name, plain in (("float32", "int32"), ("bfloat16", "int16")):
        data = chunk("normal", name, MIB)
        aligned, unaligned = (len(ENCODER.encode(data, element_code(one))[1]) for one in (name, plain))
        assert aligned < unaligned


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_returned_as_it_is(name: str) -> None:
    data = memoryview(noise("raw", 5000))
    codec, stored = ENCODER.encode(data, element_code(name))
    assert codec == Codec.RAW
    assert stored is data


def test_planes_take_the_form_that_suits_them() -> None:
    def forms_of(name: str, planes: list[np.ndarray]) -> list[int]:
        data = np.stack(planes, axis=1).tobytes()
        return forms(ENCODER.encode(data, element_code(name))[1], 0)

    dense = [np.frombuffer(noise(f"plane {number}", 8192), np.uint8) for number in range(3)]
    sparse, same = dense[0] & 3, np.full(8192, 7, np.uint8)
    assert forms_of("int32", [dense[0], dense[1], sparse, same]) == [LOW_PAIR, ZSTD, CONSTANT]
    assert forms_of("int32", [dense[0], sparse, dense[1], same]) == [RAW, ZSTD, RAW, CONSTANT]
    assert forms_of("int32", [same, dense[1], dense[0], same]) == [CONSTANT, RAW, RAW, CONSTANT]
    assert forms_of("int16", [dense[0], sparse]) == [RAW, ZSTD]
    assert forms_of("int64", [dense[0], dense[1], *[same] * 6]) == [RAW, RAW, *[CONSTANT] * 6]
    nearly = same.copy()
    nearly[4000] = 8
    assert forms_of("int16", [sparse, nearly]) == [ZSTD, ZSTD]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64", "int32", "float16", "complex128"])
def test_stored_bytes_are_those_of_the_format(name: str, kind: str) -> None:
    element = element_code(name)
    data = chunk(kind, name, 40_001)
    codec, stored = ENCODER.encode(data, element)
    if codec != Codec.RAW:
        asked = forms(stored, len(data) % word_bytes(element))
        assert stored == plane_encoder.encode(codec, data, element, asked)


def test_an_encoder_forgets_what_it_encoded() -> None:
    element = element_code("float32")
    small, large = chunk("normal", "float32", 5000, 1), chunk("normal", "float32", MIB, 2)
    first = ENCODER.encode(small, element)
    kept = bytes(first[1])
    ENCODER.encode(large, element)
    assert first[1] == kept
    assert ENCODER.encode(small, element) == (first[0], kept) == Encoder().encode(small, element)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data)[1:]])
def test_chunks_may_lie_in_any_buffer(make: object) -> None:
    data = chunk("normal", "float32", 70_001)
    assert ENCODER.encode(make(data), element_code("float32")) == ENCODER.encode(data, element_code("float32"))


def test_more_than_a_chunk_is_refused() -> None:
    with pytest.raises(UsageError):
        ENCODER.encode(bytes(MIB + 4), element_code("float32"))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int64", "int8", "bytes", "complex128"])
def test_a_sample_tells_the_ratio(name: str) -> None:
    element = element_code(name)
    data = chunk("normal", name, MIB)
    whole = len(ENCODER.encode(data, element)[1]) / MIB
    assert ENCODER.sample_ratio(data, element) == pytest.approx(whole, abs=0.03)
    assert ENCODER.sample_ratio(noise("raw", MIB), element) == 1
    short = data[: SAMPLE_BYTES - 1]
    assert ENCODER.sample_ratio(short, element) == len(ENCODER.encode(short, element)[1]) / len(short)


def test_a_sample_is_of_the_middle() -> None:
    element = element_code("float64")
    data = bytearray(noise("edges", MIB - 3))
    start = (MIB - 3 - SAMPLE_BYTES) // 2 // 16 * 16
    data[start : start + SAMPLE_BYTES] = chunk("counting", "float64", SAMPLE_BYTES)
    assert ENCODER.sample_ratio(data, element) < 0.01


def test_another_thread_runs_while_a_chunk_is_encoded_and_decoded() -> None:
    data, element = chunk("normal", "float32", MIB), element_code("float32")
    codec, stored = ENCODER.encode(data, element)
    one, target = record(codec, MIB, len(stored), element), memoryview(bytearray(MIB))
    for work in (lambda: ENCODER.encode(data, element), lambda: decode_into(one, stored, target)):
        assert turns_of_another_thread(work)
    assert not turns_of_another_thread(lambda: sum(range(1000)))
