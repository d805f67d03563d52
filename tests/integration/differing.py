"""The case of `large.py` that compares the values of two commits of large, small and scattered tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

import casckpt

MIB = 1 << 20


def check(path: str, measured: Callable[..., AbstractContextManager[None]]) -> None:
    """Compare two states of 400 MB: one tensor of which all changed, one of few chunks, others cast or scattered."""
    with casckpt.init(path) as store:
        whole = torch.arange(50 * MIB).remainder_(1000).float()
        parts = torch.arange(30 * MIB).remainder_(1000).float()
        small = {f"w{number:04}": torch.full((5_000,), float(number)) for number in range(2_000)}
        state: dict[str, Any] = {
            "whole": whole, "parts": parts, "cast": whole[: 10 * MIB].clone(), "small": small,
            "turned": torch.arange(3.0 * MIB).reshape(1024, -1).T,
        }  # fmt: skip
        store.commit(state, run="before")
        whole += 1
        parts[:: 9 * MIB // 2] += 1
        state["cast"] = state["cast"].bfloat16()
        state["turned"] = state["turned"].contiguous() + 1
        state["small"] = {name: values + 1 for name, values in small.items()}
        store.commit(state, run="after")
        del state, whole, parts, small
        for exact in (False, True):
            with measured("diff", exact=exact):
                found = store.diff("before", "after", values=True, exact=exact, by=1).values
            assert found is not None
            assert found.compared == 2_004
            groups = {group.path: group.measures for group in found.groups}
            assert (groups["whole"].largest, groups["whole"].changed) == (1, 1)
            assert groups["parts"].whole is exact
            assert round(groups["parts"].changed * groups["parts"].elements) == 7
            assert (groups["turned"].largest, groups["small"].largest) == (1, 1)
