"""Every request is counted by its class, and bytes both ways."""

from __future__ import annotations

import pytest

from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.metered import PRICES, Metered, Traffic, cost


def test_requests_and_bytes_are_counted() -> None:
    objects = Metered(MemoryObjects())
    objects.create("packs/a", b"0123456789")
    objects.create("packs/a", memoryview(b"01234567").cast("I"))
    objects.get("packs/a", limit=10)
    objects.get("packs/a", 2, 5, limit=10)
    objects.get_ranges("packs/a", [(0, 1), (5, 9)])
    objects.size("packs/a")
    list(objects.list("packs/"))
    objects.delete(["packs/a", "packs/b"])
    traffic = objects.traffic
    assert traffic.requests == {"put": 2, "get": 4, "head": 1, "list": 1, "delete": 1}
    assert (traffic.up, traffic.down) == (18, 18)


def test_what_failed_is_counted_too() -> None:
    objects = Metered(MemoryObjects())
    with pytest.raises(FileNotFoundError):
        objects.get("packs/a", limit=10)
    assert objects.traffic.requests == {"get": 1}


def test_each_page_of_a_listing_and_of_a_deletion_is_a_request() -> None:
    memory = MemoryObjects()
    keys = [f"packs/{number:05d}" for number in range(2001)]
    for key in keys:
        memory.create(key, b"")
    objects = Metered(memory)
    assert len(list(objects.list("packs/"))) == 2001
    objects.delete(keys)
    assert objects.traffic.requests == {"list": 3, "delete": 3}


def test_the_cost_is_that_of_the_table() -> None:
    traffic = Traffic()
    traffic.requests.update({"put": 2000, "list": 1000, "get": 5000, "head": 5000, "delete": 10**6})
    traffic.down = 10**10
    assert cost(traffic.requests, traffic.down, PRICES["s3"]) == pytest.approx(3 * 0.005 + 10 * 0.0004 + 10 * 0.09)
    assert cost(traffic.requests, traffic.down, {}) == 0
    assert cost(traffic.requests, traffic.down, {"egress": 0.01}) == pytest.approx(0.1)
