"""Sweeps: a workload crashed in every way, each crash judged by `promises`. What is broken comes back as text."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

from casckpt.odb.repository import Repository
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.powerfail import POSITIONS, CrashState, crash_states
from tests.crash.promises import Moment, Workload, check_promises, look, make, settled_world, state_of
from tests.crash.recorder import Operation, RecordingStorage, Snapshot

RANDOM_SUBSETS = 12

Wrap = Callable[[RecordingStorage], Storage]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A workload that ran: the durable calls it made, and the moments its store went through.

    The acknowledged facts are numbers of moments. `first` is the one that held before, None if there was no store.
    """

    base: Snapshot
    operations: list[Operation]
    moments: list[Moment]
    first: int | None


def record(workload: Workload, wrap: Wrap = lambda recording: recording) -> Recorded:
    """Run a workload and write down what it does; call it inside `settled_world`.

    Args:
        wrap: puts something between the store and the recorder.
    """
    base = workload.base()
    recording = RecordingStorage(MemoryStorage(base))
    storage = wrap(recording)
    moments = workload.moments()
    if not base:
        make(storage)
        recording.mark(0)
    repository = Repository(storage)
    for number, operation in enumerate(workload.then, 1):
        operation.do(Store(repository))
        assert look(repository) == moments[number], "the workload does not even do what it says"
        recording.mark(number)
    return Recorded(recording.base, recording.operations, moments, 0 if base else None)


def states_of(recorded: Recorded, seen: set[int] | None = None, *, positions: int = POSITIONS) -> Iterator[CrashState]:
    """What a power loss may leave in either model, each state once.

    Args:
        seen: marks of states that were given before, to which these are added.
        positions: as of `crash_states`.
    """
    seen = set() if seen is None else seen
    for model in ("strict", "ordered"):
        for state in crash_states(
            recorded.base, recorded.operations, model=model, random_subsets=RANDOM_SUBSETS, positions=positions
        ):
            key = hash((state.acked, *state.files.items()))
            if key not in seen:
                seen.add(key)
                yield state


def last_acked(acked: tuple[Hashable, ...], first: int | None) -> int | None:
    """The newest of the moments that were acknowledged."""
    numbers = [number for number in acked if isinstance(number, int)]
    return numbers[-1] if numbers else first


def power_failures(
    workload: Workload,
    wrap: Wrap = lambda recording: recording,
    *,
    part: int = 0,
    parts: int = 1,
    positions: int = POSITIONS,
    enough: int | None = None,
) -> tuple[int, list[str]]:
    """Cut the power at every moment of a workload.

    Args:
        part: which of `parts` equal shares of the states to look at.
        positions: as of `crash_states`.
        enough: violations after which nothing more is looked at.

    Returns:
        How many states there were in all, and what was broken in those looked at.
    """
    found: list[str] = []
    count = 0
    with settled_world(workload):
        recorded = record(workload, wrap)
        for count, state in enumerate(states_of(recorded, positions=positions), 1):
            if count % parts == part:
                found += judge(state, recorded, workload)
            if enough is not None and len(found) >= enough:
                break
    return count, found


def twice(
    workload: Workload,
    *,
    count: int,
    seed: int = 0,
    parts: int = 1,
    positions: int = POSITIONS,
    enough: int | None = None,
) -> tuple[int, list[str]]:
    """Cut the power during a workload, and again while the next commit is made.

    Args:
        count: of first cuts, drawn by `seed`; half of them left a torn frame, as far as there are so many.
        parts: one in so many of the states that the second cuts left is looked at.
        positions: as of `crash_states`, for the first cuts.
        enough: violations after which nothing more is looked at.

    Returns:
        How many states the second cuts left in all, and what was broken in those looked at.
    """
    found: list[str] = []
    number = 0
    seen: set[int] = set()
    with settled_world(workload):
        recorded = record(workload)
        stores = [state for state in states_of(recorded, positions=positions) if state.files.get("format") is not None]
        random.Random(seed).shuffle(stores)
        stores.sort(key=lambda state: Repository(MemoryStorage(state.files)).database.tail.kind != "torn")
        for first in (*stores[: count // 2], *stores[-count // 2 :]):
            second = record_next(first, recorded)
            for state in states_of(second, seen):
                number += 1
                if number % parts:
                    continue
                again = replace(state, description=f"{state.description} [before that, {first.description}]")
                found += judge(again, second, replace(workload, healed=False))
                if enough is not None and len(found) >= enough:
                    return number, found
    return number, found


def record_next(state: CrashState, recorded: Recorded) -> Recorded:
    """Let a store found after a crash be opened and take one more commit, which rides in a frame of several pages."""
    recording = RecordingStorage(MemoryStorage(state.files))
    repository = Repository(recording)
    moments = [look(repository)]
    assert moments[0] in recorded.moments
    Store(repository).commit(state_of(150), step=150)
    moments.append(look(repository))
    recording.mark(1)
    return Recorded(recording.base, recording.operations, moments, 0)


def judge(state: CrashState, recorded: Recorded, workload: Workload) -> list[str]:
    """What is broken in one state."""
    acked = last_acked(state.acked, recorded.first)
    depth = "full" if workload.healed and acked == len(recorded.moments) - 1 else "quick"
    try:
        check_promises(MemoryStorage(state.files), recorded.moments, acked=acked, depth=depth)
    except Exception as error:
        return [f"{type(error).__name__}: {error} [{state.description}]"]
    return []
