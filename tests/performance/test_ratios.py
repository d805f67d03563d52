"""Commit and checkout cost no more CPU than so many times a yardstick measured beside them.

The limits leave room for a noisy machine of two cores; the last test shows that they still catch what they must: it
makes every commit and checkout do extra passes over the state, and each guard has to report it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blake3
import pytest
import torch

import casckpt
from benchmarks.workbench import limits, states
from benchmarks.workbench.peers import TORCH
from benchmarks.workbench.states import Flat
from tests.performance.guard import Guard, Prepare, breach

pytestmark = pytest.mark.slow

MB = 96
MANY_MB = 100
NAMES = ("unchanged commit", "first commit", "checkout into live tensors", "commit of small tensors")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of torch would add CPU seconds of waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Flat:
    return states.model(MB)


@pytest.fixture(scope="module")
def many() -> Flat:
    return states.many(MANY_MB)


@pytest.fixture
def guards(tmp_path: Path, model: Flat, many: Flat) -> Iterator[Callable[[str], Guard]]:
    """A guard by its name, with stores of its own."""
    opened: list[casckpt.Store] = []
    numbers = itertools.count()

    def store() -> casckpt.Store:
        for old in opened:
            old.close()
        opened[:] = [casckpt.init(tmp_path / f"store{next(numbers)}", threads=1)]
        return opened[0]

    def first(state: Flat) -> Callable[[], Any]:
        fresh = store()
        return lambda: fresh.commit(states.nested(state))

    def torch_save(state: Flat, sync: bool) -> Callable[[], Any]:
        return lambda: TORCH.save(state, tmp_path / "state.pt", sync)

    def made(name: str) -> Guard:
        if name == "commit of small tensors":
            return Guard(name, lambda: first(many), lambda: torch_save(many, False), most=0.45, repeats=3)
        if name == "first commit":
            return Guard(name, lambda: first(model), lambda: torch_save(model, True), most=1.0)
        kept = store()
        kept.commit(states.nested(model))
        views = states.views(model)
        if name == "unchanged commit":
            ours: Prepare = lambda: lambda: kept.commit(states.nested(model))  # noqa: E731
            return Guard(name, ours, lambda: lambda: limits.hash_all(views, 1), most=1.5)
        # Into memory there is: fresh memory is mostly page faults, whose price depends on how torn the machine's is.
        live = states.nested({key: torch.zeros_like(tensor) for key, tensor in model.items()})
        return Guard(
            name, lambda: lambda: kept.checkout(into=live), lambda: lambda: limits.hash_all(views, 1), most=2.8
        )

    yield made
    for old in opened:
        old.close()


def waste(state: Flat) -> None:
    """Passes over the state that nobody asked for: tensor by tensor copied twice and hashed; small ones six times."""
    for _ in range(6 if len(state) > 1000 else 1):
        for tensor in state.values():
            blake3.blake3(tensor.clone().numpy().tobytes()).digest()


@pytest.fixture
def wasteful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit and checkout do needless work."""
    commit, checkout = casckpt.Store.commit, casckpt.Store.checkout

    def slow_commit(self: casckpt.Store, state: Any, **options: Any) -> Any:
        waste(state["model"])
        return commit(self, state, **options)

    def slow_checkout(self: casckpt.Store, *arguments: Any, **options: Any) -> Any:
        state = checkout(self, *arguments, **options)
        waste(state["model"])
        return state

    monkeypatch.setattr(casckpt.Store, "commit", slow_commit)
    monkeypatch.setattr(casckpt.Store, "checkout", slow_checkout)


@pytest.mark.parametrize("name", NAMES)
def test_it_costs_no_more_cpu_than_allowed(name: str, guards: Callable[[str], Guard]) -> None:
    guard = guards(name)
    assert breach(guard) == ""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("wasteful")
def test_needless_passes_over_the_state_are_reported(name: str, guards: Callable[[str], Guard]) -> None:
    guard = guards(name)
    assert guard.what in breach(guard, attempts=1)
