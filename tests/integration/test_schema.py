"""A program whose state changed its shape: old checkpoints go into the new model, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

import casckpt
from casckpt.errors import DamagedLeaf, MigrationNotFound, PickleBlocked, StateMismatch
from tests.strategies import assert_same_state, states

pytestmark = pytest.mark.filterwarnings("ignore::casckpt.SchemaWarning")

SIZE = 300


@pytest.fixture
def name() -> str:
    """A schema of which no other test has registered steps."""
    return uuid.uuid4().hex


def old_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(SIZE, SIZE), torch.nn.Linear(SIZE, SIZE))


class NewModel(torch.nn.Module):
    """The old model with its layers named, their order of calls the same, and tied to a copy of the first bias."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(SIZE, SIZE)
        self.decoder = torch.nn.Linear(SIZE, SIZE)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(values))  # type: ignore[no-any-return]


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}


def trained(model: torch.nn.Module, steps: int, seed: int) -> torch.optim.Optimizer:
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = model(torch.randn(8, SIZE)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    """Version 2 gives the layers names."""
    model = state["model"]
    layers = {"0": "encoder", "1": "decoder"}
    for key in list(model):
        layer, _, rest = key.partition(".")
        model[f"{layers[layer]}.{rest}"] = model.pop(key)
    if hasattr(model, "_metadata"):
        metadata = model._metadata
        model._metadata = type(metadata)((layers.get(key, key), value) for key, value in metadata.items())
    return state


def wrapped(state: dict[str, Any]) -> dict[str, Any]:
    """Version 3 keeps the progress apart."""
    return {"model": state["model"], "optimizer": state["optimizer"], "progress": {"step": state["step"], "seen": 0}}


def test_an_old_checkpoint_goes_into_the_new_model_and_the_training_goes_on_bit_for_bit(
    tmp_path: Path, name: str
) -> None:
    old = old_model()
    optimizer = trained(old, 3, seed=1)
    with casckpt.init(tmp_path / "store") as store:
        store.commit(state_of(old, optimizer, 3), schema=(name, 1), step=3)
    casckpt.migration(name, 1, 2)(renamed)
    casckpt.migration(name, 2, 3)(wrapped)
    new = NewModel()
    moments = trained(new, 1, seed=2)
    live = wrapped(state_of(new, moments, 0))
    tensors = {key: value.data_ptr() for key, value in live["model"].items()}
    with casckpt.open(tmp_path / "store") as store:
        assert store.checkout(into=live) is live
    assert live["progress"] == {"step": 3, "seen": 0}
    assert {key: value.data_ptr() for key, value in live["model"].items()} == tensors
    moments.load_state_dict(live["optimizer"])
    for model, its in ((old, optimizer), (new, moments)):
        torch.manual_seed(3)
        for _ in range(2):
            loss = model(torch.randn(8, SIZE)).square().mean()
            its.zero_grad()
            loss.backward()
            its.step()
    assert all(torch.equal(one, other) for one, other in zip(old.parameters(), new.parameters(), strict=True))


def test_a_model_that_does_not_fit_stays_as_it_is(tmp_path: Path, name: str) -> None:
    with casckpt.init(tmp_path / "store") as store:
        old = old_model()
        store.commit(state_of(old, trained(old, 1, seed=1), 1), schema=(name, 1))
        casckpt.migration(name, 1, 2)(renamed)
        new = NewModel()
        live = {"model": new.state_dict(), "optimizer": {}, "step": 0}
        before = {key: value.clone() for key, value in live["model"].items()}
        with pytest.raises(StateMismatch, match="optimizer/state"):
            store.checkout(into=live)
        assert all(torch.equal(live["model"][key], value) for key, value in before.items())
        assert (live["optimizer"], live["step"]) == ({}, 0)


def test_damage_leaves_the_live_state_alone(tmp_path: Path, name: str) -> None:
    state = {key: np.random.default_rng(number).bytes(600_000) for number, key in enumerate("ab")}
    with casckpt.init(tmp_path / "store") as store:
        store.commit(
            {key: np.frombuffer(value, "u1") for key, value in state.items()}, schema=(name, 1), compress="off"
        )
        casckpt.migration(name, 1, 2)(lambda state: {"c": state["a"], "d": state["b"]})
        (pack,) = (tmp_path / "store" / "packs").iterdir()
        content = bytearray(pack.read_bytes())
        content[content.index(state["b"]) + 500_000] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(content)
        live = {key: np.zeros(600_000, "u1") for key in "cd"}
        for words in ({}, {"verify": "first"}):
            with pytest.raises(DamagedLeaf, match="b of commit"):
                store.checkout(into=live, **words)  # type: ignore[arg-type]
        assert not any(value.any() for value in live.values())


def test_memory_that_two_leaves_share_goes_into_memory_that_they_share(tmp_path: Path, name: str) -> None:
    casckpt.migration(name, 1, 2)(lambda state: {"x": state["a"], "y": state["b"]})
    shared = torch.arange(6.0)
    with casckpt.memory() as store:
        store.commit({"a": shared, "b": shared.view(2, 3)}, schema=(name, 1))
        store.commit({"a": shared, "b": torch.arange(6.0).view(2, 3) + 1}, schema=(name, 1))
        place = torch.zeros(6)
        live = {"x": place, "y": place.view(2, 3)}
        store.checkout("@~1", into=live)
        assert torch.equal(place, shared)
        with pytest.raises(StateMismatch):
            store.checkout(into=live)


def _has_memory_as_metadata(state: Any) -> bool:
    if isinstance(state, dict):
        metadata = getattr(state, "__dict__", {}).get("_metadata")
        return hasattr(metadata, "nbytes") or any(map(_has_memory_as_metadata, state.values()))
    return isinstance(state, list | tuple) and any(map(_has_memory_as_metadata, state))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(states(), states())
def test_whatever_a_step_makes_arrives_in_a_live_state_of_its_shape(old: Any, made: Any) -> None:
    if made is None:
        made = {}
    # What is put as a whole, as a `_metadata`, shares no memory with what is overwritten in place.
    assume(not _has_memory_as_metadata(made))
    name = uuid.uuid4().hex
    with casckpt.memory() as store:
        store.commit(old, schema=(name, 1))
        store.commit(made, run="made")
        casckpt.migration(name, 1, 2)(lambda state: made)
        assert store.checkout("main") is made
        live = [store.checkout("made")]
        wrapped_name = uuid.uuid4().hex
        store.commit(old, run="wrapped", schema=(wrapped_name, 1))
        casckpt.migration(wrapped_name, 1, 2)(lambda state: [made])
        assert_same_state(store.checkout("wrapped", into=live), [store.checkout("made")])


READER = """
import sys
import casckpt
from casckpt.errors import NewerSchema

store = casckpt.open(sys.argv[1], read_only=True)
print(store.checkout("last") == {"w": [1.0]}, store.fsck().ok)
casckpt.migration(sys.argv[2], 1, 2)(lambda state: state)
try:
    store.checkout("last")
except NewerSchema as error:
    print(error.summary)
"""


def test_another_program_reads_what_it_has_no_steps_for_and_checks_what_is_required(tmp_path: Path, name: str) -> None:
    with casckpt.init(tmp_path / "store") as store:
        commit = store.commit({"w": [1.0]}, schema=casckpt.Schema(name, 3, ["w"]))
        casckpt.migration(name, 4, 5)(renamed)
        with pytest.raises(MigrationNotFound):
            store.checkout()
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "store"), name],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["True True", f"commit {commit.short} holds version 3 of the schema '{name}'"]


@dataclass
class Config:
    """What a state holds of a class of its own."""

    lr: float


def test_values_of_classes_are_migrated_and_put_like_others(tmp_path: Path, name: str) -> None:
    with casckpt.init(tmp_path / "store") as store:
        store.commit({"config": Config(0.5), "seen": {3, 1}}, schema=(name, 1))
        casckpt.migration(name, 1, 2)(
            lambda state: {"run": {"config": Config(state["config"].lr * 2)}, "ids": state["seen"]}
        )
        live: dict[str, Any] = {"run": {"config": Config(0.0)}, "ids": set()}
        assert store.checkout(into=live) == {"run": {"config": Config(1.0)}, "ids": {1, 3}}
        schema = casckpt.Schema(name, 2, ["run/config/lr", "ids/*"])
        assert store.migrate(schema=schema).required == ("ids/*", "run/config/lr")
        assert store.fsck("full").ok


def test_a_step_may_make_an_object_with_a_state_dict(tmp_path: Path, name: str) -> None:
    old, made = old_model(), NewModel()
    with casckpt.memory() as store:
        store.commit({"model": old.state_dict()}, schema=(name, 1))
        casckpt.migration(name, 1, 2)(lambda state: {"model": made, "step": 1})
        new = NewModel()
        tensors = new.state_dict()
        for live in ({"model": tensors, "step": 0}, {"model": new, "step": 0}):
            new.load_state_dict(NewModel().state_dict())
            store.checkout(into=live)
            assert live["model"] in (tensors, new)
            assert all(torch.equal(tensors[key], value) for key, value in made.state_dict().items())


class Odd:
    """A value that only a pickle can store."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Odd, ()


def test_pickles_are_run_and_made_by_consent_only(tmp_path: Path, name: str) -> None:
    with casckpt.memory() as store:
        store.commit({"odd": Odd()}, schema=(name, 1), allow_pickle=True)
        casckpt.migration(name, 1, 2)(lambda state: {"kept": state["odd"]})
        with pytest.raises(PickleBlocked):
            store.checkout()
        with pytest.raises(PickleBlocked):
            store.migrate()
        live = {"kept": None}
        store.checkout(into=live, allow_pickle=True)
        assert type(live["kept"]) is Odd
        store.migrate(allow_pickle=True)
        assert type(store.checkout(allow_pickle="kept")["kept"]) is Odd
