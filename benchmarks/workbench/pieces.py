"""Checkpoints as runs of bytes of one element type, at most 1 MiB each: what codecs and chains are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import blake3
import torch

from benchmarks.workbench.trainings import State, kinds
from casckpt.format.elements import element_code

PIECE = 1 << 20


class Piece(NamedTuple):
    """Bytes and the code of their element type."""

    element: int
    plain: bytes


def pieces(tensors: Sequence[torch.Tensor]) -> list[bytes]:
    """Tensors cut as a store cuts them: large ones alone, small ones joined, nothing longer than 1 MiB."""
    found, small = [], b""
    for tensor in tensors:
        raw = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        if len(raw) >= PIECE // 4:
            found += [raw[at : at + PIECE] for at in range(0, len(raw), PIECE)]
        elif len(small) + len(raw) > PIECE:
            found, small = [*found, small], raw
        else:
            small += raw
    return [*found, small] if small else found


def pieces_of(state: State) -> list[Piece]:
    """All tensors of a checkpoint, kind by kind. Other values are left out, which flatters who stores only these."""
    found = []
    for tensors in kinds(state).values():
        element = element_code(str(tensors[0].dtype).removeprefix("torch."))
        found += [Piece(element, piece) for piece in pieces(tensors)]
    return found


def digest(plains: Sequence[Any]) -> bytes:
    """BLAKE3 of pieces, one after the other: what was restored must have that of what was stored."""
    hasher = blake3.blake3()
    for plain in plains:
        hasher.update(plain)
    return hasher.digest()
