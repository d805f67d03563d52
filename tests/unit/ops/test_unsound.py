from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import casckpt

NAN, INF = float("nan"), float("inf")
MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def named(store: casckpt.Store, state: Any) -> list[str]:
    """The leaves that a commit names, when its chunks are new and when they are known."""
    first, again = store.commit(state), store.commit(state)
    assert first.nonfinite_paths == again.nonfinite_paths
    assert first.nonfinite == again.nonfinite
    return list(first.nonfinite_paths)


@pytest.mark.parametrize("count", [1, 100, 70_000, 700_000])
def test_parts_of_one_buffer_are_told_apart(store: casckpt.Store, count: int) -> None:
    buffer = torch.zeros(8 * count)
    buffer[5 * count] = NAN
    views = {f"p{number}": buffer[number * count : (number + 1) * count] for number in range(8)}
    assert named(store, {"model": views, "all": buffer}) == ["all", "model/p5"]


def test_a_view_that_is_not_contiguous_counts_by_the_memory_it_shares(store: casckpt.Store) -> None:
    square = torch.zeros(40, 40)
    square[39, 0] = INF
    assert named(store, {"all": square, "column": square[:, 0], "row": square[1]}) == ["all", "column"]
    assert named(store, {"gaps": square[:, 1:]}) == []


def test_memory_of_several_types_is_not_looked_at(store: casckpt.Store) -> None:
    words = torch.full((100,), NAN)
    assert named(store, {"words": words, "bits": words.view(torch.int32)}) == []
    assert named(store, {"words": words, "bits": words.view(torch.int32).clone()}) == ["words"]


def test_the_order_of_an_array_does_not_matter(store: casckpt.Store) -> None:
    array = np.zeros((60, 50))
    array[7, 9] = -INF
    assert named(store, {"f": np.asfortranarray(array), "c": array.copy(), "turned": array[::-1]}) == [
        "c",
        "f",
        "turned",
    ]


def test_numbers_and_texts_are_not_told(store: casckpt.Store) -> None:
    assert named(store, {"best": INF, "one": np.float32(NAN), "losses": [NAN] * 500, "text": "nan" * 500}) == []


def test_parts_of_other_values_are_told(store: casckpt.Store) -> None:
    sparse = torch.eye(20).mul(NAN).to_sparse()
    masked = np.ma.masked_array([1.0, NAN] * 20, [False, True] * 20)
    found = named(store, {"sparse": sparse, "masked": masked, "whole": torch.eye(20).to_sparse()})
    assert {path.split("/")[0] for path in found} == {"sparse", "masked"}


def test_the_state_may_be_a_tensor_itself(store: casckpt.Store) -> None:
    info = store.commit(torch.tensor([1.0, NAN]))
    assert (info.nonfinite, info.nonfinite_paths) == (1, ("",))


@pytest.mark.parametrize("count", [10, 40_000, 2 * MIB])
def test_bytes_that_are_known_as_another_type_are_looked_at_as_what_they_are_now(
    count: int,
) -> None:
    """0x7c00 is infinity as float16 and a number as bfloat16; 0x00007f80 as bfloat16 and as float32."""
    half = torch.full((count,), 0x7C00, dtype=torch.int16), torch.float16, torch.bfloat16
    brain = torch.full((count,), 0x7F80, dtype=torch.int32), torch.bfloat16, torch.float32
    for bits, dtype, other in (half, brain):
        for order in permutations([bits.dtype, dtype, other]):
            with casckpt.memory() as store:
                for seen in (*order, *order):
                    assert named(store, {"w": bits.view(seen).clone()}) == (["w"] if seen == dtype else [])


def test_of_files_large_tensors_are_told(store: casckpt.Store, tmp_path: Path) -> None:
    for name, count in (("large", 200_000), ("small", 1_000), ("whole", 200_000)):
        np.save(tmp_path / f"{name}.npy", np.full(count, 1.0 if name == "whole" else NAN, "<f4"))
    for _ in range(2):
        info = store.commit_path(*(tmp_path / f"{name}.npy" for name in ("large", "small", "whole")))
        assert info.nonfinite_paths == ("large.npy",)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_states_are_told_whatever_the_number_of_threads(tmp_path: Path, threads: int) -> None:
    state = {f"w{number}": torch.zeros(3 * MIB + number) for number in range(4)}
    state["w1"][2 * MIB + 5] = NAN
    state["w3"][-1] = INF
    with casckpt.init(tmp_path / "s", threads=threads) as store:
        assert named(store, state) == ["w1", "w3"]


def test_many_leaves_are_counted_and_eight_are_named(store: casckpt.Store) -> None:
    state = {f"w{number:02}": torch.full((number * 40 + 1,), NAN) for number in range(30)}
    info = store.commit(state | {"k" * 3000: torch.tensor(NAN)})
    assert info.nonfinite == 31
    assert info.nonfinite_paths == ("k" * 1021 + "...", *(f"w{number:02}" for number in range(7)))
