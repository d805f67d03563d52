"""A small language model trained on the CPU over Python source, checkpointed with casckpt: what a user would write.

    python tools/demo/train.py STORE [--steps 120] [--every 10]

It can be killed at any moment, inside a commit too: started again with the same words it goes on from the last
commit and ends with the same bits as a training that was never interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import sysconfig
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import casckpt

RUN = "gpt"
WIDTH, HEADS, CONTEXT, BATCH = 128, 4, 64, 16
CORPUS_BYTES = 1_000_000
VALIDATION_BYTES = 50_000
FREEZE_AT = 0.5  # of all steps: from here on only the top of the model is tuned


class Block(nn.Module):
    """One transformer layer: causal attention and an MLP, both with dropout and a residual."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map activations (batch, time, WIDTH) to the same shape."""
        batch, time, _ = x.shape
        q, k, v = (part.view(batch, time, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm_1(x)).chunk(3, 2))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, time, WIDTH)))
        return x + self.dropout(self.mlp(self.norm_2(x)))


class Model(nn.Module):
    """A byte-level GPT whose output layer is tied to its embedding."""

    def __init__(self, layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 256, bias=False)
        self.head.weight = self.embed.weight
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (batch, time) of int64 to logits (batch, time, 256)."""
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def corpus() -> torch.Tensor:
    """Bytes of Python's own library on this machine, the same at every call: shape (CORPUS_BYTES,), uint8."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= CORPUS_BYTES:
            break
    return torch.frombuffer(text[:CORPUS_BYTES], dtype=torch.uint8)


def batch(text: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random windows of the text and the bytes that follow them, both (BATCH, CONTEXT)."""
    starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=generator)
    windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()]).long()
    return windows[:, :-1], windows[:, 1:]


@torch.no_grad()
def validation_loss(model: Model, text: torch.Tensor) -> float:
    """Mean loss over fixed windows of the held-out text; leaves the random state as it was."""
    model.eval()
    tokens, targets = batch(text, torch.Generator().manual_seed(1))
    loss = functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()
    model.train()
    return loss


def fingerprint(model: Model, losses: list[float]) -> str:
    """One hash of all parameters and the whole loss log."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    digest.update(",".join(loss.hex() for loss in losses).encode())
    return digest.hexdigest()


def train(arguments: argparse.Namespace) -> None:
    """Train, committing every so many steps; print a line a step and the fingerprint at the end."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    text = corpus()
    training, held_out = text[:-VALIDATION_BYTES], text[-VALIDATION_BYTES:]
    model = Model(arguments.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sampler = torch.Generator().manual_seed(2)
    step, losses = 0, []

    exists = (Path(arguments.store) / "format").exists()
    store = casckpt.open(arguments.store) if exists else casckpt.init(arguments.store)
    if store.runs():
        state = store.checkout(f"{RUN}/last")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, losses = state["step"], state["losses"]
        sampler.set_state(state["rng"]["sampler"])
        torch.set_rng_state(state["rng"]["torch"])
        print(f"resumed from step {step}", flush=True)

    frozen = [*model.embed.parameters(), *model.position.parameters(), *model.blocks[:-1].parameters()]
    while step < arguments.steps:
        if step == int(arguments.steps * FREEZE_AT):
            optimizer.zero_grad()
        if step >= arguments.steps * FREEZE_AT:
            for parameter in frozen:
                parameter.requires_grad_(False)
        tokens, targets = batch(training, sampler)
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step, losses = step + 1, [*losses, loss.item()]
        print(f"step {step} loss {losses[-1]:.4f}", flush=True)
        if step % arguments.every == 0 or step == arguments.steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "rng": {"torch": torch.get_rng_state(), "sampler": sampler.get_state()},
                "step": step,
                "losses": losses,
            }
            print(f"committing {step}", flush=True)
            metrics = {"train/loss": losses[-1], "val/loss": validation_loss(model, held_out)}
            commit = store.commit(state, run=RUN, step=step, metrics=metrics, best="val/loss:min")
            print(f"committed {step} {commit.id}", flush=True)
    store.close()
    print(f"fingerprint {fingerprint(model, losses)}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--layers", type=int, default=4)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
