"""Words and their planes: split and joined, any count at any address, against the plain way to do it."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from casckpt.format.words import align, join, low_pairs, places_of, split
from tests.support.build import noise

WIDTHS = [1, 2, 4, 8]
COUNTS = st.integers(1, 300) | st.sampled_from([65_536, 65_537, 131_071])


def words_of(count: int, width: int) -> np.ndarray:
    return np.frombuffer(noise("words", count * width), np.uint8)


def planes_of(words: np.ndarray, width: int) -> list[np.ndarray]:
    return list(words.reshape(-1, width).T.copy())


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=30)
@given(count=COUNTS, shift=st.integers(0, 9))
def test_planes_are_the_bytes_of_words(width: int, count: int, shift: int) -> None:
    data = np.frombuffer(bytes(shift) + words_of(count, width).tobytes(), np.uint8)[shift:]
    planes = np.empty((width, count), np.uint8)
    split(data, planes)
    assert np.array_equal(planes, planes_of(data, width))


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=30)
@given(count=COUNTS, shift=st.integers(0, 9))
@example(count=1, shift=0)
@example(count=262_144, shift=1)
def test_planes_join_to_words_at_any_address(width: int, count: int, shift: int) -> None:
    data = words_of(count, width)
    room = np.full(shift + len(data) + 9, 0xAA, np.uint8)
    join(room[shift : shift + len(data)].view(f"<u{width}"), planes_of(data, width))
    assert np.array_equal(room[shift : shift + len(data)], data)
    assert (room[:shift] == 0xAA).all() and (room[shift + len(data) :] == 0xAA).all()


@pytest.mark.parametrize("width", [2, 4, 8])
@settings(max_examples=30)
@given(count=COUNTS, same=st.integers(0, 255))
def test_planes_of_one_value_join_like_others(width: int, count: int, same: int) -> None:
    planes = planes_of(words_of(count, width), width)
    for number in range(width):
        if same >> number & 1:
            planes[number] = np.broadcast_to(planes[number][:1], count)
    out = np.empty(count, f"<u{width}")
    join(out, planes)
    assert np.array_equal(out.view(np.uint8), np.stack(planes, axis=1).reshape(-1))


@pytest.mark.parametrize("width", [2, 4])
@settings(max_examples=30)
@given(count=COUNTS, same=st.integers(0, 15))
@example(count=262_144, same=0)
def test_aligned_planes_join_to_plain_words(width: int, count: int, same: int) -> None:
    planes = planes_of(words_of(count, width), width)
    for number in range(width):
        if same >> number & 1:
            planes[number] = np.broadcast_to(planes[number][:1], count)
    exponent, rest = planes[-1], planes[-2]
    plain = [*planes[:-2], (rest & 0x7F) | (exponent << 7), (exponent >> 1) | (rest & 0x80)]
    out = np.empty(count, f"<u{width}")
    join(out, planes, aligned=True)
    assert np.array_equal(out.view(np.uint8), np.stack(plain, axis=1).reshape(-1))


def test_every_pair_of_top_bytes_is_aligned_as_the_format_says() -> None:
    words = np.arange(1 << 16, dtype="<u2")
    planes = np.empty((2, len(words)), np.uint8)
    split(words.view(np.uint8), planes)
    low, high = planes.copy()
    align(planes[1], planes[0], np.empty(2 * len(words), np.uint8))
    assert np.array_equal(planes[1], (high << 1) | (low >> 7))
    assert np.array_equal(planes[0], (low & 0x7F) | (high & 0x80))
    out = np.empty_like(words)
    join(out, list(planes), aligned=True)
    assert np.array_equal(out, words)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("count", [1, 2, 777, 140_000])
def test_a_low_pair_joins_like_its_planes(count: int, aligned: bool) -> None:
    data = words_of(count, 4)
    pairs = np.frombuffer(b"x" + bytes(2 * count), np.uint8)[1:].copy().view("<u2")
    low_pairs(data, pairs)
    assert np.array_equal(pairs.view(np.uint8), data.reshape(-1, 4)[:, :2].reshape(-1))
    planes = planes_of(data, 4)
    first, second = np.empty(count, "<u4"), np.empty(count, "<u4")
    join(first, planes, aligned=aligned)
    join(second, [pairs, *planes[2:]], aligned=aligned)
    assert np.array_equal(first, second)


def test_no_words_are_joined_from_no_planes() -> None:
    join(np.empty(0, "<u4"), [])


@settings(max_examples=100)
@given(count=st.integers(0, 200), share=st.sampled_from([0, 0.005, 0.03, 0.09, 0.11, 0.5, 1]), seed=st.integers(0, 999))
def test_words_of_a_value_are_found_where_they_are(count: int, share: float, seed: int) -> None:
    words = np.where(np.random.default_rng(seed).random(count) < share, 8, 7).astype("<u2")
    assert places_of(words, 8).tolist() == [number for number, word in enumerate(words) if word == 8]
    odd = np.frombuffer(b"x" + words.tobytes(), np.uint8)[1:].view("<u2")
    assert places_of(odd, 8).tolist() == places_of(words, 8).tolist()
