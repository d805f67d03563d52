"""What the name of an existing checkpoint says: step, epoch and metrics. And the order of several.

    epoch=3-step=1000.ckpt  epoch=3-val_loss=0.25.ckpt      NAME=NUMBER pairs: Lightning
    checkpoint-500/  ckpt_500.pt                            a word and a number: Hugging Face, many others
    global_step100/  step_1000.pt  iter_0001000/            DeepSpeed, Megatron
    epoch_3.pth  model_epoch_3.pt                           epochs
    1000.pt  00001000/                                      a number alone is a step

What says nothing (`last.ckpt`, `ckpt.pt`, `model-00001-of-00002.safetensors`) has neither step nor epoch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".h5")
"""Files that are taken for checkpoints in a folder."""

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|nan|inf)"
_PAIR = re.compile(rf"([A-Za-z][\w.]*)=({_NUMBER})(?![A-Za-z0-9.])")
_WORD = re.compile(r"(?<![a-z])(global[_-]?step|step|iter(?:ation)?|checkpoint|ckpt|epoch)[-_]?(\d{1,18})(?![\da-z])")
_ALONE = re.compile(r"\d{1,18}")
_DIGITS = re.compile(r"(\d+)")
_STEPS = {"step", "global_step", "globalstep", "global-step", "iter", "iteration", "checkpoint", "ckpt"}
_SHARD = re.compile(r"\d+-of-\d+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a training a checkpoint stands, as far as its name says."""

    step: int | None = None
    epoch: int | float | None = None
    metrics: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        return self.step is not None or self.epoch is not None


def place_of(name: str) -> Place:
    """What the name of a file or folder says.

    Args:
        name: the last part of its path.
    """
    stem = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
    step: int | None = None
    epoch: int | float | None = None
    metrics: dict[str, int | float] = {}
    for key, text in _PAIR.findall(stem):
        value = _number(text)
        if key in _STEPS and isinstance(value, int) and value >= 0:
            step = value
        elif key == "epoch":
            epoch = value
        else:
            metrics[key] = value
    for key, digits in () if step is not None or epoch is not None else _WORD.findall(stem.lower()):
        if key in _STEPS:
            step = int(digits)
        else:
            epoch = int(digits)
    if _ALONE.fullmatch(stem):
        step = int(stem)
    return Place(step, epoch, metrics)


def is_shard(name: str) -> bool:
    """Whether a file is one of several that are one checkpoint together, as `model-00001-of-00002.safetensors`."""
    return _SHARD.search(name) is not None


def order(name: str, place: Place, mtime_ns: int) -> tuple[object, ...]:
    """Sorts checkpoints oldest first: by step, by epoch, then by time, then by name with its numbers as numbers.

    Those without a step follow after those with one: `last.ckpt` and the final model are written at the end.
    """
    far = float("inf")
    step = far if place.step is None else place.step
    epoch = far if place.epoch is None else place.epoch
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name) if part]
    return step, epoch, mtime_ns, parts, name


def _number(text: str) -> int | float:
    whole = re.fullmatch(r"[-+]?\d{1,18}", text)
    return int(text) if whole else float(text)
