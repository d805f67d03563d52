"""Sweeps: a workload in which each durable call in turn fails or is the last. Broken promises come back as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from casckpt.errors import StorageError, StoreFull
from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage, Killed, Plan, at, never
from tests.crash.powerfail import CrashState, crash_states
from tests.crash.promises import (
    Moment,
    Workload,
    check_commits,
    check_promises,
    check_store,
    look,
    make,
    settled_world,
)
from tests.crash.recorder import RecordingStorage, Snapshot

KILLS: tuple[Action, ...] = ("kill", "kill-mid-write")
OWN_CALL: dict[Action, str] = {"kill-mid-write": "write_at", "short": "write_at", "eio-lost": "sync"}
"""The one kind of call at which an action is not what another one is: half of anything but a write is all of it or
nothing, as with `kill` or without a fault, and only a flush has pages to lose, else it fails as with `eio`."""
SPARE_STEP = 91
NEXT = "next"
POSITIONS = 12
"""Of a large write, the prefixes and single losses that are tried after a fault; without one there are more."""


def cases(names: Iterable[str], actions: Iterable[str]) -> list[Any]:
    """Workloads and actions as parameters of a test."""
    return [pytest.param(name, action) for name in names for action in actions]


def differs(action: Action, call: str) -> bool:
    """Whether an action at a call is not what another action is there."""
    kind = call.split(maxsplit=1)[0]
    return OWN_CALL.get(action, kind) == kind


@dataclass(slots=True)
class Run:
    """A workload that ran until something failed.

    Attributes:
        done: number of the last moment that was reached, None if init was not.
        repository: the open store, if it came to that.
        error: what the caller got, None if he noticed nothing.
    """

    done: int | None
    repository: Repository | None = None
    error: BaseException | None = None


def run_to_fault(workload: Workload, storage: FaultyStorage, mark: Callable[[int], object], *, new: bool) -> Run:
    """Run a workload on a storage with its base in it, up to the first error; `mark` gets every moment reached."""
    run = Run(None if new else 0)
    try:
        if new:
            make(storage)
            run.done = 0
            mark(0)
        run.repository = Repository(storage)
        for number, operation in enumerate(workload.then, 1):
            operation.do(Store(run.repository))
            run.done = number
            mark(number)
    except (Exception, Killed) as error:
        run.error = error
    return run


def calls_of(workload: Workload, base: Snapshot) -> list[str]:
    """The durable calls of a workload that meets no fault."""
    storage = FaultyStorage(MemoryStorage(base))
    run = run_to_fault(workload, storage, lambda number: None, new=not base)
    assert run.error is None
    return storage.calls


def fault_sweep(
    workload: Workload,
    action: Action,
    plan: Callable[[int, Action], Plan] = at,
    *,
    only: Callable[[str], bool] = lambda call: True,
    then_power: bool = False,
    enough: int | None = None,
) -> tuple[int, list[str]]:
    """Let each durable call of a workload fail, where that is not the same as another action.

    Args:
        plan: `at` for a fault that happens once, `since` for one that stays until the caller got his error.
        only: which calls.
        then_power: cut the power too, at any moment from the fault to the acknowledgement of the next commit.
        enough: violations after which nothing more is tried.

    Returns:
        How many calls were tried, or with `then_power` how many states were looked at, and what was broken.
    """
    found: list[str] = []
    count = 0
    with settled_world(workload):
        moments = workload.moments()
        base = workload.base()
        for number, call in enumerate(calls_of(workload, base), 1):
            if only(call) and differs(action, call):
                fault = _Fault(workload, base, moments, action, number, call, sticky=plan is not at)
                try:
                    count += fault.with_power_loss(plan) if then_power else fault.alone(plan)
                except Exception as error:
                    found.append(f"{type(error).__name__}: {error} [{action} at call {number}, {call}]")
            if enough is not None and len(found) >= enough:
                break
    return count, found


@dataclass(frozen=True, slots=True)
class _Fault:
    """One fault in one workload."""

    workload: Workload
    base: Snapshot
    moments: list[Moment]
    action: Action
    number: int
    call: str
    sticky: bool

    def run(self, plan: Callable[[int, Action], Plan], recording: RecordingStorage) -> tuple[Run, int]:
        """Let it happen; the disk is well again afterwards. Also how many durable calls went before it."""
        faulty = plan(self.number, self.action)
        before: list[int] = []

        def noting(n: int, call: str, name: str) -> Action | None:
            action = faulty(n, call, name)
            if action is not None:
                before.append(len(recording.operations))
            return action

        storage = FaultyStorage(recording, noting)
        run = run_to_fault(self.workload, storage, recording.mark, new=not self.base)
        storage.plan = never
        check_error(run.error, self.action)
        return run, before[0]

    def go_on(self, run: Run, recording: RecordingStorage) -> Repository:
        """Check what the fault left, then make the next commit: in the same process, or after a kill in a new one."""
        done = -1 if run.done is None else run.done
        # Who was killed, or could not even take his step back, may find that it happened.
        whole = self.action in KILLS or self.sticky or run.done is None
        whole = whole or any(operation.partial for operation in self.workload.then[run.done :][:1])
        reached = self.moments[: done + 2] if whole else self.moments[: done + 1]
        if self.action not in KILLS and run.repository is not None:
            check_store(run.repository, reached, first=done)
            return run.repository
        repository = check_promises(recording, reached, acked=run.done)
        assert repository is not None
        return repository

    def alone(self, plan: Callable[[int, Action], Plan]) -> int:
        recording = RecordingStorage(MemoryStorage(self.base))
        run, _ = self.run(plan, recording)
        made_unasked = self.action == "eio-after" and self.call.startswith("create ")
        if self.action not in KILLS and not self.sticky and not made_unasked:
            left = [name for name in recording.list("tmp") if f"tmp/{name}" not in self.base]
            # What a collection put aside is garbage; whoever writes next removes it.
            unfinished = [name for name in left if not name.startswith("gone-")]
            assert unfinished == [], "an unfinished file is left"
        self.go_on(run, recording)
        Store(Repository(recording)).commit({"step": SPARE_STEP}, step=SPARE_STEP)
        assert recording.list("tmp") == [], "a new session left an unfinished file"
        return 1

    def with_power_loss(self, plan: Callable[[int, Action], Plan]) -> int:
        recording = RecordingStorage(MemoryStorage(self.base))
        run, start = self.run(plan, recording)
        after = look(self.go_on(run, recording))
        recording.mark(NEXT)
        count = 0
        for state in crash_states(
            recording.base, recording.operations, start=start, random_subsets=1, positions=POSITIONS
        ):
            count += 1
            try:
                self.check_power_loss(state, run, after)
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error}; then {state.description}") from error
        return count

    def check_power_loss(self, state: CrashState, run: Run, after: Moment) -> None:
        acked = state.acked[-1] if state.acked else (0 if self.base else None)
        if acked == NEXT:
            allowed = [after]
        elif isinstance(acked, int):
            allowed = [*self.moments[acked : (run.done or 0) + 2], after]
        elif "format" not in state.files:
            return
        else:
            allowed = [*self.moments[:2], after]
        repository = Repository(MemoryStorage(state.files))
        now = look(repository)
        assert now in allowed, f"the store is at {now}, which is none of {allowed}"
        check_commits(repository, now)


def check_error(error: BaseException | None, action: Action) -> None:
    """What the caller got is typed, and names the call that failed and its file."""
    if action in KILLS:
        assert isinstance(error, Killed), f"the dead went on: {error!r}"
        return
    if error is None:
        return
    assert isinstance(error, StorageError), f"{type(error).__name__} is no StorageError: {error}"
    assert isinstance(error, StoreFull) == (action == "enospc"), f"{type(error).__name__} for {action}"
    for fact in ("operation", "path"):
        assert fact in error.facts and str(error.facts[fact]) in str(error), f"the message lacks the {fact}: {error}"
