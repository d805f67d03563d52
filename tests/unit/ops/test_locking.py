"""Commits and pushes under a lock of a remote: by one at a time, and never by who lost it."""

from __future__ import annotations

import itertools
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import (
    InvalidName,
    LockHeld,
    LockLost,
    OutcomeUnknown,
    ReadOnlyStore,
    RemoteDenied,
    RemoteUnavailable,
    UsageError,
)
from casckpt.ops.connecting import Connection
from casckpt.remote import locks, roots
from casckpt.remote.lock_notes import LockNotes
from casckpt.remote.locks import RemoteLock, break_lock, lock_remote
from casckpt.remote.view import RemoteView
from casckpt.storage.objects import Objects
from tests.support.buckets import newest
from tests.support.clocks import Clock
from tests.support.remotes import Counting, Wrapping

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "_FIRST_PAUSE_S", 0)


@pytest.fixture(params=["memory", "folder"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[casckpt.Store, casckpt.Store]]:
    """Two stores that know one remote, `origin`."""
    url = f"memory:locking-{next(NUMBERS)}"
    if request.param == "folder":
        (tmp_path / "share").mkdir()
        url = str(tmp_path / "share")
    with casckpt.init(tmp_path / "one") as one, casckpt.init(tmp_path / "two") as two:
        for store in (one, two):
            store.add_remote("origin", url, probe=False)
        yield one, two


@pytest.fixture
def one(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "one") as store:
        store.add_remote("origin", f"memory:locking-{next(NUMBERS)}", probe=False)
        yield store


def objects_of(store: casckpt.Store) -> Objects:
    return store._connected("origin").objects


def take_over(store: casckpt.Store, name: str = "gpt") -> RemoteLock:
    """Take a lock from a holder who stands still, by a clock that only sleeping moves."""
    clock = Clock()
    view = RemoteView(objects_of(store))
    return lock_remote(view, name, ttl_s=60, wait_s=10_000, clock=clock, sleep=clock.sleep)


def through(monkeypatch: pytest.MonkeyPatch, store: casckpt.Store, wrap: Callable[[Objects], Objects]) -> None:
    """Let a store reach its remote through something else."""
    at = store._connected("origin")
    changed = Connection(at.remote, wrap(at.objects), at.traffic)
    monkeypatch.setattr(store, "_connected", lambda *_, **__: changed)


def is_unchanged(store: casckpt.Store, before: list[casckpt.Operation]) -> bool:
    return list(store.operations(100)) == before


def test_a_lock_lets_one_store_work_at_a_time(pair: tuple[casckpt.Store, casckpt.Store]) -> None:
    one, two = pair
    with one.lock_remote("origin", "gpt") as held:
        one.commit({"x": 1}, run="gpt", lock=held)
        one.push("origin", "gpt", lock=held)
        with pytest.raises(LockHeld, match="gpt") as caught:
            two.lock_remote(None, "gpt")
        [listed] = two.remote_locks()
        assert (listed.name, listed.owner, listed.is_kept) == ("gpt", caught.value.facts["holder"], False)
        two.lock_remote("origin", "other").release()
    assert one.remote_locks("origin") == ()
    with two.lock_remote("origin", "gpt") as theirs:
        two.commit({"x": 2}, run="gpt", lock=theirs)


def test_a_paused_holder_can_neither_commit_nor_push(pair: tuple[casckpt.Store, casckpt.Store], tmp_path: Path) -> None:
    one, two = pair
    (tmp_path / "file").write_text("x")
    held = one.lock_remote("origin", "gpt")
    one.commit({"x": 0}, run="gpt", lock=held)
    theirs = take_over(two)
    before, root = list(one.operations(100)), newest(objects_of(one)).seq
    for work in (
        lambda: one.commit({"x": bytes(1 << 20)}, run="gpt", lock=held),
        lambda: one.commit({"x": 2}, run="gpt", lock=held, wait=False).result(),
        lambda: one.commit_path(tmp_path / "file", run="gpt", lock=held),
        lambda: one.push("origin", "gpt", lock=held),
        held.renew,
    ):
        with pytest.raises(LockLost, match="held by"):
            work()
    assert is_unchanged(one, before)
    assert newest(objects_of(one)).seq == root
    held.release()
    theirs.renew()


def test_a_broken_lock_is_missed_before_its_time_is_over(one: casckpt.Store) -> None:
    held = one.lock_remote("origin", "gpt")
    break_lock(RemoteView(objects_of(one)), "gpt")
    with pytest.raises(LockLost, match="taken away"):
        one.commit({"x": 1}, run="gpt", lock=held)
    assert list(one.runs()) == []


def test_a_commit_looks_once_and_renews_only_when_half_of_the_time_is_over(one: casckpt.Store) -> None:
    clock, counting = Clock(), Counting(objects_of(one))
    held = lock_remote(RemoteView(counting), "gpt", ttl_s=60, clock=clock)
    for passed, requests in ((29, ["list root/"]), (2, ["list root/", "list root/", "create", "list root/"])):
        clock.now += passed
        counting.requests.clear()
        one.commit({"x": passed}, run="gpt", lock=held)
        assert sorted(word.partition(" root/0")[0] for word in counting.requests) == sorted(requests)


def test_a_commit_that_takes_longer_than_the_lock_lives_renews_it_on_its_way(one: casckpt.Store) -> None:
    clock = Clock()
    held = lock_remote(RemoteView(objects_of(one)), "gpt", ttl_s=60, clock=clock)
    tokens = []

    def progress(done: int, total: int) -> None:
        clock.now += 31
        tokens.append(newest(objects_of(one)).locks["gpt"].token)

    one.commit({str(leaf): bytes([leaf]) * (1 << 21) for leaf in range(4)}, run="gpt", lock=held, progress=progress)
    assert len({*tokens}) == len(tokens) >= 2


def test_a_holder_who_stood_still_behind_the_last_look_makes_no_commit(
    one: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    held = lock_remote(RemoteView(objects_of(one)), "gpt", ttl_s=60, clock=clock)
    look = held.hold

    def and_stand_still() -> None:
        look()
        clock.now += 60

    monkeypatch.setattr(held, "hold", and_stand_still)
    with pytest.raises(LockLost, match="run out"):
        one.commit({"x": 1}, run="gpt", lock=held)
    assert list(one.runs()) == []
    monkeypatch.undo()
    one.commit({"x": 1}, run="gpt", lock=held)


def test_without_an_answer_nothing_is_committed_and_later_it_is(
    one: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(Wrapping):
        is_gone = False

        def before(self, request: str) -> None:
            if self.is_gone:
                raise RemoteUnavailable(remote=self.url, operation=request, problem="no answer")

    gone = Gone(objects_of(one))
    through(monkeypatch, one, lambda _: gone)
    with one.lock_remote("origin", "gpt") as held:
        before = list(one.operations(100))
        gone.is_gone = True
        with pytest.raises(RemoteUnavailable):
            one.commit({"x": 1}, run="gpt", lock=held)
        assert is_unchanged(one, before)
        gone.is_gone = False
        one.commit({"x": 1}, run="gpt", lock=held)
        gone.is_gone = True
    gone.is_gone = False
    assert [lock.name for lock in one.remote_locks("origin")] == ["gpt"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_renewal_that_nobody_answered_loses_nothing(
    one: casckpt.Store, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    class Deaf(Wrapping):
        is_deaf = is_late = False

        def before(self, request: str) -> None:
            if self.is_deaf and self.is_late:
                raise RemoteUnavailable(remote=self.url, operation=request, problem="no answer")

        def after(self, request: str) -> None:
            if self.is_deaf and request.startswith("create"):
                self.is_late = True
                raise RemoteUnavailable(remote=self.url, operation=request, problem="no answer")

    deaf = Deaf(objects_of(one))
    through(monkeypatch, one, lambda _: deaf)
    monkeypatch.setattr(roots, "TRIES", 1)
    held = one.lock_remote("origin", "gpt", keep=keep)
    first = newest(deaf.inner).locks["gpt"].token
    deaf.is_deaf = True
    with pytest.raises((OutcomeUnknown, RemoteUnavailable)):
        held.renew()
    deaf.is_deaf = False
    assert newest(deaf.inner).locks["gpt"].token != first
    one.commit({"x": 1}, run="gpt", lock=held)
    one.push("origin", "gpt", lock=held)


def test_an_interrupt_while_it_is_taken_leaves_no_lock(one: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Wrapping):
        asked = 0

        def after(self, request: str) -> None:
            self.asked += request.startswith("create root/")
            if self.asked == 1:
                self.asked += 1
                raise KeyboardInterrupt

    through(monkeypatch, one, Interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.lock_remote("origin", "gpt", keep=True)
    assert newest(objects_of(one)).locks == {}
    assert not one.lock_remote("origin", "gpt").is_kept


def test_a_lock_that_could_not_be_taken_is_not_noted_as_one_that_was_lost(
    pair: tuple[casckpt.Store, casckpt.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair

    class First(Wrapping):
        """Lets somebody else be first, and then allows nothing."""

        is_first = True

        def before(self, request: str) -> None:
            if request.startswith("create root/"):
                if not self.is_first:
                    raise RemoteDenied(remote=self.url, operation=request, problem="not yours")
                self.is_first = False
                two.lock_remote("origin", "gpt")

    with monkeypatch.context() as patch:
        through(patch, one, First)
        with pytest.raises(LockHeld):
            one.lock_remote("origin", "gpt", keep=True)
        with pytest.raises(LockHeld):
            one.lock_remote("origin", "gpt")
        two.unlock_remote("origin", "gpt", force=True)
        with pytest.raises(RemoteDenied):
            one.lock_remote("origin", "gpt", keep=True)
    assert not one.lock_remote("origin", "gpt").is_kept


def test_the_time_of_a_lock_is_counted_from_before_others_can_see_it(one: casckpt.Store) -> None:
    clock = Clock()

    class Slow(Wrapping):
        def after(self, request: str) -> None:
            clock.now += 61 if request.startswith("create root/") else 0

    held = lock_remote(RemoteView(Slow(objects_of(one))), "gpt", ttl_s=60, clock=clock)
    for _ in range(2):
        with pytest.raises(LockLost, match="run out"):
            held.check_time()
        held.renew()


def test_a_push_that_takes_longer_than_the_lock_lives_renews_it_on_its_way(
    pair: tuple[casckpt.Store, casckpt.Store],
) -> None:
    one, _ = pair
    clock = Clock()
    one.commit({"x": bytes(range(256)) * (1 << 12)}, run="gpt")
    held = lock_remote(RemoteView(objects_of(one)), "gpt", ttl_s=60, clock=clock)
    first = newest(objects_of(one)).locks["gpt"].token

    def progress(done: int, total: int) -> None:
        clock.now += 31

    assert one.push("origin", "gpt", lock=held, progress=progress).moves
    assert newest(objects_of(one)).locks["gpt"].token != first
    assert newest(objects_of(one)).refs


def test_an_end_by_an_error_lets_go_of_it(one: casckpt.Store) -> None:
    with pytest.raises(KeyboardInterrupt), one.lock_remote("origin", "gpt"):
        raise KeyboardInterrupt
    assert one.remote_locks("origin") == ()


def test_what_the_store_keeps_is_used_and_renewed_by_other_processes_of_it(
    pair: tuple[casckpt.Store, casckpt.Store],
) -> None:
    one, two = pair
    with one.lock_remote("origin", "gpt", ttl_s=60, keep=True):
        pass
    with casckpt.open(str(one.path)) as again:
        with again.lock_remote("origin", "gpt") as held:
            assert (held.is_kept, held.ttl_s) == (True, 60)
            again.commit({"x": 1}, run="gpt", lock=held)
        [listed] = again.remote_locks("origin")
        assert listed.is_kept
        # One that renews it takes it from nobody else of the same store.
        one.lock_remote("origin", "gpt").renew()
        again.push("origin", "gpt", lock=held)
    with pytest.raises(LockHeld):
        two.unlock_remote("origin", "gpt")
    released = one.unlock_remote("origin", "gpt")
    assert released is not None
    assert released.is_kept
    assert one.unlock_remote("origin", "gpt") is None
    with pytest.raises(LockLost):
        one.commit({"x": 2}, run="gpt", lock=held)


def test_who_lost_a_kept_lock_is_told_until_he_takes_it_again(pair: tuple[casckpt.Store, casckpt.Store]) -> None:
    one, two = pair
    one.lock_remote("origin", "gpt", keep=True)
    with pytest.raises(LockHeld):
        two.unlock_remote("origin", "gpt", dry_run=True)
    assert two.unlock_remote("origin", "gpt", force=True) is not None
    for _ in range(2):
        with pytest.raises(LockLost):
            one.lock_remote("origin", "gpt")
    theirs = two.lock_remote("origin", "gpt")
    with pytest.raises(LockHeld):
        one.lock_remote("origin", "gpt", keep=True)
    theirs.release()
    one.lock_remote("origin", "gpt", ttl_s=5, keep=True)
    assert one.lock_remote("origin", "gpt").ttl_s == 5
    two.unlock_remote("origin", "gpt", force=True)
    assert one.unlock_remote("origin", "gpt") is None
    assert not one.lock_remote("origin", "gpt").is_kept


def test_the_file_of_tokens_is_for_the_owner_alone(one: casckpt.Store) -> None:
    one.lock_remote("origin", "gpt", keep=True)
    assert one.path is not None
    path = one.path / "remotes" / "origin" / "locks"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = newest(objects_of(one)).locks["gpt"].token
    assert token.hex() in path.read_text()
    for found in (path for path in one.path.parent.rglob("*") if path.is_file()):
        assert found == path or token.hex().encode() not in found.read_bytes()


HOSTILE = [
    b"",
    b"[" * 100_000,
    b"[]",
    b"7",
    b"\xff",
    b'{"gpt": 7}',
    b'{"gpt": {"ttl_s": 60, "tokens": []}}',
    b'{"gpt": {"ttl_s": 60, "tokens": [7]}}',
    b'{"gpt": {"ttl_s": 60, "tokens": [""]}}',
    b'{"gpt": {"ttl_s": 60, "tokens": ["zz"]}}',
    b'{"gpt": {"ttl_s": 60, "tokens": ["' + b"00" * 65 + b'"]}}',
    b'{"gpt": {"ttl_s": 60, "tokens": [' + b",".join([b'"00"'] * 17) + b"]}}",
    b'{"gpt": {"ttl_s": true, "tokens": ["00"]}}',
    b'{"gpt": {"ttl_s": 1e9, "tokens": ["00"]}}',
    b'{"gpt": {"ttl_s": -1, "tokens": ["00"]}}',
    b'{"gpt": {"ttl_s": ' + b"9" * 5000 + b', "tokens": ["00"]}}',
    b'{"gpt": {"ttl_s": 60}}',
    b" " * (1 << 20) + b"{}",
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_file_of_tokens_that_is_none_holds_nothing(one: casckpt.Store, data: bytes) -> None:
    held = one.lock_remote("origin", "gpt", keep=True)
    assert one.path is not None
    path = one.path / "remotes" / "origin" / "locks"
    path.write_bytes(data)
    with pytest.raises(LockHeld):
        one.lock_remote("origin", "gpt")
    with pytest.raises(LockLost):
        one.commit({"x": 1}, run="gpt", lock=held)
    assert one.unlock_remote("origin", "gpt", force=True) is not None
    one.lock_remote("origin", "gpt", keep=True)


def test_a_lock_that_only_others_tokens_open_is_not_taken_for_ours(one: casckpt.Store) -> None:
    one.lock_remote("origin", "gpt")
    LockNotes(RemoteView(objects_of(one)).folder).add("gpt", 60, b"x" * 16)
    [listed] = one.remote_locks("origin")
    assert not listed.is_kept


def test_a_dry_run_takes_nothing_and_needs_nothing(one: casckpt.Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    clock = Clock()
    held = lock_remote(RemoteView(objects_of(one)), "gpt", ttl_s=60, clock=clock)
    clock.now += 61
    root = newest(objects_of(one)).seq
    one.commit_path(tmp_path / "file", run="gpt", lock=held, dry_run=True)
    one.commit({"x": 1}, run="gpt")
    assert one.push("origin", "gpt", lock=held, dry_run=True).moves
    assert one.unlock_remote("origin", "gpt", force=True, dry_run=True) is not None
    assert newest(objects_of(one)).seq == root


def test_what_cannot_be_a_lock_is_refused(one: casckpt.Store, tmp_path: Path) -> None:
    for name in ("", "a b", "../x", "x" * 300):
        with pytest.raises(InvalidName):
            one.lock_remote("origin", name)
    for ttl_s in (0, -1, True, 1.5, 1 << 40):
        with pytest.raises(UsageError, match="30 days"):
            one.lock_remote("origin", "gpt", ttl_s=ttl_s)  # type: ignore[arg-type]
    (tmp_path / "other").mkdir()
    one.add_remote("other", str(tmp_path / "other"), probe=False)
    one.commit({"x": 1}, run="gpt")
    with one.lock_remote("origin", "gpt") as held, pytest.raises(UsageError, match="not of"):
        one.push("other", "gpt", lock=held)
    with casckpt.open(str(one.path), read_only=True) as reader:
        with pytest.raises(ReadOnlyStore):
            reader.lock_remote("origin", "gpt", keep=True)
        reader.lock_remote("origin", "gpt").release()


def test_the_clock_of_locks_goes_on_while_the_machine_sleeps() -> None:
    assert abs(locks.seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
