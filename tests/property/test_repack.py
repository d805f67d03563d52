"""Whatever a training was like, repack gives back every bit of it, at whatever moments and how often it is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.odb import session
from casckpt.odb.repository import Repository
from casckpt.storage.memory import MemoryStorage
from casckpt.store import Store
from tests.crash.promises import make
from tests.support.histories import DTYPES, State, same

pytestmark = pytest.mark.slow

SIZES = st.sampled_from([1, 17, 33, 400, 2001, 70_001])
LARGE = 330_000
"""Elements of a leaf that has chunks of its own, sometimes several."""


class Leaf:
    """One leaf of a training: how it changes from commit to commit."""

    def __init__(self, draw: st.DrawFn, name: str) -> None:
        self.name = name
        self.dtype = draw(st.sampled_from(sorted(DTYPES)))
        self.size = draw(st.one_of(SIZES, SIZES, SIZES, st.just(LARGE)))
        self.reach = draw(st.sampled_from([0, 0.5, 1e-2, 1e-3, 1e-6]))
        self.noise = np.random.default_rng(draw(st.integers(0, 1 << 32)))
        self.values = self.noise.standard_normal(self.size) * 10

    def next(self) -> torch.Tensor:
        """Its next version; the same one if it is frozen."""
        if self.reach:
            self.values = self.values + self.reach * self.noise.standard_normal(self.size)
        return torch.from_numpy(np.clip(self.values, -120, 120)).to(DTYPES[self.dtype])


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Commits, and what happens between them: ("commit", state), ("repack", archive or not), ("tag", which)."""
    leaves = [Leaf(draw, f"leaf{number}") for number in range(draw(st.integers(1, 4)))]
    noise = np.random.default_rng(0)
    found: list[tuple[str, Any]] = []
    for number in range(draw(st.integers(1, 14))):
        match draw(st.integers(0, 11)):
            case 0:
                leaves[draw(st.integers(0, len(leaves) - 1))] = Leaf(draw, f"leaf{number}")  # another shape, a new name
            case 1 if found:
                found.append(("repack", draw(st.booleans())))
            case 2 if found:
                found.append(("tag", draw(st.integers(0, 20))))
            case 3 if found:
                found.append(("commit", found[draw(st.integers(0, len(found) - 1))][1]))  # what was before
                continue
        first = leaves[0].next()
        state: State = {
            "model": {leaf.name: leaf.next() for leaf in leaves[1:]} | {"tied": [first, first]},
            "files": {"odd": np.frombuffer(noise.bytes(draw(st.sampled_from([3, 77, 1001]))), np.uint8)},
            "step": number,
        }
        found.append(("commit", state))
    return found


@settings(max_examples=25)
@given(history=histories(), thorough=st.booleans(), threads=st.sampled_from([1, 2]))
def test_every_commit_comes_back_after_repacks(history: list[tuple[str, Any]], thorough: bool, threads: int) -> None:
    storage = MemoryStorage()
    make(storage)
    before = session.FRAME_OBJECT_BYTES
    session.FRAME_OBJECT_BYTES = 0  # what is small goes into packs too
    try:
        store = Store(Repository(storage, threads=threads))
        states: list[tuple[str, State]] = []
        for number, (what, value) in enumerate(history):
            if what == "repack":
                store.repack(max=value)
            elif what == "tag":
                store.tag(f"t{number}", states[value % len(states)][0])
            elif isinstance(value, dict):
                states.append((store.commit(value, run="ab"[number % 3 == 2], step=number).id, value))
        store.repack(max=thorough)
        second = store.repack(max=thorough)
        assert (second.written, second.removed) == (0, 0)
        for one in (store, Store(Repository(MemoryStorage(storage.snapshot())))):
            for identity, state in states:
                assert same(one.checkout(identity), state)
        assert store.fsck("full").findings == ()
    finally:
        session.FRAME_OBJECT_BYTES = before
