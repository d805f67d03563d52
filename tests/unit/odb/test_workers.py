from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from casckpt.odb.workers import Workers


class Odd(BaseException):
    """Nothing that anybody expects."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def fail(error: BaseException) -> int:
    raise error


def test_every_result_belongs_to_its_task() -> None:
    with Workers[int](3, "test-worker") as workers:
        futures = [workers.submit(partial(pow, number, 2)) for number in range(100)]
        assert [future.result() for future in futures] == [number**2 for number in range(100)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_more_threads_are_started_than_there_are_tasks_or_than_were_asked_for(count: int) -> None:
    with Workers[int](4, "test-worker") as workers:
        for number in range(count):
            workers.submit(partial(abs, number)).result()
        assert sum(thread.name == "test-worker" for thread in threading.enumerate()) == count
        for number in range(10):
            workers.submit(partial(abs, number)).result()
        assert sum(thread.name == "test-worker" for thread in threading.enumerate()) == 4


@pytest.mark.parametrize("error", [OSError("x"), Odd(), KeyboardInterrupt(), MemoryError(), SystemExit(3)])
@pytest.mark.parametrize("bad", range(6))
def test_whatever_a_task_raises_is_raised_by_its_result_and_by_no_other(error: BaseException, bad: int) -> None:
    with Workers[int](2, "test-worker") as workers:
        futures = [
            workers.submit(partial(fail, error) if number == bad else partial(abs, number)) for number in range(6)
        ]
        for number, future in enumerate(futures):
            if number == bad:
                with pytest.raises(type(error)) as raised:
                    future.result()
                assert raised.value is error
            else:
                assert future.result() == number


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_leaving_drops_what_was_not_begun_and_waits_for_what_was(error: type[BaseException]) -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work(number: int) -> int:
        begun.set()
        assert go_on.wait(60)
        done.append(number)
        return number

    def use() -> None:
        with Workers[int](1, "test-worker") as workers:
            for number in range(5):
                workers.submit(partial(work, number))
            assert begun.wait(60)
            release = threading.Timer(0.05, go_on.set)
            release.start()
            raise error

    with pytest.raises(error):
        use()
    assert done == [0]
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def test_an_interrupt_while_leaving_still_waits_for_what_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = threading.Event.wait
    go_on, begun = threading.Event(), threading.Semaphore(0)
    interrupts: list[bool] = []
    done: list[int] = []

    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        if interrupts and threading.current_thread() is threading.main_thread():
            interrupts.clear()
            go_on.set()
            raise KeyboardInterrupt
        return inner(self, timeout)

    def work(number: int) -> int:
        begun.release()
        assert go_on.wait(60)
        done.append(number)
        return number

    def use() -> None:
        with Workers[int](2, "test-worker") as workers:
            for number in range(2):
                workers.submit(partial(work, number))
            assert begun.acquire(timeout=60)
            assert begun.acquire(timeout=60)
            interrupts.append(True)

    monkeypatch.setattr(threading.Event, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        use()
    assert sorted(done) == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name == "test-worker"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupt_while_a_thread_starts_leaves_none(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    inner = threading.Thread.start
    started: list[threading.Thread] = []

    def start(self: threading.Thread) -> None:
        inner(self)
        started.append(self)
        if len(started) == number:
            raise KeyboardInterrupt

    def use() -> None:
        with Workers[int](3, "test-worker") as workers:
            for task in range(3):
                workers.submit(partial(abs, task))

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            use()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("possible", [0, 1])
def test_without_threads_those_there_are_do_it_or_the_caller(monkeypatch: pytest.MonkeyPatch, possible: int) -> None:
    inner = threading.Thread.start
    starts: list[Any] = []

    def start(self: threading.Thread) -> None:
        starts.append(self)
        if len(starts) > possible:
            raise RuntimeError("can't start new thread")
        inner(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with Workers[int](4, "test-worker") as workers:
        futures = [workers.submit(threading.get_ident) for _ in range(10)]
        at_work = {future.result() for future in futures}
    assert len(starts) == possible + 1
    assert (threading.get_ident() in at_work) == (possible == 0)
    assert len(at_work) == 1
