"""A thread that goes on training while its state is committed: an error or a commit that verifies, nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import torch

import casckpt
from casckpt.errors import StateChanged


def test_writing_during_commits_never_stores_what_cannot_be_verified(tmp_path: Path) -> None:
    state = {"model": {str(number): torch.rand(1 << 20) for number in range(6)}}
    stop = threading.Event()

    def train() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            for tensor in state["model"].values():
                tensor[:: 4096 + step % 7] = step

    outcomes = {"changed": 0, "committed": 0}
    with casckpt.init(tmp_path / "store", threads=2) as store:
        store.commit(state, step=0)
        trainer = threading.Thread(target=train)
        trainer.start()
        try:
            for step in range(1, 21):
                try:
                    store.commit(state, step=step)
                    outcomes["committed"] += 1
                except StateChanged:
                    outcomes["changed"] += 1
        finally:
            stop.set()
            trainer.join()
        assert sum(outcomes.values()) == 20
        assert store.fsck("full").findings == ()
        assert len(list(store.log())) == 1 + outcomes["committed"]
        for info in store.log():
            store.checkout(info.id)
        last = store.commit(state, step=99)
        restored = store.checkout(last.id)
        assert all(torch.equal(restored["model"][name], tensor) for name, tensor in state["model"].items())
