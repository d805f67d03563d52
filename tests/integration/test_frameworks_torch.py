"""Trainings of plain torch go into a store as they are, and go on from there bit by bit."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import casckpt
from casckpt import errors
from tests.integration.trainings import (
    OPTIMIZERS,
    SCHEDULERS,
    as_dicts,
    begin,
    fingerprint,
    generators,
    load_dicts,
    set_generators,
    train,
)
from tests.leafwise import assert_same_leaves

ROOT = Path(__file__).parents[2]
BEFORE, AFTER = 4, 5

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning"),  # a scaler skips first steps
]


@pytest.fixture
def store():
    with casckpt.memory() as store:
        yield store


def assert_goes_on_exactly(store, optimizer, scheduler):
    state = begin(1, optimizer, scheduler)
    train(state, BEFORE)
    store.commit(state)
    losses = train(state, AFTER)
    wanted = as_dicts(state)

    live = begin(2, optimizer, scheduler)
    train(live, 2)
    assert store.checkout(into=live) is live
    assert train(live, AFTER) == losses
    assert_same_leaves(wanted, as_dicts(live))

    loaded = load_dicts(begin(3, optimizer, scheduler), store.checkout())
    assert train(loaded, AFTER) == losses
    assert_same_leaves(wanted, as_dicts(loaded))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_with_any_optimizer_goes_on_bit_by_bit(store, optimizer):
    assert_goes_on_exactly(store, optimizer, "ConstantLR")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_training_with_any_scheduler_goes_on_bit_by_bit(store, scheduler):
    assert_goes_on_exactly(store, "SGD with momentum, two groups, names", scheduler)


def test_a_training_goes_on_bit_by_bit_in_another_process(tmp_path):
    with casckpt.init(tmp_path / "store") as store:
        state = begin(1)
        train(state, BEFORE)
        store.commit(state)
    losses = train(state, AFTER)
    words = ["-m", "tests.integration.trainings", str(tmp_path / "store"), "AdamW", "OneCycleLR", str(AFTER)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [losses, fingerprint(as_dicts(state))]


@pytest.mark.parametrize(("stored", "here"), [([1, 1], [2]), ([1, 0], [1, 1]), ([2], [1]), ([70], [71])])
def test_an_optimizer_of_other_groups_is_refused_and_all_is_as_it_was(store, stored, here):
    def training(sizes):
        model = torch.nn.Linear(2, 2)
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1)) for _ in range(size)]} for size in sizes]
        return {"model": model, "opt": torch.optim.SGD(groups, 0.1)}

    store.commit(training(stored))
    live = training(here)
    before = live["model"].weight.clone()
    shown = r"opt.*parameters in groups of " + r" \+ ".join(map(str, stored))
    with pytest.raises(errors.StateMismatch, match=shown):
        store.checkout(into=live)
    assert torch.equal(live["model"].weight, before)
    store.checkout(into=training(stored))
    store.commit({**training(stored), "opt": {"state": 3}})
    with pytest.raises(errors.StateMismatch, match="no state of an optimizer"):
        store.checkout(into=live)
    assert torch.equal(live["model"].weight, before)


def test_functions_of_a_scheduler_are_no_state_and_objects_are_by_their_attributes(store):
    for name, kept in (("LambdaLR", None), ("LambdaLR of an object", {"steps": 6})):
        store.commit({"sched": begin(1, "SGD", name)["sched"]})
        assert store.checkout()["sched"]["lr_lambdas"] == [kept]


# ---- loaders of data


class Drawn:
    """A dataset with a draw in each item, as augmentations have one."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.tensor([float(index), torch.rand(()).item(), np.random.random(), random.random()])


def loader(workers, seed):
    # Late: only these tests need it.
    from torchdata.stateful_dataloader import StatefulDataLoader

    generator = torch.Generator().manual_seed(seed)
    return StatefulDataLoader(Drawn(), 3, shuffle=True, num_workers=workers, generator=generator)


def indices(batches):
    return [batch[:, 0].tolist() for batch in batches]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_goes_on_with_the_next_batch(store, workers):
    """Which items come is the loader's state. What they draw in workers is not, and no library keeps that."""
    one = loader(workers, 1)
    batches = iter(one)
    for _ in range(3):
        next(batches)
    store.commit({"loader": one, "random": generators()})
    wanted = list(batches)
    assert len(wanted) == 5

    other = loader(workers, 2)
    state = store.checkout(into={"loader": other, "random": generators()})
    loaded = loader(workers, 3)
    loaded.load_state_dict(store.checkout()["loader"])
    for each in (other, loaded):
        batches = iter(each)
        set_generators(state["random"])  # after the iterator was made, which draws
        found = list(batches)
        assert indices(found) == indices(wanted)
        assert workers or all(map(torch.equal, found, wanted))


# ---- configurations


@dataclasses.dataclass
class Config:
    """As trainings keep them."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    out: Path = Path("out")
    names: list[str] = dataclasses.field(default_factory=list)


class Settings:
    """A class that says nothing of how it is stored."""

    def __init__(self):
        self.lr = 0.1


def test_the_usual_configurations_are_kept_as_they_are(store):
    state = {
        "dataclass": Config(0.1, names=["a"]),
        "namespace": argparse.Namespace(lr=0.1, amp=True, dtype=None),
        "simple": types.SimpleNamespace(depth=3),
        "dict": {"lr": 0.1, 3: "x"},
    }
    store.commit(state)
    assert store.checkout() == state


def test_a_configuration_of_a_class_that_is_not_here_is_shown_as_what_it_holds(store):
    source = "import dataclasses\n@dataclasses.dataclass\nclass Gone:\n    lr: float\n"
    module = types.ModuleType("configuration_of_another_program")
    sys.modules[module.__name__] = module
    exec(source, vars(module))
    store.commit({"config": module.Gone(0.5)})
    del sys.modules[module.__name__]
    with pytest.warns(casckpt.OpaqueWarning, match="configuration_of_another_program:Gone"):
        found = store.checkout()["config"]
    assert isinstance(found, casckpt.Opaque) and found.lr == 0.5
    with pytest.raises(errors.UnknownType, match="Gone"):
        store.checkout(strict=True)


def test_a_configuration_of_another_class_is_refused_with_the_ways_out(store):
    state = {"config": {"settings": Settings()}, "w": torch.ones(2)}
    with pytest.raises(errors.UnsupportedType, match=r"config/settings.*Settings") as found:
        store.commit(state)
    for way in ("skip=['config/settings']", "casckpt.register", "allow_pickle=['config/settings']"):
        assert way in str(found.value)
    store.commit({**state, "config": {"settings": vars(state["config"]["settings"])}})
    assert store.checkout()["config"] == {"settings": {"lr": 0.1}}
    store.commit(state, skip="config/settings")
    assert store.checkout()["config"] == {}
