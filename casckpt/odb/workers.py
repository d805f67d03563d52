"""Threads of one operation: tasks go in, results come out in the same order.

Plain threads instead of an executor of the standard library, which takes no more work once the interpreter begins to
exit; and the last commit of a training is often made just then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Workers(Generic[T]):
    """Up to `count` threads, started as tasks come. One thread submits; a context manager that leaves none behind."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []
        self._ended: list[threading.Event] = []
        self._tasks: SimpleQueue[tuple[Future[T], Callable[[], T]] | None] = SimpleQueue()
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the tasks not begun and wait for the others: they work on the caller's memory."""
        self._stopped = True
        try:
            self._join()
        except BaseException:  # an interrupt must not leave them at work; a second one may
            self._join()
            raise

    def _join(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread, ended in zip(self._threads, self._ended, strict=False):
            # A join that an interrupt broke off may take a thread that still runs for ended; this event does not.
            ended.wait()
            thread.join()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Let a worker do `work`; what it raises is raised by `result()`."""
        future: Future[T] = Future()
        if len(self._threads) < self._count:
            self._start()
        if self._threads:
            self._tasks.put((future, work))
        else:
            self._do(future, work)
        return future

    def _start(self) -> None:
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(ended,), name=self._name, daemon=True)
        try:
            thread.start()
            self._ended.append(ended)
            self._threads.append(thread)
        except RuntimeError:  # no more threads to be had: those there are do it, or the caller
            self._count = len(self._threads)
        except BaseException:  # an interrupt may come when the thread runs already: nobody will wait for it
            self._stopped = True
            self._tasks.put(None)
            raise

    def _run(self, ended: threading.Event) -> None:
        try:
            while (task := self._tasks.get()) is not None:
                if not self._stopped:
                    self._do(*task)
                del task  # with it its result, which is for who asked
        finally:
            ended.set()

    def _do(self, future: Future[T], work: Callable[[], T]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whatever it is, it is for the one who waits
            future.set_exception(error)
