"""A process that commits and checks out large and odd states, and says how much memory that took.

    python -m tests.integration.large CASE STORE [ARGUMENT ...]

Each case is a process of its own, so that its memory is its own and is given back. It asserts itself that what comes
back is exact, and prints one JSON object a line for every operation that it measured: `what`, `grown` (most private
memory above the level at the call, in bytes), `kept` (the same after the call) and `seconds`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import casckpt

MIB = 1 << 20
SAMPLED_S = 0.001
POLICIES = ("off", "auto", "always")


# ---- memory


def anonymous_bytes() -> int:
    """Private memory of this process that is in use; what files are mapped does not count."""
    with open("/proc/self/status", "rb", buffering=0) as status:
        lines = status.read()
    at = lines.index(b"RssAnon:") + 8
    return int(lines[at : lines.index(b"kB", at)]) << 10


@contextmanager
def measured(what: str, **words: Any) -> Iterator[None]:
    """Print how far the memory rises while the body runs."""
    gc.collect()
    # What the allocator keeps from before would be taken first, and hide as much of what is used now.
    ctypes.CDLL(None).malloc_trim(0)
    level = highest = anonymous_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(SAMPLED_S):
            highest = max(highest, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    after = anonymous_bytes()
    said = {"what": what, "grown": max(highest, after) - level, "kept": after - level, "seconds": round(seconds, 2)}
    print(json.dumps(said | words), flush=True)


def warm(path: str) -> None:
    """Import everything and start what stays: libraries, their threads, their tables."""
    state = {
        "w": torch.randn(MIB // 4),
        "half": torch.randn(MIB // 2).bfloat16().reshape(1024, -1).T,
        "a": np.arange(MIB),
    }
    assert torch.equal(state["w"] + 1, 1 + state["w"])
    with casckpt.init(path + "-warm") as store:
        store.commit(state, compress="always")
        store.checkout()


def raw(tensor: torch.Tensor) -> Any:
    """The bytes of a contiguous tensor as words, without a copy."""
    return tensor.detach().view(torch.uint8).flatten().numpy()


def assert_same_bytes(one: Any, other: Any) -> None:
    """Compare two byte arrays piece by piece."""
    assert one.nbytes == other.nbytes
    for start in range(0, one.nbytes, 8 * MIB):
        assert np.array_equal(one[start : start + 8 * MIB], other[start : start + 8 * MIB]), start


# ---- contents


class Contents:
    """Cheap float-like contents: a window of normal numbers, with mantissa bits turned by what they are for."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._single = rng.standard_normal(8 * MIB, np.float32).view(np.uint32)
        self._half = (self._single >> 16).astype(np.uint16)

    def fill(self, tensor: torch.Tensor, number: int, version: int) -> None:
        """Fill a contiguous float32 or bfloat16 tensor: another number or version differs in nearly every word."""
        base = self._single if tensor.dtype is torch.float32 else self._half
        words = raw(tensor).view(base.dtype)
        step = len(base) // 2
        for part, start in enumerate(range(0, len(words), step)):
            target = words[start : start + step]
            at = (number * 40_961 + version * 1_000_003 + part * 7_919) % step
            turned = base.dtype.type((number * 31 + version * 17 + part) % 128)
            np.bitwise_xor(base[at : at + len(target)], turned, out=target)


def transformer_shapes(layers: int, width: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Parameters of a decoder with tied embeddings."""
    inner = 11 * width // 4
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary, width), "norm.weight": (width,)}
    for layer in range(layers):
        name = f"layers.{layer}"
        shapes |= {f"{name}.attention.{part}.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{name}.mlp.{part}.weight": (inner, width) for part in ("gate", "up")}
        shapes |= {f"{name}.mlp.down.weight": (width, inner)}
        shapes |= {f"{name}.{part}_norm.weight": (width,) for part in ("input", "output")}
    return shapes


def training_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, dict[str, torch.Tensor]]:
    """A bfloat16 model with float32 moments, not filled."""
    return {
        "model": {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in shapes.items()},
        "mean": {name: torch.empty(shape) for name, shape in shapes.items()},
        "variance": {name: torch.empty(shape) for name, shape in shapes.items()},
    }


def tensors_of(state: dict[str, dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    return [tensor for part in state.values() for tensor in part.values()]


# ---- cases


def many(path: str, share: str) -> None:
    """2 GB in many tensors: whole, then with a part of it new for each policy and number of threads.

    Args:
        share: one tensor in so many is new each time; with 1 all of them are.
    """
    contents, every = Contents(), int(share)
    shapes = transformer_shapes(3, 2048, 24_000)
    state = training_state(shapes)
    versions = [0] * len(tensors_of(state))
    for number, tensor in enumerate(tensors_of(state)):
        contents.fill(tensor, number, 0)
    nbytes = sum(tensor.nbytes for tensor in tensors_of(state))
    assert nbytes >= 2_000_000_000
    casckpt.init(path, threads=2).close()
    with casckpt.open(path, threads=2) as store:
        with measured("first", threads=2, compress="off", nbytes=nbytes):
            info = store.commit(state, compress="off")
        assert info.nbytes == nbytes <= info.added
    turn = 0
    for threads in (1, 2, 4):
        with casckpt.open(path, threads=threads) as store:
            for policy in POLICIES:
                turn += 1
                fresh = 0
                for number, tensor in enumerate(tensors_of(state)):
                    if (number + turn) % every == 0:
                        versions[number] = turn
                        contents.fill(tensor, number, turn)
                        fresh += tensor.nbytes
                with measured("new", threads=threads, compress=policy, nbytes=fresh):
                    info = store.commit(state, compress=policy)
                assert info.added <= fresh + MIB
                assert info.added >= (0.7 if policy == "always" else 0.1 if policy == "auto" else 1) * fresh
            with measured("unchanged", threads=threads, compress=policy, nbytes=0):
                info = store.commit(state, compress=policy)
            assert info.added < 64 << 10
    names = {part: list(tensors) for part, tensors in state.items()}
    types = [tensor.dtype for tensor in tensors_of(state)]
    sizes = [tensor.shape for tensor in tensors_of(state)]
    scratch = torch.empty(max(tensor.nbytes for tensor in tensors_of(state)), dtype=torch.uint8)
    del state, tensor
    for threads in (1, 4) if every == 1 else (4,):
        with casckpt.open(path, threads=threads) as store, measured("checkout", threads=threads, state=nbytes):
            found = store.checkout()
        assert {part: list(tensors) for part, tensors in found.items()} == names
        for number, tensor in enumerate(tensors_of(found)):
            assert tensor.dtype is types[number] and tensor.shape == sizes[number] and tensor.is_contiguous()
            expected = scratch[: tensor.nbytes].view(tensor.dtype)
            contents.fill(expected, number, versions[number])
            assert_same_bytes(raw(tensor), raw(expected))
        del found, tensor


def one(path: str) -> None:
    """One tensor of 2 GB, which no pack holds alone, then the same with its last byte changed."""
    contents = Contents()
    nbytes = 2_000_000_012
    tensor = torch.empty(nbytes // 4)
    contents.fill(tensor, 0, 0)
    casckpt.init(path).close()
    for threads, what in ((4, "first"), (1, "unchanged"), (2, "last word changed")):
        if what == "last word changed":
            tensor[-1] = 7.0
        with casckpt.open(path, threads=threads) as store, measured(what, threads=threads, compress="off"):
            info = store.commit({"w": tensor}, compress="off")
        if what == "first":
            assert info.added >= nbytes
            assert len(os.listdir(os.path.join(path, "packs"))) == 2
        else:
            assert info.added < 2 * MIB
    del tensor
    with casckpt.open(path, threads=4) as store, measured("checkout", threads=4, state=nbytes):
        found = store.checkout()["w"]
    assert found.dtype == torch.float32 and found.shape == (nbytes // 4,)
    expected = torch.empty(nbytes // 4)
    contents.fill(expected, 0, 0)
    expected[-1] = 7.0
    assert_same_bytes(raw(found), raw(expected))


def small(path: str) -> None:
    """20 000 small tensors of many lengths and types."""
    rng = np.random.default_rng(3)
    types = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float64, torch.complex64, torch.uint8)
    bits = torch.from_numpy(rng.integers(0, 2, 1 << 20, np.uint8))
    state: dict[str, Any] = {"model": {}, "optimizer": {"moments": []}}
    for number in range(20_000):
        length = 1 + number * 37 % 900
        at = number * 101 % (1 << 19)
        tensor = (bits[at : at + length].to(types[number % len(types)]) * number).to(types[number % len(types)])
        if number % 2:
            state["model"][f"w{number}"] = torch.nn.Parameter(tensor, requires_grad=False) if number % 3 else tensor
        else:
            state["optimizer"]["moments"].append(tensor)

    def leaves(state: dict[str, Any]) -> list[torch.Tensor]:
        return [*state["model"].values(), *state["optimizer"]["moments"]]

    nbytes = sum(tensor.nbytes for tensor in leaves(state))
    casckpt.init(path).close()
    for threads, policy in ((1, "auto"), (4, "always")):
        with casckpt.open(path, threads=threads) as store:
            for tensor in leaves(state)[threads::5]:
                raw(tensor)[0] ^= 1
            with measured("new", threads=threads, compress=policy, nbytes=nbytes):
                store.commit(state, compress=policy)
            with measured("unchanged", threads=threads, compress=policy):
                assert store.commit(state, compress=policy).added < 64 << 10
            with measured("checkout", threads=threads, state=nbytes):
                found = store.checkout()
            assert list(found["model"]) == list(state["model"])
            for mine, theirs in zip(leaves(state), leaves(found), strict=True):
                assert type(mine) is type(theirs) and mine.dtype is theirs.dtype
                assert mine.shape == theirs.shape and mine.requires_grad == theirs.requires_grad
                assert bytes(raw(mine)) == bytes(raw(theirs))
            del found


def folders(path: str, source: str, target: str) -> None:
    """A sparse file of 2 GB and a folder of 500 files, as a commit each, and back."""
    sparse, folder = Path(source) / "sparse.bin", Path(source) / "folder"
    written = make_files(sparse, folder)
    casckpt.init(path, threads=4).close()
    with casckpt.open(path, threads=4) as store:
        store.commit_path(__file__, run="warm")
        store.checkout_path("warm", Path(target) / "warm")
        open_before = descriptors()
        with measured("sparse, new", threads=4, compress="auto"):
            info = store.commit_path(sparse, run="sparse")
        assert info.nbytes == sparse.stat().st_size and info.added < 40 * MIB
        with measured("sparse, unchanged", threads=4, compress="auto"):
            assert store.commit_path(sparse, run="sparse").added < 64 << 10
        assert descriptors() <= open_before + 2
        for policy in ("off", "always"):
            with measured("folder", threads=4, compress=policy):
                store.commit_path(folder, run=f"folder-{policy}", compress=policy)  # type: ignore[arg-type]
        with measured("sparse, checkout", threads=4, state=0):
            store.checkout_path("sparse", Path(target) / "sparse.bin")
        with measured("folder, checkout", threads=4, state=0):
            store.checkout_path("folder-off", Path(target) / "folder")
        # By several callers at once, of which each has its own commit and its own target.
        errors: list[BaseException] = []

        def caller(number: int) -> None:
            try:
                store.commit_path(folder / f"part-{number}", run=f"caller-{number}")
                for turn in range(3):
                    store.checkout_path(f"caller-{number}", Path(target) / f"again-{number}-{turn}")
            except BaseException as error:
                errors.append(error)

        callers = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        assert not errors, errors
        # A pack is open twice at most: past the page cache, and through it.
        assert descriptors() <= open_before + 2 * len(os.listdir(os.path.join(path, "packs")))
    assert descriptors() <= open_before
    assert_same_file(sparse, Path(target) / "sparse.bin")
    for name in written:
        assert_same_file(folder / name, Path(target) / "folder" / "folder" / name)
        part, _, rest = name.partition("/")
        for turn in range(3):
            again = Path(target) / f"again-{part.removeprefix('part-')}-{turn}"
            assert_same_file(folder / name, again / part / rest)
    found = [Path(base, name) for base, _, names in os.walk(Path(target) / "folder") for name in names]
    assert len(found) == len(written)


def make_files(sparse: Path, folder: Path) -> list[str]:
    """Write the files; names of those in the folder."""
    rng = np.random.default_rng(5)
    with sparse.open("wb") as file:
        for at in (3, 700_000_001, 1_400_000_000):
            file.seek(at)
            file.write(rng.bytes(5_000_001))
        file.truncate(2_000_000_003)
    written = []
    block = rng.bytes(3 * MIB)
    for number in range(500):
        name = f"part-{number % 4}/{number % 7}/file {number}.bin"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        length = 0 if number % 50 == 0 else (number * 2_654_435_761) % (2 * MIB if number % 10 == 0 else 100_000)
        (folder / name).write_bytes(block[number * 1001 : number * 1001 + length])
        (folder / name).chmod(0o700 if number % 3 else 0o600)
        written.append(name)
    return written


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def assert_same_file(one: Path, other: Path) -> None:
    assert one.stat().st_size == other.stat().st_size
    assert one.stat().st_mode & 0o100 == other.stat().st_mode & 0o100
    with one.open("rb") as mine, other.open("rb") as theirs:
        while piece := mine.read(8 * MIB):
            assert piece == theirs.read(len(piece))


def main(arguments: Sequence[str]) -> None:
    case, path, *rest = arguments
    warm(path)
    if case == "odd":
        from tests.integration import odd

        odd.check(path, measured)
    elif case == "differing":
        from tests.integration import differing

        differing.check(path, measured)
    else:
        {"many": many, "one": one, "small": small, "folders": folders}[case](path, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
