"""Whether other threads get turns while something works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any


def turns_of_another_thread(work: Callable[[], Any]) -> bool:
    """Whether another thread gets turns in calls, though the interpreter itself would not hand over for an hour."""
    interval = sys.getswitchinterval()
    turns, end, started = [0], threading.Event(), threading.Event()

    def count() -> None:
        started.set()
        while not end.is_set():
            turns[0] += 1
            end.wait(0.00001)

    other = threading.Thread(target=count)
    other.start()
    started.wait()
    try:
        sys.setswitchinterval(3600)
        before = turns[0]
        for _ in range(1000):  # a busy machine may be late to wake the other thread
            work()
            if turns[0] > before:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        end.set()
        other.join()
