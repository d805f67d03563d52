"""Synthetic training states of a given size, and edits of them.

Values are fp32 of a normal distribution, as trained weights nearly are. The same arguments give the same bytes.
MB are 10^6 bytes throughout the benchmarks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

Flat = dict[str, torch.Tensor]
"""Tensors by name, as `Module.state_dict()` gives them."""

LAYER = (("attention", 1 << 20), ("up", 1 << 22), ("down", 1 << 22), ("norm", 1024), ("bias", 4096))
"""Five tensors a layer: three matrices of 4 to 16 MiB, two vectors."""

_BLOCK = 1 << 22
_SEEDS = itertools.count(1)


def model(mb: int) -> Flat:
    """Layers of a transformer: five tensors each."""

    def sizes() -> Iterator[tuple[str, int]]:
        left, layer = mb * 1_000_000 // 4, 0
        while left > 0:
            for name, count in LAYER:
                yield f"layers.{layer}.{name}.weight", min(count, left)
                left -= min(count, left)
                if not left:
                    return
            layer += 1

    return _fill(sizes())


def many(mb: int, tensors: int = 20_000) -> Flat:
    """So many small tensors of one size."""
    count = mb * 1_000_000 // 4 // tensors
    return _fill((f"layers.{number // 9}.block.{number % 9}.weight", count) for number in range(tensors))


def single(mb: int) -> Flat:
    """One big tensor."""
    return _fill([("embedding.weight", mb * 1_000_000 // 4)])


KINDS = {"model": model, "many": many, "single": single}


def nested(state: Flat) -> dict[str, Flat]:
    """The same tensors as a state of one component, as training loops hold them."""
    return {"model": state}


def edit(state: Flat, share: float) -> None:
    """New values, in place, for this share of the bytes: whole tensors spread over the state, the last one in part.

    Every call gives values that no call gave before: else a second case of the same round would save what is there.
    """
    generator = torch.Generator().manual_seed(next(_SEEDS))
    left = round(share * sum(tensor.numel() for tensor in state.values()))
    names = list(state)
    # A step of 7 is coprime to the 5 tensors of a layer, so that big and small tensors are met in turn.
    order = [name for start in range(7) for name in names[start::7]]
    for name in order:
        part = state[name].view(-1)[:left]
        if not len(part):
            return
        _normal(part, generator)
        left -= len(part)


def nbytes(state: Flat) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in state.values())


def views(state: Flat) -> list[memoryview]:
    """The bytes of the tensors, not copied."""
    return [memoryview(tensor.numpy()).cast("B") for tensor in state.values()]


def _fill(sizes: Iterator[tuple[str, int]] | list[tuple[str, int]]) -> Flat:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, count in sizes:
        state[name] = torch.empty(count)
        _normal(state[name], generator)
    return state


def _normal(target: torch.Tensor, generator: torch.Generator) -> None:
    for start in range(0, len(target), _BLOCK):
        target[start : start + _BLOCK].normal_(0, 0.02, generator=generator)
