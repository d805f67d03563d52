"""A forget that is cut short anywhere: the next call ends it, and then no byte of the secret is left."""

from __future__ import annotations

import pytest

from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.promises import check_commits, look, settled_world
from tests.crash.sweeps import record, states_of
from tests.crash.workloads import SECRET, WORKLOADS

pytestmark = pytest.mark.slow


def test_after_a_power_loss_the_next_call_removes_what_is_left() -> None:
    workload = WORKLOADS["forget"]
    outcomes: set[tuple[bool, bool]] = set()
    with settled_world(workload):
        recorded = record(workload)
        for state in states_of(recorded):
            storage = MemoryStorage(state.files)
            repository = Repository(storage)
            now = look(repository)
            if now == recorded.moments[0]:
                continue
            held = any(SECRET.encode() in (data or b"") for data in storage.snapshot().values())
            left = any(one.left for one in repository.database.forgotten().values())
            assert left or not held, state.description
            outcomes.add((left, held))
            store = Store(repository)
            store.forget()
            snapshot = storage.snapshot()
            assert not any(SECRET.encode() in (data or b"") for data in snapshot.values()), state.description
            assert look(Repository(MemoryStorage(snapshot))) == now
            check_commits(repository, now)
            assert store.fsck("quick").ok, state.description
    assert outcomes == {(False, False), (True, False), (True, True)}
