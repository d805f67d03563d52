"""Deltas of whatever training makes, and of anything else: they come back, and never cost more than plain chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import UsageError
from casckpt.format.codec import Codec
from casckpt.format.decode import decode, decode_into
from casckpt.format.delta_encode import Delta, DeltaEncoder
from casckpt.format.elements import element_code, word_bytes
from casckpt.format.encode import SAMPLE_BYTES, Encoder
from casckpt.format.ids import ObjectId
from casckpt.format.pack import Record
from tests.support import plane_decoder
from tests.support import plane_encoder as reference
from tests.support.floats import KINDS, NAMES, chunk
from tests.support.turns import turns_of_another_thread

MIB = 1 << 20
ENCODER, PLAIN = DeltaEncoder(), Encoder()
BFLOAT16, FLOAT32 = element_code("bfloat16"), element_code("float32")
ELEMENT = {1: element_code("int8"), 2: BFLOAT16, 4: FLOAT32, 8: element_code("float64")}
FORMS = [(Codec.DELTA_PLANES, width) for width in ELEMENT] + [(Codec.RESIDUAL_2BIT, 2), (Codec.RESIDUAL_4BIT, 2)]
CLASSED = [(Codec.CLASSED_PLANES, 2), (Codec.CLASSED_PLANES, 4)]
RANGES = [(1, 1), (1, 4), (2, 2), (4, 1), (4, 4), (16, 16)]
STEPS = {
    "none": [0],
    "rare": [0] * 60 + [1, -1],
    "small": [0, 0, 1, -1],
    "two bits and escapes": [0] * 40 + [1, -1, 2, -2],
    "four bits": [0, 3, -7, 7, 1, -4],
    "four bits and escapes": [0] * 40 + [7, -7, 8, -8, 300],
    "coarse": list(range(-100, 100)),
    "the same everywhere": [1000],
    "extremes": [0, 1 << 7, 1 << 15, 1 << 31, 1 << 63, -1],
}
LENGTHS = st.integers(1, 300) | st.sampled_from([1023, 1024, 4099, 2 * SAMPLE_BYTES, 2 * SAMPLE_BYTES + 7])


def moved(plain: bytes, width: int, steps: list[int], seed: int) -> bytes:
    """Words that differ from those of `plain` by one of `steps` each; what is no word is new."""
    count = len(plain) // width
    noise = np.random.default_rng(seed)
    wrapped = np.array([step % (1 << 8 * width) for step in steps], np.uint64).astype(f"<u{width}")
    found = np.frombuffer(plain, f"<u{width}", count) + wrapped[noise.integers(0, len(steps), count)]
    return found.tobytes() + noise.bytes(len(plain) - count * width)


def walk(name: str, step: float, length: int = MIB, seed: int = 0) -> list[bytes]:
    """Three versions of normal floats that walk at random."""
    noise = np.random.default_rng(seed)
    width = word_bytes(element_code(name))
    dtype = np.float64 if width == 8 else np.float32
    values, found = noise.standard_normal(length // width + 1, dtype), []
    for _ in range(3):
        plain = values.view("<u2")[1::2].tobytes() if width == 2 else values.tobytes()
        found.append(plain[:length])
        values = values + dtype(step) * noise.standard_normal(len(values), dtype)
    return found


def record(delta: Delta, length: int, element: int) -> Record:
    """A record of these stored bytes, its bases wherever they are."""
    distances = [*[1, 2][: len(delta.bases)], 0, 0]
    return Record(
        *(ObjectId(bytes(32)), 4096, length, len(delta.stored), 0, delta.codec, element),
        base_1=distances[0],
        base_2=distances[1],
        weight=delta.weight,
    )


def assert_comes_back(delta: Delta, plain: bytes, element: int, offered: tuple[bytes, ...]) -> None:
    bases = tuple(offered[number] for number in delta.bases)
    assert (delta.weight == 0) == (len(bases) < 2)
    one = record(delta, len(plain), element)
    assert decode(one, delta.stored, bases) == plain
    target = bytearray(len(plain))
    decode_into(one, delta.stored, memoryview(target), bases)
    assert target == plain


# ---- round trips


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("codec", "width"), FORMS + CLASSED)
@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), length=LENGTHS, weight=st.integers(0, 15), seed=st.integers(0, 99), data=st.data())
def test_every_form_comes_back_from_both_decoders(
    codec: int, width: int, steps: str, kind: str, length: int, weight: int, seed: int, data: st.DataObject
) -> None:
    first = chunk(kind, NAMES[ELEMENT[width]], length, seed)
    plain = moved(first, width, STEPS[steps], seed)
    bases = (first, moved(plain, width, STEPS[data.draw(st.sampled_from(list(STEPS)))], seed + 1))[: 1 + (weight > 0)]
    if codec == Codec.CLASSED_PLANES:
        ranges = data.draw(st.sampled_from(RANGES)) if weight else (1, data.draw(st.integers(1, 16)))
        delta = ENCODER._divided(plain, ELEMENT[width], bases, weight or 8, {len(bases): (ranges,)})
    else:
        delta = ENCODER._from(Codec(codec), plain, ELEMENT[width], bases, weight or 8)
    if delta is None:
        return
    assert (delta.codec, delta.bases, delta.weight) == (codec, tuple(range(len(bases))), weight)
    assert len(delta.stored) < 0.98 * length
    assert_comes_back(delta, plain, ELEMENT[width], bases)
    if length <= 300:
        assert plane_decoder.decode(codec, bytes(delta.stored), length, width, bases, weight) == plain


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(
    kind=st.sampled_from(KINDS),
    length=LENGTHS,
    steps=st.lists(st.sampled_from(list(STEPS)), min_size=2, max_size=2),
    weight=st.integers(1, 15),
    count=st.integers(0, 2),
    mode=st.sampled_from(["", "classed", "thorough"]),
)
def test_what_is_chosen_comes_back_and_is_never_longer_than_plain(
    name: str, kind: str, length: int, steps: list[str], weight: int, count: int, mode: str
) -> None:
    element = element_code(name)
    first = chunk(kind, name, length)
    plain = moved(first, word_bytes(element), STEPS[steps[0]], 1)
    bases = (first, moved(plain, word_bytes(element), STEPS[steps[1]], 2))[:count]
    delta = ENCODER.encode(plain, element, bases, weight, classed=mode == "classed", thorough=mode == "thorough")
    assert_comes_back(delta, plain, element, bases)
    without = len(PLAIN.encode(plain, element)[1])
    assert len(delta.stored) <= without
    if delta.bases and mode != "thorough":
        assert len(delta.stored) < 0.98 * without


@settings(max_examples=60)
@given(
    plain=st.binary(min_size=1, max_size=200),
    first=st.binary(min_size=200, max_size=200),
    second=st.binary(min_size=200, max_size=200),
    times=st.integers(1, 1000),
    element=st.integers(0, 25),
    weight=st.integers(1, 15),
)
def test_any_bytes_come_back(plain: bytes, first: bytes, second: bytes, times: int, element: int, weight: int) -> None:
    plain = (plain * times)[: 3 * SAMPLE_BYTES]
    bases = tuple((base * (len(plain) // 200 + 1))[: len(plain)] for base in (first, second))
    assert_comes_back(ENCODER.encode(plain, element, bases, weight), plain, element, bases)


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("name", ["int8", "bfloat16", "float32", "float64"])
def test_the_longest_chunks_come_back(name: str, thorough: bool) -> None:
    element = element_code(name)
    for length in (MIB, MIB - 1):
        first, plain, last = walk(name, 2.0**-9, length) if name != "int8" else [chunk("half zeros", name, length)] * 3
        delta = ENCODER.encode(plain, element, (first, last), thorough=thorough)
        assert delta.bases
        assert_comes_back(delta, plain, element, (first, last))


@pytest.mark.parametrize(("codec", "width"), FORMS)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 63])
def test_the_streams_are_those_of_the_reference(codec: int, width: int, length: int) -> None:
    # So short that no stream is worth a frame; what is constant is one byte, though.
    first = chunk("counting", NAMES[ELEMENT[width]], length)
    plain = moved(first, width, STEPS["small"], length)
    delta = ENCODER._from(Codec(codec), plain, ELEMENT[width], (first,), 8)
    stored = reference.encode_delta(codec, plain, ELEMENT[width], (first,))
    assert delta is None or bytes(delta.stored) == stored
    assert delta is not None or len(stored) >= 0.98 * length or length < width


# ---- the choice


def test_between_two_versions_of_a_walk_both_are_used() -> None:
    for name in ("float32", "bfloat16", "float64"):
        first, plain, last = walk(name, 2.0**-9)
        delta = ENCODER.encode(plain, element_code(name), (first, last))
        assert delta.bases == (0, 1)
        alone = ENCODER.encode(plain, element_code(name), (first,))
        assert len(delta.stored) < len(alone.stored) < len(PLAIN.encode(plain, element_code(name))[1])


def test_a_base_that_is_no_neighbour_is_left_out() -> None:
    first, plain, _ = walk("float32", 2.0**-9)
    stranger = walk("float32", 1.0, seed=7)[0]
    assert ENCODER.encode(plain, FLOAT32, (first, stranger)).bases == (0,)
    assert ENCODER.encode(plain, FLOAT32, (stranger, first)).bases == (1,)
    assert ENCODER.encode(plain, FLOAT32, (stranger, stranger)).bases == ()


@pytest.mark.parametrize(
    ("steps", "codec"),
    [
        ("small", Codec.RESIDUAL_2BIT),
        ("rare", Codec.RESIDUAL_2BIT),
        ("four bits", Codec.RESIDUAL_4BIT),
        ("coarse", Codec.DELTA_PLANES),
        ("extremes", Codec.DELTA_PLANES),
    ],
)
def test_the_codec_follows_the_residuals(steps: str, codec: Codec) -> None:
    first = chunk("normal", "bfloat16", MIB)
    delta = ENCODER.encode(moved(first, 2, STEPS[steps], 0), BFLOAT16, (first,))
    assert delta.codec == codec
    wide = ENCODER.encode(moved(first, 4, STEPS[steps], 0), FLOAT32, (first,))
    assert wide.codec in (Codec.DELTA_PLANES, Codec.ALIGNED_PLANES)


def test_a_middle_that_misleads_never_makes_a_chunk_longer() -> None:
    first = bytearray(chunk("noise", "float32", MIB))
    plain = bytearray(chunk("zeros", "float32", MIB))
    middle = slice(MIB // 2 - SAMPLE_BYTES, MIB // 2 + SAMPLE_BYTES)
    plain[middle] = first[middle]  # equal where the sample is taken, and only there
    data, bases = bytes(plain), (bytes(first),)
    without = PLAIN.encode(data, FLOAT32)[1]
    for known in (None, len(without)):
        delta = ENCODER.encode(data, FLOAT32, bases, plain_bytes=known)
        assert (delta.bases, len(delta.stored)) == ((), len(without))


def test_a_known_plain_length_gives_the_same_as_an_unknown_one() -> None:
    for name, step in (("float32", 2.0**-9), ("bfloat16", 2.0**-13), ("float32", 1.0)):
        first, plain, last = walk(name, step)
        known = len(PLAIN.encode(plain, element_code(name))[1])
        one = ENCODER.encode(plain, element_code(name), (first, last), plain_bytes=known)
        other = ENCODER.encode(plain, element_code(name), (first, last))
        assert one._replace(stored=bytes(one.stored)) == other._replace(stored=bytes(other.stored))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_trying_everything_is_never_longer_and_the_sample_nearly_as_good(name: str) -> None:
    for step in (2.0**-6, 2.0**-9, 2.0**-13):
        first, plain, last = walk(name, step)
        quick = ENCODER.encode(plain, element_code(name), (first, last), 5, classed=True)
        best = ENCODER.encode(plain, element_code(name), (first, last), 5, thorough=True)
        assert len(best.stored) <= len(quick.stored) < 1.35 * len(best.stored)
        assert_comes_back(best, plain, element_code(name), (first, last))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_classes_save_where_words_of_unlike_size_move_alike(name: str) -> None:
    first, plain, last = walk(name, 2.0**-9 if name == "float32" else 2.0**-7)
    element = element_code(name)
    without = ENCODER.encode(plain, element, (first, last))
    few = ENCODER.encode(plain, element, (first, last), classed=True)
    many = ENCODER.encode(plain, element, (first, last), thorough=True)
    assert len(many.stored) < len(few.stored) < 0.98 * len(without.stored)
    assert {few.codec, many.codec} == {Codec.CLASSED_PLANES}
    for delta in (few, many):
        assert_comes_back(delta, plain, element, (first, last))


def test_classes_are_not_taken_where_they_tell_nothing() -> None:
    first = np.random.default_rng(0).uniform(1, 2, MIB // 4).astype(np.float32).tobytes()  # all of one size
    plain = moved(first, 4, STEPS["coarse"], 0)
    assert ENCODER.encode(plain, FLOAT32, (first,), classed=True).codec == Codec.DELTA_PLANES


def test_a_sample_says_what_the_whole_chunk_will_take() -> None:
    first, plain, last = walk("float32", 2.0**-9)
    found = ENCODER.sample(plain, FLOAT32, (first, last))
    whole = [len(PLAIN.encode(plain, FLOAT32)[1])]
    for bases in ((first,), (last,), (first, last)):
        delta = ENCODER.encode_from(plain, FLOAT32, bases)
        assert delta is not None
        whole.append(len(delta.stored))
    assert [length / SAMPLE_BYTES for length in found] == pytest.approx([length / MIB for length in whole], rel=0.03)


def test_equal_chunks_take_next_to_nothing() -> None:
    plain = chunk("normal", "bfloat16", MIB)
    for bases in ((plain,), (plain, plain)):
        delta = ENCODER.encode(plain, BFLOAT16, bases)
        assert (delta.codec, len(delta.stored)) == (Codec.RESIDUAL_2BIT, 6)


# ---- refusals, threads


@pytest.mark.parametrize(
    ("plain", "bases", "weight"),
    [
        (b"1234", (b"123",), 8),
        (b"1234", (b"1234", b"12345"), 8),
        (b"1234", (b"1234",) * 3, 8),
        (b"1234", (b"1234",) * 2, 0),
        (b"1234", (b"1234",) * 2, 16),
        (bytes(MIB + 1), (bytes(MIB + 1),), 8),
    ],
)
def test_bases_and_weights_out_of_range_are_refused(plain: bytes, bases: tuple[bytes, ...], weight: int) -> None:
    with pytest.raises(UsageError):
        ENCODER.encode(plain, FLOAT32, bases, weight)
    with pytest.raises(UsageError):
        ENCODER.sample(plain, FLOAT32, bases, weight)


def test_chunks_are_only_read_and_results_are_kept() -> None:
    first, plain, last = map(bytearray, walk("bfloat16", 2.0**-9))
    before = bytes(plain), bytes(first), bytes(last)
    delta = ENCODER.encode(plain, BFLOAT16, (first, last))
    stored = bytes(delta.stored)
    assert (bytes(plain), bytes(first), bytes(last)) == before
    ENCODER.encode(bytes(MIB), BFLOAT16, (bytes(first), bytes(last)), thorough=True)
    assert bytes(delta.stored) == stored


def test_other_threads_run_while_chunks_are_encoded_and_decoded() -> None:
    for name in ("float32", "bfloat16"):
        element = element_code(name)
        first, plain, last = walk(name, 2.0**-9)
        delta = ENCODER.encode(plain, element, (first, last))
        assert turns_of_another_thread(lambda: ENCODER.encode(plain, element, (first, last)))  # noqa: B023
        target = memoryview(bytearray(MIB))
        one = record(delta, MIB, element)
        assert turns_of_another_thread(lambda: decode_into(one, delta.stored, target, (first, last)))  # noqa: B023
