"""Bytes pass at the rate that was asked for, and no request waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from casckpt.storage.limited import Bucket, Limited
from casckpt.storage.memory_objects import MemoryObjects


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def limited(rate: float) -> tuple[Limited, Clock]:
    clock = Clock()
    return Limited(MemoryObjects(), Bucket(rate, sleep=clock.sleep, clock=clock)), clock


@given(sizes=st.lists(st.integers(0, 5000), min_size=1), pauses=st.lists(st.floats(0, 3)))
def test_never_more_passes_than_the_rate_and_what_silence_saved(sizes: list[int], pauses: list[float]) -> None:
    clock = Clock()
    bucket = Bucket(1000, sleep=clock.sleep, clock=clock)
    passed = 0
    for number, size in enumerate(sizes):
        bucket.take(size)
        assert passed <= 1000 * (clock.now + 1.0) + 1e-3
        passed += size
        clock.sleep(pauses[number] if number < len(pauses) else 0)


def test_a_request_larger_than_a_second_passes_and_the_next_one_pays() -> None:
    objects, clock = limited(1000)
    objects.create("a", bytes(5000))
    assert clock.now == 0
    objects.create("b", b"x")
    assert clock.now == 5


def test_both_directions_share_the_rate() -> None:
    objects, clock = limited(1000)
    objects.create("a", bytes(3000))
    assert len(objects.get("a", 0, 2000, limit=3000)) == 2000
    assert clock.now == 3
    objects.get_ranges("a", [(0, 1000), (2000, 3000)])
    assert clock.now == 5


def test_what_came_unasked_for_is_paid_later() -> None:
    objects, clock = limited(1000)
    objects.create("a", bytes(3000))
    objects.get("a", limit=3000)
    objects.get("a", 0, 1, limit=1)
    assert clock.now == 6
