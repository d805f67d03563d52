"""A fetch that a collection meets at any request: it goes on by the newest root, and brings nothing twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import casckpt
from casckpt.errors import NotOnRemote
from casckpt.ops.fetch import fetch
from casckpt.ops.fetch_choice import Selection
from casckpt.ops.push import push
from casckpt.ops.remote_gc import Waits, remote_gc
from casckpt.plan.policy import Retention
from casckpt.remote import roots
from casckpt.remote.view import RemoteView
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Objects
from tests.support.build import noise
from tests.support.remotes import Wrapping

SIZE = 270_000
"""Bytes of a leaf: too many for a frame, and for a group with its neighbours."""
STATES = [{"common": noise("common", SIZE), "own": noise(f"own {number}", SIZE)} for number in range(4)]


class Meeting(Wrapping):
    """A remote where something happens before request number `at`."""

    def __init__(self, inner: Objects, at: int, what: Callable[[], object]) -> None:
        super().__init__(inner)
        self._at, self._what = at, what
        self.count = 0

    def before(self, request: str) -> None:
        self.count += 1
        if self.count == self._at + 1:
            self._what()


def bucket() -> MemoryObjects:
    """A run in as many packs as commits, and of each pack a part that only the commit needs."""
    store, objects = casckpt.memory(), MemoryObjects()
    for number, state in enumerate(STATES):
        store.commit({"part": state}, run="a", step=number)
        push(store._repository, objects, "origin", ["a"])
    return objects


def collect(objects: Objects, policy: Retention | None) -> None:
    waits = Waits(delay_s=0, grace_s=0, keep_roots=1, keep_roots_s=0)
    remote_gc(casckpt.memory()._repository.database, RemoteView(objects), policy, now=True, waits=waits)


@pytest.mark.parametrize("policy", [None, Retention(keep_last=1, grace="0s")], ids=["moves", "drops"])
def test_a_collection_at_any_request_of_a_fetch_costs_it_no_second_try(
    policy: Retention | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr("casckpt.plan.remote_gc.SMALL_PACKS", 2)  # all packs are written again
    at, count = 0, 1
    while at < count:
        objects = bucket()
        met = Meeting(objects, at, lambda objects=objects: collect(objects, policy))
        store = casckpt.memory()
        report = fetch(store._repository, met, "origin", Selection(), concurrency=1)
        at, count = at + 1, met.count
        database = store._repository.database
        database.refresh()
        stored = [record.id for pack in database.pack_set() for record in database.records(pack)]
        assert len(stored) == len(set(stored)) == report.objects + report.commits  # each came once
        whole = {one.hex(): commit.step for one, commit in database.commits() if database.drop(one) is None}
        assert len(STATES) - 1 in whole.values()
        assert policy is not None or len(whole) == len(STATES)
        for identity, step in whole.items():
            assert store.checkout(identity)["part"] == STATES[step]
    assert at > 5


def test_what_is_missing_without_a_newer_root_is_an_error_at_once() -> None:
    objects = bucket()
    objects.delete([max(listed.key for listed in objects.list("packs/"))])
    met = Meeting(objects, 1 << 30, lambda: None)
    with pytest.raises(NotOnRemote):
        fetch(casckpt.memory()._repository, met, "origin", Selection(), concurrency=1)
    assert met.count < 30
