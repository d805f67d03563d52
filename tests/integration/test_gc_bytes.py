"""What a retention of a few costs and frees, when every commit is new."""

from __future__ import annotations

from typing import Any

import numpy as np

from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.promises import make, same
from tests.crash.recorder import RecordingStorage, Write
from tests.support.build import noise

COMMITS = 200
KEPT = 3
COLLECT_EVERY = 4


def state_of(step: int) -> dict[str, Any]:
    """Fully changing, but for an embedding that is frozen."""
    return {
        "model": {
            "w": np.frombuffer(noise(f"model {step}", 150_000), "<f4"),
            "embedding": np.frombuffer(noise("embedding", 30_000), "<f2"),
        },
        "optimizer": {"m": np.frombuffer(noise(f"optimizer {step}", 300_000), "<f4")},
    }


def test_keeping_three_of_two_hundred_commits_removes_files_and_rewrites_little() -> None:
    recording = RecordingStorage(MemoryStorage())
    make(recording)
    store = Store(Repository(recording))
    freed = written = 0
    for step in range(COMMITS):
        store.commit(state_of(step), step=step)
        if (step + 1) % COLLECT_EVERY:
            continue
        recording.operations.clear()
        report = store.gc({"keep_last": KEPT}, now=True)
        freed += report.nbytes
        written += sum(len(operation.data) for operation in recording.operations if isinstance(operation, Write))
    dropped = [info for info in store.log() if info.dropped is not None]
    stored = sum(info.added or 0 for info in dropped)
    left = sum(pack.nbytes for pack in store._repository.database.pack_set())
    print(f"{stored} bytes stored for {len(dropped)} dropped commits, {freed} removed, {written} written, {left} left")
    assert len(dropped) == COMMITS - KEPT
    assert freed >= 0.9 * stored
    assert written <= 0.1 * freed
    assert left <= (KEPT + 1) * 500_000
    for step in range(COMMITS - KEPT, COMMITS):
        assert same(store.checkout(f"main@step={step}"), state_of(step))
    assert store.fsck("full").ok
    assert all(recording.size(pack_name(pack.id)) == pack.nbytes for pack in store._repository.database.pack_set())
