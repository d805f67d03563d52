"""Plain bytes of chunks as training makes them, and the odd ones, by element type."""

from __future__ import annotations

import numpy as np
import torch

from casckpt.format.elements import ELEMENTS, word_bytes

NAMES = [name for name, _ in ELEMENTS]
KINDS = ["noise", "normal", "zeros", "same", "counting", "nan payloads", "negative zeros", "denormals", "half zeros"]
_FLOATS = {"float16", "bfloat16", "float32", "float64", *(name for name in NAMES if name.startswith("float8"))}
_PART = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}


def floats(values: np.ndarray, name: str) -> bytes:
    """Values rounded to an element type, or the nearest that stands for it: integers and bytes are scaled."""
    name = _PART.get(name, name)
    if name in _FLOATS:
        return torch.from_numpy(values).to(getattr(torch, name)).view(torch.uint8).numpy().tobytes()
    kind = "uint8" if name in ("bytes", "bool") else name
    scaled = np.clip(np.rint(values * 100), 0 if kind.startswith("u") else -127, 127)
    return scaled.astype(kind).tobytes()


def chunk(kind: str, name: str, length: int, seed: int = 0) -> bytes:
    """A chunk of so many bytes."""
    random = np.random.default_rng(seed)
    element = NAMES.index(name)
    width = word_bytes(element)
    count = length // width + 1
    top = 1 << 8 * width - 1
    if kind == "noise":
        plain = random.bytes(count * width)
    elif kind == "normal":
        plain = floats(random.standard_normal(count * 2) * 0.05, name)
    elif kind == "zeros":
        plain = bytes(count * width)
    elif kind == "same":
        plain = random.bytes(width) * count
    elif kind == "counting":
        plain = np.arange(count).astype(f"<u{width}").tobytes()
    elif kind == "nan payloads":
        # The exponent of every float of two bytes and more is within the top twelve bits.
        plain = (random.integers(0, top, count, dtype=np.uint64) | top - (top >> 11)).astype(f"<u{width}").tobytes()
    elif kind == "negative zeros":
        plain = np.full(count, top, np.uint64).astype(f"<u{width}").tobytes()
    elif kind == "denormals":
        plain = random.integers(0, max(top >> 11, 2), count, dtype=np.uint64).astype(f"<u{width}").tobytes()
    else:
        half = np.repeat(random.random(count * 2 // 64 + 1) < 0.5, 64)[: count * 2]
        plain = floats(np.where(half, random.standard_normal(count * 2), 0.0), name)
    assert len(plain) >= length
    return plain[:length]
