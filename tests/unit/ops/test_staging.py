from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.ops import staging
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.staging import Arena, stage
from casckpt.state.flat import Blob, FlatComponent, FlatState
from casckpt.state.flatten import flatten

MIB = 1 << 20


def blobs(flat: FlatState) -> list[Blob]:
    return [blob for component in (flat.root, *flat.components) for blob in component.blobs]


def contents(flat: FlatState) -> list[bytes]:
    return [bytes(blob.read(0, blob.nbytes)) for blob in blobs(flat)]


def everything() -> dict[str, Any]:
    """A state with every kind of memory: plain, scattered, shared, padded, lazy, and none."""
    generator = torch.Generator().manual_seed(1)
    tied = torch.rand(300, 301, generator=generator)
    shared = torch.arange(64, dtype=torch.uint8)
    return {
        "model": {"w": tied, "t": tied.T, "row": tied[3], "none": torch.empty(0)},
        "many": [torch.rand(5), torch.rand(5)],
        "ema": OrderedDict(w=tied, other=torch.rand(1000)),
        "large": torch.rand(5 * MIB // 2, generator=generator),
        "scattered": torch.rand(400, 400, generator=generator)[::2, ::3],
        "expanded": torch.rand(7, 1).expand(7, 100),
        "lazy": torch.rand(40_000, dtype=torch.complex64, generator=generator).conj(),
        "padded": [shared[1:], shared[8:16].view(torch.int64)],
        "fortran": np.asfortranarray(np.arange(600_000.0).reshape(600, 1000)),
        "cut": np.arange(1000)[::-3],
        "bytes": b"x" * 5000,
        "bytearray": bytearray(b"y" * 300_000),
        "text": "z" * 3000,
        "numbers": [float(number) for number in range(1000)],
        "small": [1, None, "a", bytearray(b"b"), np.float32(0.5)],
    }


def test_a_staged_state_is_the_same_state() -> None:
    state = everything()
    flat = flatten(state)
    kinds = {type(blob.source).__name__ for blob in blobs(flat)}
    assert kinds == {"BytesSource", "RangeSource", "StridedSource", "PaddedSource", "TensorSource"}
    staged = stage(flat, Arena(), 2)
    assert contents(staged) == contents(flat)
    assert [(one.path, one.element, one.nbytes) for one in blobs(staged)] == [
        (one.path, one.element, one.nbytes) for one in blobs(flat)
    ]
    assert staged.links == flat.links and staged.links
    with casckpt.memory() as store:
        repository = store._repository
        assert commit_state(repository, staged, CommitOptions()).tree == store.commit(state).tree


def test_blobs_that_are_the_same_memory_are_copied_once_and_stay_the_same() -> None:
    flat = flatten(everything())
    arena = Arena()
    staged = stage(flat, arena, 2)
    before: dict[int, int] = {}
    for old, new in zip(blobs(flat), blobs(staged), strict=True):
        assert before.setdefault(id(old.source), id(new.source)) == id(new.source)
    assert len(set(before.values())) == len(before) < len(blobs(flat))


def test_what_is_staged_does_not_change_with_the_state() -> None:
    state = everything()
    flat = flatten(state)
    staged = stage(flat, Arena(), 2)
    before = contents(staged)
    for value in (*state["many"], state["model"]["w"], state["large"], state["padded"][0]):
        value.fill_(3)
    state["scattered"].zero_()
    state["lazy"].conj().zero_()
    state["fortran"][:] = 0
    state["cut"][:] = 0
    state["bytearray"][:] = b""
    state["numbers"][0] = -1.0
    state["small"][3][0] = 0
    assert contents(staged) == before


def test_a_bytearray_can_be_resized_at_once() -> None:
    data = bytearray(b"y" * 300_000)
    stage(flatten({"data": data}), Arena(), 2)
    data.extend(b"more")


def test_the_memory_of_the_state_is_let_go() -> None:
    array = np.ones(10_000)
    gone = weakref.ref(array)
    staged = stage(flatten({"a": array}), Arena(), 2)
    del array
    gc.collect()
    assert gone() is None
    assert contents(staged) == [np.ones(10_000).tobytes()]


def test_immutable_bytes_are_not_copied() -> None:
    flat = flatten({"bytes": b"x" * 5000, "numbers": [1.5] * 100, "text": "z" * 5000})
    arena = Arena()
    assert stage(flat, arena, 2) is flat
    assert arena.nbytes == 0


def test_a_warm_arena_is_used_again_and_grows_when_it_must() -> None:
    arena = Arena()
    staged = stage(flatten({"a": np.zeros(3 * MIB, np.uint8)}), arena, 2)
    address = np.frombuffer(blobs(staged)[0].read(0, 1), np.uint8).ctypes.data
    assert address % 4096 == 0
    nbytes = arena.nbytes
    again = stage(flatten({"a": np.ones(3 * MIB, np.uint8)}), arena, 2)
    assert np.frombuffer(blobs(again)[0].read(0, 1), np.uint8).ctypes.data == address
    assert arena.nbytes == nbytes
    stage(flatten({"a": np.ones(30 * MIB, np.uint8)}), arena, 2)
    assert arena.nbytes >= 30 * MIB
    arena.release()
    assert arena.nbytes == 0


def test_memory_that_is_released_stays_for_its_readers() -> None:
    arena = Arena()
    staged = stage(flatten({"a": np.full(3 * MIB, 7, np.uint8)}), arena, 2)
    arena.release()
    stage(flatten({"a": np.zeros(3 * MIB, np.uint8)}), arena, 2)
    assert contents(staged) == [b"\7" * 3 * MIB]


@pytest.mark.parametrize("nbytes", [1, 63, staging.SMALL_BYTES, staging.SPREAD_BYTES + 1, 3 * staging.PIECE_BYTES + 5])
def test_pieces_meet_without_a_gap(nbytes: int) -> None:
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
    flat = flatten({"first": np.ones(3, np.uint8), "data": data, "last": np.full(5, 9, np.uint8)})
    assert contents(stage(flat, Arena(), 2)) == contents(flat)


class Broken:
    """A source that cannot be read from some byte on."""

    def __init__(self, fails_at: int) -> None:
        self.fails_at = fails_at

    def read(self, start: int, stop: int) -> memoryview:
        if stop > self.fails_at:
            raise KeyboardInterrupt
        return memoryview(bytes(stop - start))


def test_what_a_source_raises_is_raised() -> None:
    flat = FlatState(FlatComponent("", ["bytes", 0], [], (Blob("a", "bytes", 3 * MIB, Broken(MIB)),)), (), ())
    with pytest.raises(KeyboardInterrupt):
        stage(flat, Arena(), 2)
