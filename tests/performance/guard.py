"""The guard: how many times the CPU seconds of a yardstick something may take."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.workbench import limits
from benchmarks.workbench.clock import timed

AWAKE = 192 << 20
"""Bytes of free memory that are touched before a call, more than any takes: first touch is dear, and met by chance."""

Prepare = Callable[[], Callable[[], Any]]
"""Prepares one call, which is not measured, and gives the call, which is."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What is guarded, by which yardstick, and the most it may take: ours / yardstick in CPU seconds."""

    what: str
    ours: Prepare
    yardstick: Prepare
    most: float
    repeats: int = 5


def ratio(guard: Guard) -> float:
    """Median of ours / yardstick over alternating rounds, after one that only warms up."""
    found = []
    for _ in range(guard.repeats + 1):
        # The calls are let go of before the next is prepared: else two states would be in memory.
        found.append(_seconds(guard.ours()) / _seconds(guard.yardstick()))
    return statistics.median(found[1:])


def _seconds(action: Callable[[], Any]) -> float:
    limits.wake(AWAKE)
    return timed(action).cpu


def breach(guard: Guard, attempts: int = 2) -> str:
    """What is wrong, empty if nothing is. Load from elsewhere rarely lasts; what became slower is slow every time."""
    found = []
    for _ in range(attempts):
        found.append(ratio(guard))
        if found[-1] <= guard.most:
            return ""
    return f"{guard.what}: {min(found):.2f} times the CPU seconds of its yardstick, at most {guard.most:g} are allowed"
