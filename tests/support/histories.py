"""States of small trainings, one after another, for stores that pack them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

State = dict[str, Any]
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}


def training(count: int, *, seed: int = 0, size: int = 3000, dtype: str = "float32") -> Iterator[State]:
    """Weights that walk, a layer that is frozen, small leaves, two names for one tensor, bytes of an odd length."""
    noise = np.random.default_rng([11, seed])
    weights = noise.standard_normal(size)
    frozen = torch.from_numpy(noise.standard_normal(500))
    for step in range(count):
        weights = weights + 1e-3 * noise.standard_normal(size)
        tensor = torch.from_numpy(weights * 20).to(DTYPES[dtype])
        yield {
            "model": {
                "weight": tensor,
                "tied": tensor,
                "frozen": frozen,
                "biases": [torch.from_numpy(weights[at : at + 40].astype(np.float32)) for at in range(0, 400, 40)],
            },
            "data": {"log": np.frombuffer(noise.bytes(1001), np.uint8)},
            "step": step,
        }


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal in type and bits."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and same(raw(left), raw(right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(left == right)


def raw(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a tensor."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
