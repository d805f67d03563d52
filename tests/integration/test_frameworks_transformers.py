"""Checkpoint folders of the Trainer of transformers, its models and its configurations, in and out of a store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import casckpt
from casckpt import errors
from tests.leafwise import assert_same_leaves

STEPS, RESUMED_AT = 6, 4

# Transformers and what it imports warn of each other; the warnings of casckpt stay errors.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error::casckpt.OpaqueWarning"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def store():
    with casckpt.memory() as store:
        yield store


def gpt2(seed: int = 1, words: int = 1100):
    """A GPT-2 of two layers, whose words are 64 numbers each: with 1 100 of them a tensor of 281 600 bytes."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=words, n_positions=8, n_embd=64, n_layer=2, n_head=2, **ends))


def trainer(folder: Path, seed: int, *, frozen: bool = False):
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(0)
    examples = [{"input_ids": words, "labels": words} for words in torch.randint(1100, (32, 8))]
    model = gpt2(seed)
    if frozen:
        model.transformer.wte.requires_grad_(False)
    arguments = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        save_steps=2,
        logging_steps=2,
        per_device_train_batch_size=2,
        learning_rate=0.01,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=seed,
    )
    return Trainer(model, arguments, train_dataset=examples)


def files(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_folder_comes_back_and_the_training_goes_on_bit_by_bit(store, tmp_path):
    folder = tmp_path / "out"
    undisturbed = trainer(folder, 1)
    undisturbed.train()
    wanted, history = undisturbed.model.state_dict(), undisturbed.state.log_history
    kept = folder / f"checkpoint-{RESUMED_AT}"
    before = files(kept)
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"} <= set(before)
    store.commit_path(kept, run="hf", step=RESUMED_AT)
    shutil.rmtree(folder)

    store.checkout_path("hf", folder)
    assert files(kept) == before and [path.name for path in folder.iterdir()] == [kept.name]
    resumed = trainer(folder, 1)
    resumed.train(resume_from_checkpoint=True)
    assert_same_leaves(wanted, resumed.model.state_dict())
    losses = [[entry.get("loss") for entry in each if "loss" in entry] for each in (history, resumed.state.log_history)]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS // 2


def two_folders(store, folder: Path, *, frozen: bool):
    """The commits of two consecutive checkpoints of one training."""
    trainer(folder, 1, frozen=frozen).train()
    return [store.commit_path(folder / f"checkpoint-{step}", run=folder.name, step=step) for step in (2, 4)]


def test_of_two_checkpoint_folders_the_second_adds_all_that_was_trained(store, tmp_path):
    """AdamW changes every weight and both its moments in each step: nothing but small files is as it was."""
    _, second = two_folders(store, tmp_path / "all", frozen=False)
    assert 0.98 * second.nbytes < second.added < 1.01 * second.nbytes


def test_of_two_checkpoint_folders_the_second_does_not_add_what_was_frozen(store, tmp_path):
    _, second = two_folders(store, tmp_path / "frozen", frozen=True)
    words = 1100 * 64 * 4
    assert second.added < 1.01 * (second.nbytes - words)


def test_a_model_with_tied_weights_is_tied_again_and_says_the_same(store):
    model = gpt2(1)
    info = store.commit({"model": model})
    assert store.commit({"model": model.state_dict()}).tree == info.tree
    words = torch.arange(8)[None]
    wanted = model.eval()(words).logits
    live, loaded = gpt2(2), gpt2(3)
    store.checkout(into={"model": live})
    state = store.checkout()["model"]
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    loaded.load_state_dict(state)
    for other in (live, loaded):
        assert other.lm_head.weight is other.transformer.wte.weight
        assert_same_leaves(model.state_dict(), other.state_dict())
        assert torch.equal(other.eval()(words).logits, wanted)


def test_configurations_are_kept_as_their_dicts_and_else_refused_with_the_ways_out(store):
    run = trainer(Path("nowhere"), 1)
    dicts = {"args": run.args.to_dict(), "model": run.model.config.to_dict(), "state": run.state}
    store.commit(dicts)
    assert store.checkout() == dicts
    for value in (run.args, run.model.config):
        with pytest.raises(errors.UnsupportedType, match=type(value).__name__) as found:
            store.commit({"config": value})
        assert "skip=['config']" in str(found.value) and "register" in str(found.value)


def test_a_folder_of_accelerate_comes_back_and_the_training_goes_on_bit_by_bit(store, tmp_path):
    from accelerate import Accelerator

    def begin(seed):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
        optimizer = torch.optim.AdamW(model.parameters(), 0.1)
        return accelerator.prepare(model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2))

    def train(model, optimizer, scheduler):
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(torch.randn(6, 4)).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
        return loss.item()

    accelerator = Accelerator(cpu=True)
    parts = begin(1)
    train(*parts)
    accelerator.save_state(tmp_path / "state")
    store.commit_path(tmp_path / "state", run="accelerate")
    wanted = train(*parts)
    shutil.rmtree(tmp_path / "state")

    accelerator = Accelerator(cpu=True)
    resumed = begin(2)
    store.checkout_path("accelerate", tmp_path / "back")
    accelerator.load_state(tmp_path / "back" / "state")
    assert train(*resumed) == wanted
    assert_same_leaves(parts[0].state_dict(), resumed[0].state_dict())
