"""Large tensors and arrays that do not simply lie in memory, and what becomes of each.

A leaf is a pair: what is committed, and a check of what comes back. Each is at least 1 MiB, most are several tasks of
the pipeline, and what must be gathered is larger than the memory that a commit may take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import casckpt

MIB = 1 << 20


class Noise:
    """Random bits, cheaply: windows of one block."""

    def __init__(self) -> None:
        self._words = np.random.default_rng(7).integers(0, 1 << 32, 8 * MIB, np.uint32)
        self._number = 0

    def __call__(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A fresh contiguous tensor of any bits; NaNs and infinities among them."""
        tensor = torch.empty(shape, dtype=dtype)
        words = tensor.view(torch.uint8).flatten().numpy().view(np.uint32)
        for start in range(0, len(words), 4 * MIB):
            self._number += 1
            target = words[start : start + 4 * MIB]
            at = self._number * 65_537 % (4 * MIB)
            np.bitwise_xor(self._words[at : at + len(target)], np.uint32(self._number), out=target)
        return tensor


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor as bytes in C order."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain.contiguous().view(-1).view(torch.uint8)


def assert_same(found: torch.Tensor, given: torch.Tensor) -> None:
    assert found.dtype is given.dtype and found.shape == given.shape
    assert not found.is_conj() and not found.is_neg()
    assert torch.equal(bits(found), bits(given))


def dense_state(noise: Noise) -> dict[str, torch.Tensor]:
    """No gaps: kept as they lie, strides and all."""
    return {
        "transposed": noise(3000, 2048).T,
        "permuted": noise(64, 40, 30, 50).permute(3, 0, 2, 1),
        "channels_last": noise(32, 64, 32, 32).to(memory_format=torch.channels_last),
        "half, transposed": noise(2048, 4096, dtype=torch.bfloat16).T,
        "expanded": noise(1, 4 * MIB).expand(8, 4 * MIB),
        "expanded, transposed": noise(2048, 1, 1500).expand(2048, 16, 1500).permute(2, 1, 0),
        "unfolded": noise(4 * MIB).unfold(0, 4096, 1024),
        "end of a storage": noise(5 * MIB)[MIB + 3 :],
    }


def gathered_state(noise: Noise) -> dict[str, torch.Tensor]:
    """With gaps, or not values in memory: stored and given back without them, in C order."""
    complexes = noise(10 * MIB, dtype=torch.complex64)
    return {
        "every second": noise(48 * MIB)[::2],
        "columns": noise(6000, 3000)[:, 1::3],
        "inner": noise(3000, 2500)[100:2900, 77:2400],
        "inner, transposed": noise(3000, 2500)[100:2900, 77:2400].T,
        "one long column": noise(4 * MIB, 3, dtype=torch.bfloat16)[:, 1],
        "bytes": noise(3000, 4000, dtype=torch.uint8)[::2, ::3],
        "three deep": noise(60, 300, 500)[::2, 10:-10, ::3],
        "conjugated": complexes.conj(),
        "conjugated, transposed": noise(1500, 1000, dtype=torch.complex128).conj().T,
        "negative": complexes.conj().imag,
        "negative, dense": torch._neg_view(noise(3 * MIB, dtype=torch.float64)),
    }


def shared_state(noise: Noise) -> dict[str, Any]:
    """Memory that several leaves share, in one component and across two."""
    storage, table = noise(20 * MIB), noise(2048, 1024)
    mixed = noise(12 * MIB, dtype=torch.uint8)
    return {
        "model": {
            "windows": [storage[at * MIB : (at + 2) * MIB] for at in range(12)],
            "embedding": torch.nn.Parameter(table),
            "head": torch.nn.Parameter(table),
            "transposed": table.T,
            "mixed": [mixed[4 : 9 * MIB + 1], mixed[8 : 8 + 4 * MIB].view(torch.float32)],
        },
        "average": {"window": storage[12 * MIB + 5 : 19 * MIB], "table": table[::2]},
    }


def assert_shared(found: dict[str, Any], given: dict[str, Any]) -> None:
    """The same values, at the same distances, in one storage for each."""

    def families(state: dict[str, Any]) -> list[list[torch.Tensor]]:
        model, average = state["model"], state["average"]
        tables = [model["embedding"], model["head"], model["transposed"], average["table"]]
        return [[*model["windows"], average["window"]], tables, model["mixed"]]

    for mine, theirs in zip(families(found), families(given), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert type(one) is type(other)
            assert_same(one, other)
            assert one.stride() == other.stride()
            assert one.untyped_storage().data_ptr() == mine[0].untyped_storage().data_ptr()
            assert one.data_ptr() - mine[0].data_ptr() == other.data_ptr() - theirs[0].data_ptr()
    first, second = found["model"]["windows"][:2]
    first[MIB] = 12345.0
    assert second[0] == 12345.0


def array_state(noise: Noise) -> dict[str, Any]:
    """Arrays of numpy: they come back in C or F order."""
    table = noise(3000, 1024).numpy()
    return {
        "fortran": np.asfortranarray(noise(1500, 2000).numpy()),
        "backwards": noise(6 * MIB).numpy()[::-1],
        "strided": noise(4000, 2000).numpy()[::3, ::2],
        "big-endian": noise(3 * MIB).numpy().view(">i4").reshape(1024, -1).T,
        "dates": noise(4 * MIB).numpy().view("<M8[us]").reshape(2048, -1)[:, ::2],
        "flags": np.broadcast_to(noise(2 * MIB, dtype=torch.uint8).numpy(), (5, 2 * MIB)),
        "overlapping": [table[:2000], table[1000:]],
    }


def assert_array(found: Any, given: Any) -> None:
    if isinstance(given, list):
        for one, other in zip(found, given, strict=True):
            assert_array(one, other)
        assert np.shares_memory(*found)
        return
    assert found.dtype == given.dtype and found.shape == given.shape
    assert found.tobytes() == given.tobytes()
    assert found.flags.f_contiguous if given.flags.f_contiguous else found.flags.c_contiguous


def empty_state() -> dict[str, torch.Tensor]:
    """No bytes, whatever the strides."""
    return {
        "nothing": torch.empty(0),
        "flat": torch.empty(3, 0, MIB, dtype=torch.bfloat16),
        "view": torch.zeros(4 * MIB)[MIB:MIB],
        "parameter": torch.nn.Parameter(torch.empty(MIB, 0)),
    }


def check(path: str, measured: Callable[..., Any]) -> None:
    """Commit everything by one thread and, changed, by four; and each again by as many as the other."""
    noise = Noise()
    dense, gathered, shared = dense_state(noise), gathered_state(noise), shared_state(noise)
    arrays, empty = array_state(noise), empty_state()
    state = {"dense": dense, "gathered": gathered, **shared, "arrays": arrays, "empty": empty}
    casckpt.init(path).close()
    trees = set()
    for threads, policy in ((1, "off"), (4, "always")):
        run = f"by-{threads}"
        with casckpt.open(path, threads=threads) as store:
            if policy == "always":  # else nothing would be new
                for leaf in (*gathered.values(), *dense.values()):
                    flip(leaf)
            with measured("odd", threads=threads, compress=policy):
                info = store.commit(state, run=run, compress=policy)
            trees.add(info.tree)
        with casckpt.open(path, threads=5 - threads) as store:
            with measured("odd, unchanged", threads=5 - threads, compress="auto"):
                assert store.commit(state, run=run).tree == info.tree
            with measured("odd, checkout", threads=5 - threads, state=info.nbytes):
                found = store.checkout(run)
        assert list(found) == list(state)
        for name, given in dense.items():
            assert_same(found["dense"][name], given)
            assert found["dense"][name].stride() == given.stride(), name
        for name, given in gathered.items():
            assert_same(found["gathered"][name], given)
            assert found["gathered"][name].is_contiguous(), name
        assert_shared(found, shared)
        for name, given in arrays.items():
            assert_array(found["arrays"][name], given)
        for name, given in empty.items():
            back = found["empty"][name]
            assert type(back) is type(given) and back.dtype is given.dtype
            assert back.shape == given.shape and back.stride() == given.stride(), name
        del found
    assert len(trees) == 2


def flip(leaf: torch.Tensor) -> None:
    """Turn a bit in every MiB of a leaf's storage."""
    whole = torch.empty(0, dtype=torch.uint8).set_(leaf.untyped_storage())
    whole[::MIB] ^= 1
    whole[4::4096] ^= 128
