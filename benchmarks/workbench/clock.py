"""Seconds of a call, and rounds in which the cases take turns.

Cases alternate inside one run, after one round that is not counted, so that load from elsewhere meets all of them and
ratios compare like with like. CPU seconds are the steadier figure on a shared machine.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Seconds(NamedTuple):
    """What a call took: time that passed, and user plus system time of all threads and of children waited for."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """CPU seconds so far, children that were waited for included; in microseconds, where os.times counts ticks."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def timed(action: Callable[[], Any]) -> Seconds:
    """Seconds of one call; its result is let go of after the clock has stopped."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = action()
    seconds = Seconds(time.perf_counter() - wall, cpu_seconds() - cpu)
    del result
    return seconds


def rotated(cases: Sequence[T], number: int) -> Iterator[T]:
    """The cases from another one on in every round: what one leaves behind (caches, dirty pages) meets each in turn."""
    start = number % len(cases)
    yield from cases[start:]
    yield from cases[:start]
