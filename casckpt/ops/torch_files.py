"""torch.save and torch.load: the door for files of torch. torch is slow to import, so this module is imported late."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import torch

from casckpt.errors import MalformedFile, PickledObjects

_BLOCKED = ("global", "class", "function")
"""Words in what torch says of pickles that hold more than a plain state."""
_ADVICE = ("Weights only load failed", "Check the documentation", "Please file an issue")


def save(state: Any, file: BinaryIO) -> None:
    """Write a state as torch.save does."""
    torch.save(state, file)


def load(path: Path, name: str, *, is_zip: bool, allow_pickle: bool) -> Any:
    """The value of a file that torch.save wrote, on the CPU; tensors are mapped from a zip file, not read.

    Args:
        name: what errors call the file.
        allow_pickle: unpickle anything, which executes what the file says. Without it only what torch knows as
            harmless is made, and nothing is executed.

    Raises:
        PickledObjects: it needs more than that.
        MalformedFile: it is no such file, or is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", mmap=is_zip, weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        problem = _reason(error)
        if any(word in problem.lower() for word in _BLOCKED):
            raise PickledObjects(path=name, problem=problem) from error
        raise MalformedFile(path=name, kind="torch", problem=problem) from error
    except Exception as error:  # damaged pickles and archives raise whatever their bytes lead to
        raise MalformedFile(path=name, kind="torch", problem=_reason(error)) from error


def _reason(error: Exception) -> str:
    """What torch says, without its advice to trust the file."""
    said = [part.strip() for part in re.split(r"WeightsUnpickler error:|\n\s*\n", str(error))]
    reasons = [part.splitlines()[0] for part in said if part and not part.startswith(_ADVICE)]
    return reasons[0][:200].rstrip(".") if reasons else type(error).__name__
