"""The library under test, as far as this build has what a row needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import casckpt

ABSENT = "not in this build"


def offers(function: Callable[..., Any], *parameters: str) -> bool:
    """Whether a function of this build takes all of these parameters."""
    return set(parameters) <= set(inspect.signature(function).parameters)


def threads_of(wanted: int) -> int:
    """Worker threads a store of this build will use when so many are wanted."""
    return wanted if offers(casckpt.init, "threads") else 1


def init(path: Path, threads: int) -> casckpt.Store:
    """A new store with so many worker threads."""
    return casckpt.init(path, threads=threads) if offers(casckpt.init, "threads") else casckpt.init(path)


def reopen(path: Path, threads: int) -> casckpt.Store:
    """An existing store with so many worker threads."""
    return casckpt.open(path, threads=threads) if offers(casckpt.open, "threads") else casckpt.open(path)
