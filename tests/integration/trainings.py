"""Trainings of plain torch that draw from every generator there is; each runs the same way from the same state.

python -m tests.integration.trainings STORE OPTIMIZER SCHEDULER STEPS    goes on from the last commit; prints how
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

import casckpt

State = dict[str, Any]

# ---- optimizers


def _two_groups(model: nn.Module) -> list[dict[str, Any]]:
    weights = [pair for pair in model.named_parameters() if pair[0].endswith("weight")]
    others = [pair for pair in model.named_parameters() if not pair[0].endswith("weight")]
    return [{"params": weights, "weight_decay": 0.1}, {"params": others, "lr": 0.02}]


OPTIMIZERS: dict[str, Callable[[nn.Module], Any]] = {
    name: lambda model, kind=kind: kind(model.parameters(), lr=0.01)
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
"""Every optimizer of torch as it is by default, those that a new release adds too, and some as they are not."""

OPTIMIZERS |= {
    "Muon": lambda model: torch.optim.Muon([value for value in model.parameters() if value.dim() == 2], lr=0.01),
    "LBFGS with line search": lambda model: torch.optim.LBFGS(
        model.parameters(), max_iter=3, history_size=4, line_search_fn="strong_wolfe"
    ),
    "SGD with momentum, two groups, names": lambda model: torch.optim.SGD(_two_groups(model), lr=0.1, momentum=0.9),
    "AdamW, amsgrad, fused": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True, fused=True),
    "Adam, lr a tensor": lambda model: torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01)),
    "RMSprop, centered": lambda model: torch.optim.RMSprop(model.parameters(), lr=0.01, momentum=0.5, centered=True),
}

# ---- schedulers


class Warmup:
    """A function with a state, which a LambdaLR keeps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, epoch: int) -> float:
        return min(1.0, (epoch + 1) / self.steps)


def _chained(optimizer: Any) -> Any:
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(optimizer, 0.5, total_iters=6), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    )


def _sequential(optimizer: Any) -> Any:
    warm, cool = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, 9)
    return lr_scheduler.SequentialLR(optimizer, [warm, cool], milestones=[5])


_ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda _: 0.9),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 3),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 5, 5, 7]),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "SequentialLR": _sequential,
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "ChainedScheduler": _chained,
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.2),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
    "SWALR": lambda optimizer: swa_utils.SWALR(optimizer, 0.05, anneal_epochs=5),
}

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    name: _ARGUMENTS.get(name, lambda optimizer, kind=kind: kind(optimizer))
    for name, kind in [*vars(lr_scheduler).items(), ("SWALR", swa_utils.SWALR)]
    if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler)
    if kind not in (lr_scheduler.LRScheduler, lr_scheduler._LRScheduler)
}
"""Every scheduler of torch, those that a new release adds too, and some that are put together otherwise."""

SCHEDULERS |= {
    "LambdaLR of an object": lambda optimizer: lr_scheduler.LambdaLR(optimizer, Warmup(6)),
    "CyclicLR with a function": lambda optimizer: lr_scheduler.CyclicLR(
        optimizer, 0.01, 0.1, step_size_up=3, scale_fn=lambda cycle: 1 / cycle
    ),
}

# ---- the training


class Network(nn.Module):
    """An embedding, normalised and dropped out; its first layer gives sparse gradients if asked."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 8, sparse=sparse)
        self.rest = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, words: torch.Tensor) -> Any:
        return self.rest(self.words(words))


def generators() -> State:
    """The states of the generators of this process, as these give them."""
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}


def set_generators(states: State) -> None:
    """Go on drawing from where these states were taken."""
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])


def begin(seed: int, optimizer: str = "AdamW", scheduler: str = "OneCycleLR") -> State:
    """A new training: live objects, counters and generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model: nn.Module = Network(sparse=optimizer == "SparseAdam")
    if optimizer == "SparseAdam":
        model.rest.requires_grad_(False)
    trained = nn.ModuleList([model.words]) if optimizer == "SparseAdam" else model
    opt = OPTIMIZERS[optimizer](trained)
    return {
        "model": model,
        "opt": opt,
        "sched": SCHEDULERS[scheduler](opt),
        "scaler": torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3),
        "ema": swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True),
        "step": 0,
        "random": generators(),
    }


def train(state: State, steps: int) -> list[str]:
    """Make steps; the losses, to the bit. Every generator has a say in each."""
    set_generators(state["random"])
    losses = [_step(state) for _ in range(steps)]
    state["random"] = generators()
    return losses


def _step(state: State) -> str:
    model, opt, scaler = state["model"], state["opt"], state["scaler"]
    words = torch.randint(12, (6,)) if random.random() < 0.5 else torch.from_numpy(np.random.randint(12, size=6))
    wanted = torch.randn(6, 1) + np.random.standard_normal() + random.random()
    scaled = type(opt).__name__ not in ("LBFGS", "SparseAdam")  # torch cannot unscale for these

    def closure() -> Any:
        opt.zero_grad()
        loss = nn.functional.mse_loss(model(words), wanted)
        (scaler.scale(loss) if scaled else loss).backward()
        return loss

    loss = closure() if scaled else opt.step(closure)
    if scaled:
        scaler.step(opt)
        scaler.update()
    state["ema"].update_parameters(model)
    needs_metric = isinstance(state["sched"], lr_scheduler.ReduceLROnPlateau)
    state["sched"].step(*([loss.item()] if needs_metric else []))
    state["step"] += 1
    return float(loss.detach()).hex()


def as_dicts(state: State) -> State:
    """The state with state dicts in place of objects."""
    return {key: one.state_dict() if hasattr(one, "state_dict") else one for key, one in state.items()}


def load_dicts(state: State, stored: State) -> State:
    """Put a state that was checked out into live objects, by their own `load_state_dict`."""
    for key, value in stored.items():
        if hasattr(state[key], "load_state_dict"):
            state[key].load_state_dict(value)
        else:
            state[key] = value
    return state


def fingerprint(value: Any) -> str:
    """Equal for states that are equal to the bit."""
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(piece)
    return total.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield repr(key).encode()
            yield from _pieces(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _pieces(child)
    elif isinstance(value, torch.Tensor):
        yield repr((value.dtype, value.shape, value.stride())).encode()
        yield value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    else:
        yield repr(value).encode()


def main(folder: str, optimizer: str, scheduler: str, steps: str) -> None:
    """Continue what was committed and say how it went."""
    torch.set_num_threads(1)  # as in the tests: how a sum is split among threads is seen in its last bit
    state = begin(99, optimizer, scheduler)
    with casckpt.open(folder) as store:
        store.checkout(into=state)
    losses = train(state, int(steps))
    print(json.dumps([losses, fingerprint(as_dicts(state))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
