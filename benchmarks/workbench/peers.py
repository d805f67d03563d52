"""Other ways to save and load tensors by name, each with and without its data on the disk when the call returns."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.workbench.states import Flat

NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to save and to load. `save(state, path, sync)`; `load(path)`; `into(path, state)` where there is one."""

    name: str
    save: Callable[[Flat, Path, bool], None]
    load: Callable[[Path], Flat] | None = None
    into: Callable[[Path, Flat], None] | None = None
    absent: str = ""
    """Why it cannot run here; empty if it can."""


def _torch_save(state: Flat, path: Path, sync: bool) -> None:
    with path.open("wb") as file:
        torch.save({"model": state}, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _torch_load(path: Path) -> Flat:
    return torch.load(path, weights_only=True)["model"]


def _safetensors_save(state: Flat, path: Path, sync: bool) -> None:
    from safetensors.torch import save_file

    save_file(state, path)
    if sync:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _safetensors_load(path: Path) -> Flat:
    from safetensors.torch import load_file

    return load_file(path)


def _dcp_save(state: Flat, path: Path, sync: bool) -> None:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = dcp.FileSystemWriter(path, sync_files=sync)
        dcp.save({"model": state}, storage_writer=writer, no_dist=True)


def _dcp_into(path: Path, state: Flat) -> None:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load({"model": state}, storage_reader=dcp.FileSystemReader(path), no_dist=True)


TORCH = Peer("torch.save", _torch_save, _torch_load)
SAFETENSORS = Peer(
    "safetensors",
    _safetensors_save,
    _safetensors_load,
    absent="" if importlib.util.find_spec("safetensors") else NOT_INSTALLED,
)
DCP = Peer(
    "dcp.save",
    _dcp_save,
    into=_dcp_into,
    absent="" if torch.distributed.is_available() else "torch was built without distributed",
)
PEERS = (TORCH, SAFETENSORS, DCP)
