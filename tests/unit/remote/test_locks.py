"""Locks of a remote: one holds one at a time, a dead holder's is taken over, and who lost it changes nothing."""

from __future__ import annotations

import pytest

import casckpt
from casckpt.errors import BusyError, LockHeld, LockLost, StorageError
from casckpt.ops.push import push
from casckpt.remote import lock_watch, roots
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.lock_watch import boot
from casckpt.remote.locks import break_lock, lock_remote
from casckpt.remote.view import RemoteView
from casckpt.storage.memory import MemoryStorage
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


def watching(storage: MemoryStorage, objects: MemoryObjects) -> RemoteView:
    """The remote as a command of a store sees it that begins now."""
    return RemoteView(objects, RemoteFolder(storage, "origin"))


def test_commands_that_ask_once_take_a_dead_holders_lock_together() -> None:
    objects, storage, clock = MemoryObjects(), MemoryStorage(), Clock()
    lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    for left in (60, 35, 10):
        with pytest.raises(LockHeld, match=f" {left} s from now") as caught:
            lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)
        assert caught.value.facts["left_s"] == left
        clock.sleep(25)
    with pytest.raises(LockHeld):
        lock_remote(RemoteView(objects), "ckpt", ttl_s=5, clock=clock)  # who has not watched it
    lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)
    with pytest.raises(LockHeld, match=" 5 s from now"):
        lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)


def test_a_renewal_between_two_commands_begins_the_watch_anew() -> None:
    objects, storage, clock = MemoryObjects(), MemoryStorage(), Clock()
    mine = lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    other = lock_remote(RemoteView(objects), "other", ttl_s=600)
    for _ in range(4):
        with pytest.raises(LockHeld):
            lock_remote(watching(storage, objects), "other", ttl_s=5, clock=clock)
        with pytest.raises(LockHeld, match=" 60 s from now"):
            lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)
        clock.sleep(59)
        mine.renew()
    with pytest.raises(LockHeld, match=f" {600 - 4 * 59} s from now"):  # that of another one is not forgotten
        lock_remote(watching(storage, objects), "other", ttl_s=5, clock=clock)
    other.renew()


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b'{"boot": "another", "locks": {"ckpt": {"token": "TOKEN", "since": 0}}}',
        b'{"boot": "BOOT", "locks": {"ckpt": {"token": "TOKEN", "since": 1e9}}}',
        b'{"boot": "BOOT", "locks": {"ckpt": {"token": "TOKEN", "since": NaN}}}',
        b'{"boot": "BOOT", "locks": {"ckpt": {"token": "TOKEN"}}}',
        b'{"boot": "BOOT", "locks": {"ckpt": {"token": "00", "since": 0}}}',
        b'{"boot": "BOOT", "locks": {"ckpt": {"token": 0, "since": 0}}}',
    ],
)
def test_what_cannot_be_read_or_is_of_another_clock_was_not_seen(stored: bytes) -> None:
    objects, storage, clock = MemoryObjects(), MemoryStorage(), Clock()
    lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    token = newest(objects).locks["ckpt"].token.hex()
    facts = stored.replace(b"BOOT", boot().encode()).replace(b"TOKEN", token.encode())
    RemoteFolder(storage, "origin").write("watched", facts)
    with pytest.raises(LockHeld, match=" 60 s from now"):
        lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)
    clock.sleep(60)
    lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)


@pytest.mark.parametrize("call", ["open_read", "rename"])
def test_a_disk_that_fails_hides_no_lock_and_takes_none(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, storage, clock = MemoryObjects(), MemoryStorage(), Clock()
    lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    inner = getattr(storage, call)

    def failing(*names: str) -> object:
        if names[-1].endswith("/watched"):
            raise StorageError(path=names[-1], problem="input/output error")
        return inner(*names)

    monkeypatch.setattr(storage, call, failing)
    for _ in range(2):
        with pytest.raises(LockHeld, match=" 60 s from now"):
            lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)
        clock.sleep(60)


def test_where_no_system_tells_its_start_only_one_command_can_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_watch, "_BOOT", lock_watch._BOOT / "missing")
    objects, storage, clock = MemoryObjects(), MemoryStorage(), Clock()
    lock_remote(RemoteView(objects), "ckpt", ttl_s=60)
    for _ in range(3):
        with pytest.raises(LockHeld, match=" 60 s from now"):
            lock_remote(watching(storage, objects), "ckpt", ttl_s=5, clock=clock)
        clock.sleep(60)
    lock_remote(watching(storage, objects), "ckpt", ttl_s=5, wait_s=61, clock=clock, sleep=clock.sleep)
