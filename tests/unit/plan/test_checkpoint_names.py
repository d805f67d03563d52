"""What names of checkpoints say, in the ways of the programs that give them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from casckpt.plan.checkpoint_names import is_shard, order, place_of


@pytest.mark.parametrize(
    ("name", "step", "epoch", "metrics"),
    [
        ("epoch=3-step=1000.ckpt", 1000, 3, {}),  # Lightning
        ("epoch=03-val_loss=0.25.ckpt", None, 3, {"val_loss": 0.25}),
        ("epoch=3-step=1000-val_loss=-1.5e-3-v1.ckpt", 1000, 3, {"val_loss": -1.5e-3}),
        ("run-epoch=1_step=2-acc=7.ckpt", 2, 1, {"acc": 7}),
        ("epoch=0.5-x=1b.ckpt", None, 0.5, {}),
        ("checkpoint-500", 500, None, {}),  # Hugging Face
        ("checkpoint-500-best", 500, None, {}),
        ("global_step100", 100, None, {}),  # DeepSpeed
        ("iter_0001000", 1000, None, {}),  # Megatron
        ("step_1000.pt", 1000, None, {}),
        ("step1000-unsharded", 1000, None, {}),
        ("model_step_10.pt", 10, None, {}),
        ("ckpt_700.pth", 700, None, {}),
        ("epoch3_step20.bin", 20, 3, {}),
        ("model_epoch_3.h5", None, 3, {}),
        ("1000.pt", 1000, None, {}),
        ("00001000", 1000, None, {}),
        ("ckpt.pt", None, None, {}),  # nanoGPT
        ("last.ckpt", None, None, {}),
        ("model-00001-of-00002.safetensors", None, None, {}),
        ("resnet50.pt", None, None, {}),
        ("llama-7b.safetensors", None, None, {}),
        ("version_0", None, None, {}),
        ("step=-3.pt", None, None, {"step": -3}),
        ("1" * 30, None, None, {}),
    ],
)
def test_a_name_says(name: str, step: Any, epoch: Any, metrics: Any) -> None:
    found = place_of(name)
    assert (found.step, found.epoch, dict(found.metrics)) == (step, epoch, metrics)
    assert type(found.step) is type(step) and type(found.epoch) is type(epoch)
    assert found.is_known == (step is not None or epoch is not None)


def test_a_metric_may_be_no_number() -> None:
    assert math.isnan(place_of("epoch=1-loss=nan.ckpt").metrics["loss"])


def test_shards_are_known() -> None:
    assert is_shard("model-00001-of-00002.safetensors") and not is_shard("model.safetensors")


def test_the_oldest_comes_first() -> None:
    names = [("last.ckpt", 1), ("step_1000", 3), ("step_200", 9), ("a10", 5), ("a9", 5), ("epoch_2", 0), ("epoch_1", 8)]
    found = sorted(names, key=lambda one: order(one[0], place_of(one[0]), one[1]))
    wanted = ["step_200", "step_1000", "epoch_1", "epoch_2", "last.ckpt", "a9", "a10"]
    assert [name for name, _ in found] == wanted
