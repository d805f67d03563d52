"""Locks of a remote: one holds one at a time, a dead holder's is taken over, and who lost it changes nothing."""

from __future__ import annotations

import pytest

import casckpt
from casckpt.errors import BusyError, LockLost
from casckpt.ops.push import push
from casckpt.remote import roots
from casckpt.remote.locks import break_lock, lock_remote
from casckpt.remote.view import RemoteView
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Outcome
from tests.support.buckets import chain, newest
from tests.support.clocks import Clock
from tests.support.remotes import Wrapping


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "_FIRST_PAUSE_S", 0)


def test_a_lock_is_held_by_one_until_it_is_let_go_of() -> None:
    objects = MemoryObjects()
    mine = lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    with pytest.raises(BusyError, match="ckpt"):
        lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    lock_remote(RemoteView(objects), "other", ttl_s=60)
    mine.release()
    lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    mine.release()
    assert set(newest(objects).locks) == {"ckpt", "other"}


def test_a_lock_that_is_not_renewed_is_taken_over_after_its_whole_time_by_the_watchers_clock() -> None:
    objects, clock = MemoryObjects(), Clock()
    mine = lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    with pytest.raises(BusyError):
        lock_remote(RemoteView(objects), "ckpt", ttl_s=5, wait_s=59, clock=clock, sleep=clock.sleep)
    began = clock.now
    theirs = lock_remote(RemoteView(objects), "ckpt", ttl_s=5, wait_s=100, clock=clock, sleep=clock.sleep)
    assert 60 <= clock.now - began <= 63
    with pytest.raises(LockLost):
        mine.renew()
    mine.release()
    theirs.renew()


def test_a_renewal_begins_the_watch_anew() -> None:
    objects, clock = MemoryObjects(), Clock()
    mine = lock_remote(RemoteView(objects), "ckpt", ttl_s=60)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if int(clock.now) % 50 == 0:
            mine.renew()

    with pytest.raises(BusyError):
        lock_remote(RemoteView(objects), "ckpt", ttl_s=5, wait_s=300, clock=clock, sleep=sleep)


def test_a_push_of_a_holder_who_lost_the_lock_changes_nothing() -> None:
    objects, store = MemoryObjects(), casckpt.memory()
    store.commit({"x": 1}, run="a")
    mine = lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    push(store._repository, objects, "origin", ["a"], lock=mine)
    assert break_lock(RemoteView(objects), "ckpt") is not None
    assert break_lock(RemoteView(objects), "ckpt") is None
    store.commit({"x": 2}, run="a")
    count = len(chain(objects))
    with pytest.raises(LockLost, match="taken away"):
        push(store._repository, objects, "origin", ["a"], lock=mine)
    lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    with pytest.raises(LockLost, match="held by"):
        push(store._repository, objects, "origin", ["a"], lock=mine)
    assert len(chain(objects)) == count + 1


def test_lost_answers_do_not_lose_a_lock() -> None:
    class Lossy(Wrapping):
        def create(self, key: str, data: Buffer) -> Outcome:
            outcome = self.inner.create(key, data)
            return Outcome.UNKNOWN if outcome is Outcome.CREATED else outcome

    objects = MemoryObjects()
    mine = lock_remote(RemoteView(Lossy(objects)), "ckpt", ttl_s=60)
    mine.renew()
    mine.check(newest(objects))
    mine.release()
    assert newest(objects).locks == {}
    assert len(chain(objects)) == 3
