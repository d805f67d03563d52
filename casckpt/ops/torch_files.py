"""torch.save and torch.load: the door for files of torch. torch is slow to import, so this module is imported late."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence
from mmap import PAGESIZE
from pathlib import Path
from typing import Any, BinaryIO

import torch

from casckpt.errors import MalformedFile, PickledObjects
from casckpt.foreign.zips import Member

VISITS_FREE = 1 << 20
"""Values that the smallest file may hold; a larger one has another for every byte."""
DEPTH_MAX = 1000

_BLOCKED = ("global", "class", "function")
"""Words in what torch says of pickles that hold more than a plain state."""
_ADVICE = ("Weights only load failed", "Check the documentation", "Please file an issue")


def save(state: Any, file: BinaryIO) -> None:
    """Write a state as torch.save does."""
    torch.save(state, file)


def load(path: Path, name: str, nbytes: int, members: Sequence[Member], *, allow_pickle: bool) -> Any:
    """The value of a file that torch.save wrote, on the CPU.

    Tensors lie in the mapped file where it is an archive and each storage is exactly one member of it. torch compares
    lengths of storages and members only where it reads them, so a file that lies about one is read, and refused.

    Args:
        name: what errors call the file.
        nbytes: its length.
        members: of an archive, else none.
        allow_pickle: unpickle anything, which executes what the file says. Without it only what torch knows as
            harmless is made, and nothing is executed.

    Raises:
        PickledObjects: it needs more than that.
        MalformedFile: it is no such file, or is damaged.
    """
    found = _load(path, name, is_mapped=bool(members), allow_pickle=allow_pickle)
    tensors = list(_tensors(found, name, VISITS_FREE + nbytes))
    if members and not _is_laid_out(tensors, members):
        found = _load(path, name, is_mapped=False, allow_pickle=allow_pickle)
    return found


def _load(path: Path, name: str, *, is_mapped: bool, allow_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", mmap=is_mapped, weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        problem = _reason(error)
        if any(word in problem.lower() for word in _BLOCKED):
            raise PickledObjects(path=name, problem=problem) from error
        raise MalformedFile(path=name, kind="torch", problem=problem) from error
    except Exception as error:  # damaged pickles and archives raise whatever their bytes lead to
        raise MalformedFile(path=name, kind="torch", problem=_reason(error)) from error


def _tensors(state: Any, name: str, visits: int) -> Iterator[torch.Tensor]:
    """The tensors of a state.

    Raises:
        MalformedFile: a small file whose containers, each in many places, unfold into a state without end.
    """
    stack = [iter((state,))]
    while stack:
        value = next(stack[-1], stack)
        if value is stack:
            stack.pop()
            continue
        visits -= 1
        if visits < 0 or len(stack) > DEPTH_MAX:
            raise MalformedFile(path=name, kind="torch", problem="it unfolds into more values than it can hold")
        if isinstance(value, dict):
            stack.append(iter(value.values()))
        elif isinstance(value, list | tuple):
            stack.append(iter(value))
        elif isinstance(value, torch.Tensor):
            yield value


def _is_laid_out(tensors: Sequence[torch.Tensor], members: Sequence[Member]) -> bool:
    """Whether every storage is one member of the mapped file, wherever that is mapped."""
    try:
        storages = {(one.untyped_storage().data_ptr(), one.untyped_storage().nbytes()) for one in tensors}
    except (NotImplementedError, RuntimeError):  # layouts that have no storage
        return False
    places = {(member.offset, member.stored) for member in members}
    storages = {storage for storage in storages if storage[1]}
    if not storages:
        return True
    first, length = min(storages)
    starts = [first - offset for offset, stored in places if stored == length and (first - offset) % PAGESIZE == 0]
    return any(all((address - start, size) in places for address, size in storages) for start in starts)


def _reason(error: Exception) -> str:
    """What torch says, without its advice to trust the file."""
    said = [part.strip() for part in re.split(r"WeightsUnpickler error:|\n\s*\n", str(error))]
    reasons = [part.splitlines()[0] for part in said if part and not part.startswith(_ADVICE)]
    return reasons[0][:200].rstrip(".") if reasons else type(error).__name__
