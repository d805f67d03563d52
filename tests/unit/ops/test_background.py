from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.errors import NotDurableYet, StoreFull, UnsupportedType, UsageError
from casckpt.odb.repository import Repository, initialize
from casckpt.ops.background import Background
from casckpt.ops.values import CommitInfo
from casckpt.state.flat import Blob, FlatComponent, FlatState
from casckpt.state.flatten import flatten
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import Action, FaultyStorage

WAIT_S = 60


class Disk:
    """A storage that can be held at its next flush, and be full."""

    def __init__(self) -> None:
        self.storage = FaultyStorage(MemoryStorage())
        initialize(self.storage, time_ns=1, by="test")
        self.storage.plan = self._plan
        self.is_full = False
        self._held = threading.Event()
        self._go_on = threading.Event()
        self._go_on.set()

    def _plan(self, n: int, call: str, name: str) -> Action | None:
        if call == "sync":
            self._held.set()
            assert self._go_on.wait(WAIT_S)
        return "enospc" if self.is_full and call in {"sync", "write_at"} else None

    def hold(self) -> None:
        self._held.clear()
        self._go_on.clear()

    def wait_until_held(self) -> None:
        assert self._held.wait(WAIT_S)

    def release(self) -> None:
        self._go_on.set()


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.release()


@pytest.fixture
def store(disk: Disk) -> Iterator[casckpt.Store]:
    made = casckpt.Store(Repository(disk.storage))
    yield made
    disk.is_full = False
    disk.release()
    made.close()


def steps(store: casckpt.Store) -> list[int | None]:
    return [info.step for info in store.log()][::-1]


def hold_one(store: casckpt.Store, disk: Disk, step: int = 1) -> casckpt.PendingCommit:
    """A commit in the background that does not get past its first flush."""
    disk.hold()
    pending = store.commit({"step": step}, step=step, wait=False)
    disk.wait_until_held()
    return pending


def test_the_result_is_the_commit(store: casckpt.Store) -> None:
    pending = store.commit({"a": torch.arange(10)}, step=3, message="m", wait=False)
    info = pending.result()
    assert info == store.show() and info is not None
    assert (info.step, info.message) == (3, "m")
    assert pending.done() and not pending.skipped and pending.exception() is None
    assert pending.blocked_s >= 0


def test_commits_are_made_in_the_order_in_which_they_were_handed_over(store: casckpt.Store) -> None:
    pending = [store.commit({"n": number}, step=number, wait=False) for number in range(10)]
    store.wait()
    assert all(one.done() for one in pending)
    assert steps(store) == list(range(10))
    assert len({info.id for info in store.log("main")}) == 10


def test_what_is_stored_is_the_state_at_the_call(store: casckpt.Store, disk: Disk) -> None:
    metrics = {"loss": torch.tensor(0.5)}
    config: dict[str, Any] = {"layers": [1, 2]}
    state: dict[str, Any] = {"w": torch.zeros(100_000), "b": bytearray(b"a" * 5000), "n": [1.0] * 100, "s": {"x": 1}}
    with disk.storage.lock("gate", exclusive=True, wait_s=WAIT_S):  # nobody reads a state before he has it
        pending = store.commit(state, metrics=metrics, config=config, wait=False)
        state["w"] += 1
        state["b"][:] = b""
        state["n"].append(2.0)
        state["s"]["x"] = 2
        metrics["loss"] += 1
        config["layers"].append(3)
    info = pending.result()
    assert info is not None and info.metrics == {"loss": 0.5}
    assert store.metadata() == {"config": {"layers": [1, 2]}}
    found = store.checkout()
    assert torch.equal(found.pop("w"), torch.zeros(100_000))
    assert found == {"b": bytearray(b"a" * 5000), "n": [1.0] * 100, "s": {"x": 1}}


def test_a_commit_waits_until_the_one_before_is_durable(store: casckpt.Store, disk: Disk) -> None:
    first = hold_one(store, disk)
    durable: list[bool] = []

    def commit() -> None:
        store.commit({"step": 2}, step=2, wait=False)
        durable.append(first.done())

    thread = threading.Thread(target=commit)
    thread.start()
    disk.release()
    thread.join(WAIT_S)
    assert durable == [True]
    store.wait()
    assert steps(store) == [1, 2]


def test_skip_leaves_a_commit_out_while_another_is_on_its_way(store: casckpt.Store, disk: Disk) -> None:
    first = hold_one(store, disk)
    second = store.commit({"step": 2}, step=2, wait=False, when_busy="skip")
    assert second.skipped and second.done()
    assert second.result() is None and second.exception() is None
    assert not first.done()
    disk.release()
    store.wait()
    third = store.commit({"step": 3}, step=3, wait=False, when_busy="skip")
    assert third.result() is not None and not third.skipped
    assert steps(store) == [1, 3]


def test_after_the_result_of_the_last_commit_the_store_is_not_busy(store: casckpt.Store) -> None:
    for step in range(20):
        pending = store.commit({"step": step}, step=step, wait=False, when_busy="skip")
        assert pending.result() is not None


def test_coalesce_keeps_the_newest_and_never_waits_for_the_disk(store: casckpt.Store, disk: Disk) -> None:
    first = hold_one(store, disk)
    pending = [
        store.commit({"w": np.full(50_000, step)}, step=step, wait=False, when_busy="coalesce") for step in range(2, 6)
    ]
    assert [one.skipped for one in pending] == [True, True, True, False]
    assert [one.result() for one in pending[:3]] == [None] * 3
    assert not first.done() and not pending[-1].done()
    with pytest.raises(NotDurableYet):
        pending[-1].result(timeout_s=0)
    disk.release()
    store.wait()
    assert steps(store) == [1, 5]
    assert np.array_equal(store.checkout()["w"], np.full(50_000, 5))


def test_a_state_that_cannot_be_stored_replaces_nothing(store: casckpt.Store, disk: Disk) -> None:
    hold_one(store, disk)
    store.commit({"step": 2}, step=2, wait=False, when_busy="coalesce")
    with pytest.raises(UnsupportedType):
        store.commit({"step": object()}, step=3, wait=False, when_busy="coalesce")
    disk.release()
    store.wait()
    assert steps(store) == [1, 2]


def test_whoever_waits_for_a_commit_that_is_replaced_goes_on(store: casckpt.Store, disk: Disk) -> None:
    hold_one(store, disk)
    second = store.commit({"step": 2}, wait=False, when_busy="coalesce")
    found: list[CommitInfo | None] = []
    thread = threading.Thread(target=lambda: found.append(second.result()))
    thread.start()
    store.commit({"step": 3}, wait=False, when_busy="coalesce")
    thread.join(WAIT_S)
    assert found == [None]


def test_a_commit_in_the_foreground_takes_its_turn(store: casckpt.Store, disk: Disk) -> None:
    hold_one(store, disk)
    store.commit({"step": 2}, step=2, wait=False, when_busy="coalesce")
    made: list[CommitInfo] = []
    thread = threading.Thread(target=lambda: made.append(store.commit({"step": 3}, step=3)))
    thread.start()
    disk.release()
    thread.join(WAIT_S)
    assert steps(store) == [1, 2, 3]
    assert made == [store.show()]


def test_a_tag_names_what_was_handed_over_before(store: casckpt.Store) -> None:
    pending = store.commit({"step": 1}, step=1, wait=False)
    assert store.tag("v1").step == 1
    assert pending.done()
    assert store.fsck("full", repair=True).ok


def test_a_failure_is_raised_by_the_next_commit_once(store: casckpt.Store, disk: Disk) -> None:
    disk.is_full = True
    failed = store.commit({"step": 1}, step=1, wait=False)
    wait_until_done(failed)
    disk.is_full = False
    with pytest.raises(StoreFull):
        store.commit({"step": 2}, step=2, wait=False)
    assert steps(store) == []
    store.commit({"step": 3}, step=3, wait=False)
    store.wait()
    assert steps(store) == [3]
    assert isinstance(failed.exception(), StoreFull)


def wait_until_done(pending: casckpt.PendingCommit) -> None:
    """Wait without looking at the error."""
    pending._outcome.wait(WAIT_S)


@pytest.mark.parametrize("see", ["result", "exception"])
def test_a_failure_that_was_seen_is_not_raised_again(store: casckpt.Store, disk: Disk, see: str) -> None:
    disk.is_full = True
    failed = store.commit({"step": 1}, wait=False)
    if see == "result":
        with pytest.raises(StoreFull):
            failed.result()
    assert isinstance(failed.exception(), StoreFull)
    disk.is_full = False
    assert store.commit({"step": 2}, step=2).step == 2
    store.wait()


@pytest.mark.parametrize("call", ["commit", "tag", "wait", "repair", "files"])
def test_a_failure_is_raised_by_every_call_that_writes(store: casckpt.Store, disk: Disk, call: str) -> None:
    store.commit({"step": 1}, step=1)
    disk.is_full = True
    wait_until_done(store.commit({"step": 2}, wait=False))
    disk.is_full = False
    calls: dict[str, Any] = {
        "commit": lambda: store.commit({"step": 3}),
        "tag": lambda: store.tag("v1"),
        "wait": store.wait,
        "repair": lambda: store.fsck(repair=True),
        "files": lambda: store.commit_path(__file__),
    }
    with pytest.raises(StoreFull):
        calls[call]()
    assert steps(store) == [1]
    assert store.status().tags == {}
    calls[call]()


def test_each_failure_is_raised_by_a_call_of_its_own(store: casckpt.Store, disk: Disk) -> None:
    disk.is_full = True
    hold_one(store, disk)
    store.commit({"step": 2}, wait=False, when_busy="coalesce")
    disk.release()
    for _ in range(2):
        with pytest.raises(StoreFull):
            store.wait()
    store.wait()


def test_closing_waits_raises_the_failure_and_closes(disk: Disk) -> None:
    store = casckpt.Store(Repository(disk.storage))
    disk.is_full = True
    pending = store.commit({"step": 1}, wait=False)
    with pytest.raises(StoreFull):
        store.close()
    assert pending.done()
    disk.is_full = False
    store.close()


def test_closing_makes_all_durable(disk: Disk) -> None:
    with casckpt.Store(Repository(disk.storage)) as store:
        store.commit({"step": 1}, step=1, wait=False)
    with casckpt.Store(Repository(disk.storage)) as store:
        assert steps(store) == [1]


def test_failures_that_closing_does_not_raise_are_logged(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    store = casckpt.Store(Repository(disk.storage))
    disk.is_full = True
    hold_one(store, disk)
    store.commit({"step": 2}, wait=False, when_busy="coalesce")
    disk.release()
    with pytest.raises(StoreFull):
        store.close()
    assert caplog.text.count("work in the background failed: no space left") == 1


def test_waiting_is_bounded(store: casckpt.Store, disk: Disk) -> None:
    pending = hold_one(store, disk)
    for wait in (pending.result, pending.exception, store.wait):
        with pytest.raises(NotDurableYet) as caught:
            wait(timeout_s=0.001)
        assert isinstance(caught.value, TimeoutError)
    disk.release()
    assert pending.result(WAIT_S) is not None


def test_wrong_arguments_are_refused_at_the_call(store: casckpt.Store) -> None:
    with pytest.raises(UsageError, match="when_busy"):
        store.commit({}, wait=False, when_busy="queue")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="metric"):
        store.commit({}, wait=False, metrics={"x": "1"})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="config"):
        store.commit({}, wait=False, config={"x": object()})
    assert steps(store) == []


def test_a_parent_is_looked_up_when_its_turn_comes(store: casckpt.Store) -> None:
    first = store.commit({"step": 1}, run="a", wait=False)
    second = store.commit({"step": 2}, run="b", parents=("a",), wait=False)
    found, child = first.result(), second.result()
    assert found is not None and child is not None
    assert child.parents == (found.id,)
    store.commit({"step": 3}, run="b", parents=("nowhere",), wait=False)
    with pytest.raises(casckpt.errors.RevisionNotFound):
        store.wait()


def test_no_thread_is_left_when_there_is_no_work(store: casckpt.Store) -> None:
    store.commit({"step": 1}, wait=False).result()
    for thread in threading.enumerate():
        if thread.name == "casckpt-commit":
            thread.join(WAIT_S)
            assert not thread.is_alive()


def test_a_state_that_was_staged_is_let_go(store: casckpt.Store, disk: Disk) -> None:
    array = np.ones(10_000)
    gone = weakref.ref(array)
    disk.hold()
    store.commit({"a": array}, wait=False)
    del array
    gc.collect()
    assert gone() is None


class Interrupting:
    """A source during whose reading something happens."""

    def __init__(self, happens: Any) -> None:
        self.happens = happens

    def read(self, start: int, stop: int) -> memoryview:
        self.happens()
        return memoryview(bytes(stop - start))


def interrupted(happens: Any) -> FlatState:
    return FlatState(FlatComponent("", ["bytes", 0], [], (Blob("a", "bytes", 5000, Interrupting(happens)),)), (), ())


def press() -> None:
    raise KeyboardInterrupt


def unreachable(flat: FlatState) -> CommitInfo:
    raise AssertionError


def test_an_interrupt_while_staging_leaves_nothing_behind(store: casckpt.Store) -> None:
    background = store._background
    with pytest.raises(KeyboardInterrupt):
        background.submit(lambda: interrupted(press), unreachable, "wait")
    background.wait()
    assert store.commit({"a": np.ones(1000)}, wait=False).result() is not None
    assert len(steps(store)) == 1


def test_commit_within_commit_is_refused_not_stuck() -> None:
    background = Background(2)

    def again() -> None:
        background.submit(lambda: flatten({}), unreachable, "wait")

    with pytest.raises(UsageError, match="again"):
        background.submit(lambda: interrupted(again), unreachable, "wait")
    background.close()


def test_a_signal_may_commit_in_the_foreground_while_its_thread_stages(store: casckpt.Store) -> None:
    made: list[CommitInfo] = []

    def arrive() -> None:
        made.append(store.commit({"step": 1}, step=1))

    def work(flat: FlatState) -> CommitInfo:
        assert bytes(flat.root.blobs[0].read(0, 5000)) == bytes(5000)
        return made[0]

    pending = store._background.submit(lambda: interrupted(arrive), work, "wait")
    assert pending.result() == made[0] == store.show()


def test_a_commit_from_a_daemon_thread_is_still_made_by_one_that_is_none(store: casckpt.Store, disk: Disk) -> None:
    thread = threading.Thread(target=hold_one, args=(store, disk), daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert [one.daemon for one in threading.enumerate() if one.name == "casckpt-commit"] == [False]


def test_where_no_thread_can_be_started_the_caller_does_all_himself(store: casckpt.Store) -> None:
    usual = threading.stack_size(1 << 46)  # no machine has the address space for one such stack
    try:
        with pytest.raises(RuntimeError):
            threading.Thread(target=print).start()
        pending = store.commit({"w": np.arange(5 << 20)}, step=1, wait=False)
    finally:
        threading.stack_size(usual)
    assert pending.done()
    assert store.commit({"step": 2}, step=2, wait=False).result() is not None
    assert steps(store) == [1, 2]
    assert np.array_equal(store.checkout("main~1")["w"], np.arange(5 << 20))


def test_threads_that_commit_at_once_all_get_their_turn(store: casckpt.Store) -> None:
    def commit(number: int) -> None:
        for step in range(5):
            store.commit({"w": np.full(3000, 10 * number + step)}, run=f"r{number}", step=step, wait=False)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    store.wait()
    for number in range(6):
        found = list(store.log(f"r{number}"))
        assert [info.step for info in found] == [4, 3, 2, 1, 0]
        for info in found:
            assert info.step is not None
            assert set(store.checkout(info.id)["w"].tolist()) == {10 * number + info.step}
