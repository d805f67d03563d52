from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.foreign import content
from casckpt.foreign.content import LEAST, MOST, Cut, cut_points
from casckpt.format import chunking
from tests.support.build import noise

MIB = 1 << 20
DATA = noise("content", 12 * MIB + 12_345)
GOLDEN = [256279, 567250, 978035, 1415011, 1679451, 2092547, 2415202, 2563817]
GOLDEN_ALL = "a185cb80df2416c0515c993b48db87d1322761e6d548a49ebdf06cedccf4239f"


class File:
    """Bytes that note what of them is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read: list[tuple[int, int]] = []

    def fill(self, offset: int, memory: memoryview) -> None:
        memory[:] = self.data[offset : offset + len(memory)]
        self.read.append((offset, len(memory)))


def cut(data: bytes, start: int = 0) -> list[int]:
    return [found.stop for found in cut_points(File(data).fill, start, len(data))]


def chunks(data: bytes) -> list[bytes]:
    return [data[start:stop] for start, stop in pairwise([0, *cut(data)])]


def test_the_cuts_are_those_of_every_release() -> None:
    """Another release of the library, or another rule, would give every store new chunks for the old bytes."""
    found = cut(DATA)
    assert found[: len(GOLDEN)] == GOLDEN
    assert blake3(repr(found).encode()).hexdigest() == GOLDEN_ALL


def test_no_chunk_is_longer_than_the_format_allows() -> None:
    assert MOST == chunking.CHUNK
    assert LEAST < chunking.SMALL
    lengths = [len(chunk) for chunk in chunks(DATA)]
    assert max(lengths) <= MOST
    assert min(lengths[:-1]) >= LEAST
    assert b"".join(chunks(DATA)) == DATA


def test_nothing_is_cut_nowhere_and_little_once() -> None:
    assert cut(b"") == []
    assert cut(b"x") == [1]
    assert cut(DATA[: LEAST + 1]) == [LEAST + 1]


@pytest.mark.parametrize("window", [2 * MIB, 2 * MIB + 1, 3_333_333, 64 * MIB])
def test_the_cuts_do_not_depend_on_how_the_file_is_read(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    expected = cut(DATA)
    monkeypatch.setattr(content, "_WINDOW", window)
    assert cut(DATA) == expected


def test_the_cuts_are_those_of_a_file_in_one_piece() -> None:
    whole = content.FastCDC(
        content.AVERAGE, min_size=LEAST, max_size=MOST, normalized_chunking=content.NORMALIZATION
    ).cut_buf(DATA)
    assert [chunk.offset + chunk.length for chunk in whole] == cut(DATA)


def test_a_stretch_is_cut_from_its_own_start() -> None:
    assert [stop - 777 for stop in cut(b"x" * 777 + DATA, 777)] == cut(DATA)


def test_an_insertion_moves_the_cuts_near_it_and_no_others() -> None:
    old = set(chunks(DATA))
    for at in (10, 6 * MIB):
        new = [chunk for chunk in chunks(DATA[:at] + b"inserted" + DATA[at:]) if chunk not in old]
        assert sum(map(len, new)) < 2 * MIB


def test_zeros_are_cut_at_every_mebibyte() -> None:
    assert cut(bytes(5 * MIB + 5)) == [MIB, 2 * MIB, 3 * MIB, 4 * MIB, 5 * MIB, 5 * MIB + 5]


def holed(holes: list[tuple[int, int]]) -> bytes:
    data = bytearray(DATA)
    for start, stop in holes:
        data[start:stop] = bytes(stop - start)
    return bytes(data)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 12 * MIB), st.integers(0, 6 * MIB)), max_size=3))
def test_a_file_with_holes_is_cut_like_its_copy_without(spans: list[tuple[int, int]]) -> None:
    holes = [(start, min(start + length, len(DATA))) for start, length in spans]
    data, file = holed(holes), File(holed(holes))

    def data_from(offset: int) -> int:
        for start, stop in sorted(holes):
            if start <= offset < stop:
                return data_from(stop)
        return offset

    found = list(cut_points(file.fill, 0, len(data), data_from))
    stops = []
    for start, one in pairwise([Cut(0, is_hole=False), *found]):
        assert not one.is_hole or not any(data[start.stop : one.stop])
        stops += range(start.stop + MOST, one.stop, MOST) if one.is_hole else []
        stops.append(one.stop)
    assert stops == cut(data)


def test_a_hole_is_not_read() -> None:
    size = 1 << 40
    tail = b"the end"

    def fill(offset: int, memory: memoryview) -> None:
        assert size - offset <= MOST
        memory[:] = bytes(len(memory) - len(tail)) + tail

    found = list(cut_points(fill, size - 1000 * MOST, size, lambda offset: max(offset, size - 4096)))
    assert found == [Cut(size - MOST, is_hole=True), Cut(size, is_hole=False)]


def test_of_an_island_little_is_read_around_it() -> None:
    size, every = 4096 * MIB, 64 * MIB
    file = File(b"")

    def fill(offset: int, memory: memoryview) -> None:
        memory[:] = bytes(len(memory))
        file.read.append((offset, len(memory)))

    def data_from(offset: int) -> int:
        return offset if offset % every < 4096 else offset + every - offset % every

    assert list(cut_points(fill, 0, size, data_from))[-1].stop == size
    assert sum(length for _, length in file.read) <= size // every * 2 * MIB


def test_memory_is_bounded_whatever_the_length() -> None:
    def fill(offset: int, memory: memoryview) -> None:
        memory[:] = DATA[: len(memory)]

    tracemalloc.start()
    for _ in cut_points(fill, 0, 200 * MIB):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9 * MIB  # the window, and a copy that this test makes
