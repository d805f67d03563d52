"""Collections that are killed: in the middle of a real process, and between a frame and its flush."""

from __future__ import annotations

import pytest

from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.faults import FaultyStorage, Killed
from tests.crash.powerfail import crash_states
from tests.crash.promises import AGAIN, Workload, commit, drop, settled_world, state_of
from tests.crash.recorder import RecordingStorage


@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_a_collector_relies_on_no_frame_that_its_killed_predecessor_did_not_flush(model: str) -> None:
    """Else the files of packs go for good, and the power takes the frame that said so."""
    workload = Workload((), (commit(200), commit(201), commit(2), drop(201)))
    with settled_world(workload):
        recording = RecordingStorage(MemoryStorage(workload.base()))
        flushes = 0

        def before_the_frame_is_flushed(n: int, call: str, name: str) -> str | None:
            nonlocal flushes
            flushes += (call, name) == ("sync", "journal/0.log")
            return "kill" if flushes == 2 else None

        with pytest.raises(Killed):
            Store(Repository(FaultyStorage(recording, before_the_frame_is_flushed))).gc(now=True)  # type: ignore[arg-type]
        start = len(recording.operations)
        report = Store(Repository(recording)).gc(now=True)
        assert report.orphans == 3, "the first one was killed before its frame"
        count = 0
        for count, state in enumerate(crash_states(recording.base, recording.operations, model=model, start=start), 1):  # type: ignore[arg-type]
            store = Store(Repository(MemoryStorage(state.files)))
            store.commit(state_of(201), step=AGAIN + 201)
            assert store.fsck().ok, state.description
        assert count >= 5
