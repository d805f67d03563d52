"""A forget that is cut short anywhere: the next call ends it, and then no byte of the secret is left."""

from __future__ import annotations

import pytest

from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import Action, FaultyStorage, at, never
from tests.crash.faultsweeps import KILLS, OWN_CALL, calls_of, check_error, fault_sweep, run_to_fault
from tests.crash.promises import Moment, check_commits, look, settled_world
from tests.crash.sweeps import record, states_of
from tests.crash.workloads import SECRET, WORKLOADS

pytestmark = pytest.mark.slow

WORKLOAD = WORKLOADS["forget"]


def holds_the_secret(storage: MemoryStorage) -> bool:
    return any(SECRET.encode() in (data or b"") for data in storage.snapshot().values())


def end_it(repository: Repository, storage: MemoryStorage, now: Moment) -> None:
    """Forget what was begun to be forgotten; everything else is as it was."""
    Store(repository).forget()
    assert not holds_the_secret(storage)
    assert look(Repository(MemoryStorage(storage.snapshot()))) == now
    check_commits(repository, now)
    assert Store(repository).fsck("quick").ok


def test_after_a_power_loss_the_next_call_removes_what_is_left() -> None:
    outcomes: set[tuple[bool, bool]] = set()
    with settled_world(WORKLOAD):
        recorded = record(WORKLOAD)
        for state in states_of(recorded):
            storage = MemoryStorage(state.files)
            repository = Repository(storage)
            now = look(repository)
            if now == recorded.moments[0]:
                continue
            left = any(one.left for one in repository.database.forgotten().values())
            assert left or not holds_the_secret(storage), state.description
            outcomes.add((left, holds_the_secret(storage)))
            end_it(repository, storage, now)
    assert outcomes == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize("action", ["eio", "enospc", "eio-after", "eio-lost", "short"])
def test_after_a_fault_at_any_call_the_next_one_removes_what_is_left(action: Action) -> None:
    failed = 0
    with settled_world(WORKLOAD):
        moments, base = WORKLOAD.moments(), WORKLOAD.base()
        for number, call in enumerate(calls_of(WORKLOAD, base), 1):
            inner = MemoryStorage(base)
            storage = FaultyStorage(inner, at(number, action))
            run = run_to_fault(WORKLOAD, storage, lambda number: None, new=False)
            check_error(run.error, action)
            storage.plan = never
            if run.repository is None:
                continue
            now = look(run.repository)
            assert now in moments[run.done or 0 :], call
            failed += run.done == 0
            if now != moments[0]:
                end_it(run.repository, inner, now)
    assert action == "short" or failed >= 20


@pytest.mark.parametrize("action", KILLS)
def test_a_kill_at_any_call_keeps_every_promise(action: Action) -> None:
    count, found = fault_sweep(WORKLOAD, action)
    assert found == []
    assert count >= (10 if action in OWN_CALL else 40)
