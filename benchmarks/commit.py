"""How long a checkpoint takes, durable, against torch.save: first, unchanged, 10 % changed, and back again.

    python benchmarks/commit.py [--mb 512] [--repeats 3] [--json FILE] [--folder DIR]

Every case ends with its data on the disk (fsync). The cases alternate inside one process, so that ratios compare
like with like on a busy machine too; CPU seconds (user and system, all threads) are the steadier figure. The state is
fp32 values of a normal distribution in tensors of a transformer's shapes, which neither side can compress.

A commit bypasses the page cache, so the first checkout after it reads from the disk (cold); torch.load finds its file
in the page cache (warm), and so does the second checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import casckpt

State = dict[str, Any]


def make_state(megabytes: int) -> State:
    """A state of about so many MB: layers of five tensors."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((1024, 1024), (1024, 4096), (4096, 1024), (1024,), (4096,))
    layer = sum(torch.Size(shape).numel() for shape in shapes) * 4
    layers = max(1, megabytes * 1_000_000 // layer)
    return {
        f"layer{number}": {str(k): torch.randn(shape, generator=generator) for k, shape in enumerate(shapes)}
        for number in range(layers)
    }


def touch(state: State, share: float) -> None:
    """Change the values of about this share of the layers."""
    names = list(state)
    for name in names[: max(1, round(len(names) * share))]:
        for tensor in state[name].values():
            tensor.add_(1)


def torch_save(state: State, path: Path) -> None:
    """torch.save with its data on the disk."""
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def measure(action: Callable[[], Any]) -> tuple[float, float]:
    """(wall, CPU) seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def cases(store: casckpt.Store, state: State, path: Path) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """(name, what to prepare, what to measure), in order."""

    def nothing() -> None:
        pass

    def commit() -> None:
        store.commit(state)

    return [
        ("torch.save + fsync", nothing, lambda: torch_save(state, path)),
        ("casckpt first", nothing, commit),
        ("casckpt unchanged", nothing, commit),
        ("casckpt 10 % changed", lambda: touch(state, 0.1), commit),
        ("torch.load, warm", nothing, lambda: torch.load(path)),
        ("casckpt checkout, cold", nothing, store.checkout),
        ("casckpt checkout, warm", nothing, store.checkout),
    ]


def run(folder: Path, state: State, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Alternate all cases `repeats` times after one unmeasured round."""
    results: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(repeats + 1):
        root = folder / f"store{repeat}"
        with casckpt.init(root) as store:
            for name, prepare, action in cases(store, state, folder / "state.pt"):
                prepare()
                seconds = measure(action)
                if repeat:
                    results.setdefault(name, []).append(seconds)
        shutil.rmtree(root)
    return results


def report(results: dict[str, list[tuple[float, float]]], megabytes: float) -> list[dict[str, Any]]:
    """Print a table of medians with ratios to the peer, and return it."""
    rows = []
    print(f"{'case':28s} {'wall s':>8s} {'cpu s':>8s} {'MB/s':>7s}   peer's wall / ours, peer's cpu / ours")
    for name, seconds in results.items():
        peer = "torch.load, warm" if "checkout" in name else "torch.save + fsync"
        wall, cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
        peer_wall, peer_cpu = (statistics.median(column) for column in zip(*results[peer], strict=True))
        ratio = "" if name == peer else f"{peer_wall / wall:.2f}, {peer_cpu / cpu:.2f}"
        print(f"{name:28s} {wall:8.3f} {cpu:8.3f} {megabytes / wall:7.0f}   {ratio}")
        rows.append({"case": name, "wall_s": [s[0] for s in seconds], "cpu_s": [s[1] for s in seconds]})
    return rows


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every single measurement here")
    parser.add_argument("--folder", type=Path, help="where the files go (default: the temporary folder)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="casckpt-bench-", dir=arguments.folder))
    try:
        state = make_state(arguments.mb)
        size = sum(tensor.nbytes for layer in state.values() for tensor in layer.values()) / 1e6
        print(f"{size:.0f} MB, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}")
        rows = report(run(folder, state, arguments.repeats), size)
        if arguments.json:
            facts = {"mb": size, "cores": os.cpu_count(), "machine": platform.machine(), "argv": sys.argv[1:]}
            arguments.json.write_text(json.dumps({**facts, "cases": rows}, indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
