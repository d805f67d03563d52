"""What is tried again, how often, and after how long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from casckpt.errors import RemoteDenied, RemoteUnavailable
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Listed, Outcome
from casckpt.storage.retrying import Retrying

DOWN = RemoteUnavailable(remote="memory:", operation="answer", problem="503")


class Failing(MemoryObjects):
    """Fails by plan: each step is an error, an outcome, or None for what memory does; then all is well."""

    def __init__(self, *plan: Exception | Outcome | None) -> None:
        super().__init__()
        self.plan = list(plan)
        self.asked = 0

    def _step(self) -> Outcome | None:
        self.asked += 1
        step = self.plan.pop(0) if self.plan else None
        if isinstance(step, Exception):
            raise step
        return step

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        self._step()
        return super().get(key, start, stop, limit=limit)

    def create(self, key: str, data: Buffer) -> Outcome:
        return self._step() or super().create(key, data)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        for one in super().list(prefix, after):
            self._step()
            yield one


def retrying(objects: MemoryObjects, tries: int = 4) -> tuple[Retrying, list[float]]:
    """With its pauses, each as long as it can be."""
    pauses: list[float] = []
    return Retrying(objects, tries, sleep=pauses.append, chance=lambda: 1.0), pauses


def test_a_read_is_tried_again_after_growing_pauses() -> None:
    objects = Failing(DOWN, DOWN, DOWN)
    MemoryObjects.create(objects, "a", b"x")
    around, pauses = retrying(objects)
    assert around.get("a", limit=1) == b"x"
    assert pauses == [0.2, 0.4, 0.8]


def test_pauses_are_of_random_length_and_bounded() -> None:
    pauses: list[float] = []
    around = Retrying(Failing(*[DOWN] * 20), 12, sleep=pauses.append, chance=lambda: 0.0)
    with pytest.raises(RemoteUnavailable):
        around.get("a", limit=1)
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == 7.5
    assert len(pauses) == 11


def test_after_the_last_try_the_error_is_told() -> None:
    objects = Failing(*[DOWN] * 9)
    around, pauses = retrying(objects)
    with pytest.raises(RemoteUnavailable):
        around.get("a", limit=1)
    assert objects.asked == 4
    assert len(pauses) == 3


@pytest.mark.parametrize("error", [RemoteDenied(remote="m", operation="o", problem="p"), FileNotFoundError("a")])
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    objects = Failing(error)
    around, pauses = retrying(objects)
    with pytest.raises(type(error)):
        around.get("a", limit=1)
    assert (objects.asked, pauses) == (1, [])


def test_an_unanswered_create_is_sent_again_and_may_find_its_own_earlier_try() -> None:
    objects = Failing(Outcome.UNKNOWN)
    around, _ = retrying(objects)
    assert around.create("a", b"x") is Outcome.CREATED
    objects.plan = [Outcome.UNKNOWN]
    assert around.create("a", b"x") is Outcome.EXISTS


def test_a_create_that_stays_unanswered_is_unknown_and_one_that_never_arrived_an_error() -> None:
    around, _ = retrying(Failing(*[Outcome.UNKNOWN] * 9))
    assert around.create("a", b"x") is Outcome.UNKNOWN
    around, _ = retrying(Failing(Outcome.UNKNOWN, *[DOWN] * 9))
    assert around.create("a", b"x") is Outcome.UNKNOWN
    around, _ = retrying(Failing(*[DOWN] * 9))
    with pytest.raises(RemoteUnavailable):
        around.create("a", b"x")


def test_a_listing_goes_on_where_it_broke_and_its_tries_begin_anew() -> None:
    objects = Failing(None, DOWN, DOWN, DOWN, None, DOWN, DOWN, DOWN)
    for name in "abcd":
        MemoryObjects.create(objects, f"root/{name}", b"")
    around, pauses = retrying(objects)
    assert [one.key for one in around.list("root/")] == [f"root/{name}" for name in "abcd"]
    assert len(pauses) == 6
    objects.plan = [DOWN] * 9
    with pytest.raises(RemoteUnavailable):
        list(around.list("root/"))
