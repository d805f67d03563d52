"""What do 20 000 small tensors cost to save and to load, in CPU seconds of one thread?

    python -m benchmarks.small [--mb 100] [--tensors 20000] [--repeats 3] [--json FILE]

Peers: torch.save and safetensors, to a file and to memory (no file system in the way), and dcp.save; none of them
flushes here, while a casckpt commit and checkout do what they always do: durable, verified.

Method: all cases take turns in one process with one thread each; one round warms up. Unit: seconds; the figure that
counts is cpu_s.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import casckpt
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.peers import PEERS, SAFETENSORS, TORCH
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.states import Flat

FIRST, UNCHANGED, LOAD = "first save", "unchanged save", "load"
MEMORY = ", in memory"
AWAKE = 256 << 20
"""Bytes of free memory that are touched before a case, more than any case takes."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something that saves twice and loads, in a folder of its own."""

    name: str
    start: Callable[[Path], tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]]
    """Gives what saves, what loads, and what ends it (which is not measured)."""
    absent: str = ""


def cases(state: Flat) -> Iterator[Case]:
    """Ourselves, peers with files, peers in memory."""

    def ours(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        store = casckpt.init(folder / "store", threads=1)
        return lambda: store.commit(states.nested(state)), store.checkout, store.close

    yield Case("casckpt", ours)
    for peer in PEERS:

        def theirs(folder: Path, peer: Any = peer) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
            numbers, target = iter("01"), {name: torch.zeros_like(tensor) for name, tensor in state.items()}
            load = (lambda: peer.load(folder / "1")) if peer.load else (lambda: peer.into(folder / "1", target))
            return lambda: peer.save(state, folder / next(numbers), False), load, lambda: None

        yield Case(peer.name, theirs, peer.absent)
    yield Case(TORCH.name + MEMORY, lambda _: torch_memory(state))
    yield Case(SAFETENSORS.name + MEMORY, lambda _: safetensors_memory(state), SAFETENSORS.absent)


def torch_memory(state: Flat) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """torch.save and torch.load without a file."""
    held = io.BytesIO()

    def save() -> None:
        held.seek(0)
        torch.save(state, held)

    def load() -> Any:
        held.seek(0)
        return torch.load(held, weights_only=True)

    return save, load, held.close


def safetensors_memory(state: Flat) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """safetensors without a file."""
    import safetensors.torch

    held: list[bytes] = []
    return (
        lambda: held.append(safetensors.torch.save(state)),
        lambda: safetensors.torch.load(held[-1]),
        held.clear,
    )


def play(case: Case, folder: Path, results: Results) -> None:
    """Measure one case and leave the disk quiet."""
    folder.mkdir()
    save, load, end = case.start(folder)
    for question, action in ((FIRST, save), (UNCHANGED, save), (LOAD, load)):
        limits.wake(AWAKE)
        results.add(question, case.name, timed(action))
    end()
    files.flush(folder)
    files.remove(folder)


def main() -> None:
    """Read the command line, measure, print."""
    options = parser(__doc__, mb=100, repeats=3)
    options.add_argument("--tensors", type=int, default=20_000)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    with files.scratch(arguments.folder) as folder:
        results = begin("small", folder, mb=arguments.mb, tensors=arguments.tensors, threads=1)
        everyone = list(cases(states.many(arguments.mb, arguments.tensors)))
        results.order = [case.name for case in everyone]
        for case in everyone:
            for question in (FIRST, UNCHANGED, LOAD) if case.absent else ():
                results.absent(question, case.name, case.absent)
        present = [case for case in everyone if not case.absent]
        for number in results.rounds(arguments.repeats):
            for case in rotated(present, number):
                play(case, folder / "case", results)
        for question in (FIRST, UNCHANGED, LOAD):
            results.print(question, base="casckpt")
        results.write(arguments.json)


if __name__ == "__main__":
    main()
