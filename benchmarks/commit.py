"""How long does a durable commit take: the first, an unchanged one, one with 10 % changed?

    python -m benchmarks.commit [--mb 512] [--repeats 3] [--threads N] [--kind model|single|many] [--json FILE]

Peers: torch.save, safetensors and torch.distributed.checkpoint (dcp.save), each with fsync and without. A casckpt
commit is always durable, so the like-for-like rows are those with fsync. Limits of the machine in the same rounds:
BLAKE3 of the same tensors with the same threads in 1 MiB pieces (an unchanged commit cannot be faster), and writing
as many bytes by O_DIRECT in pieces of 8 MiB plus fdatasync (a first commit cannot be faster, if nothing shrinks).

Method: the cases take turns inside one process, each in a new folder with three saves: of the state, of the same
state, of the state with new values in 10 % of its bytes. Between saves, outside the timing, all files are flushed
and taken out of the page cache, and as much free memory as the state takes is touched, so that every save meets a
quiet disk and memory that is there. One round warms up. Unit: seconds; stored_mb is what the folder grew by on the
disk. Values are random normal fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import casckpt
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.machine import default_threads
from benchmarks.workbench.peers import PEERS, Peer
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.states import Flat

FIRST, UNCHANGED, CHANGED = "first commit", "unchanged commit", "10 % changed commit"
QUESTIONS = (FIRST, UNCHANGED, CHANGED)
HASHING, WRITING = "bare BLAKE3", "bare disk"

Save = Callable[[str], Any]
"""Saves the state, given the question it is saved for."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure. `start(folder)` gives what saves and what ends it; neither is measured."""

    name: str
    start: Callable[[Path], tuple[Save, Callable[[], object]]]
    questions: tuple[str, ...] = QUESTIONS
    absent: str = ""


def ours(state: Flat, threads: int, options: dict[str, str], folder: Path) -> tuple[Save, Callable[[], object]]:
    """Commits to a new store."""
    store = casckpt.init(folder / "store", threads=threads)
    return lambda _: store.commit(states.nested(state), **options), store.close


def theirs(state: Flat, peer: Peer, sync: bool, folder: Path) -> tuple[Save, Callable[[], object]]:
    """Saves under a new name each time, as a training that keeps its checkpoints does."""
    return lambda question: peer.save(state, folder / str(QUESTIONS.index(question)), sync), lambda: None


def hashing(state: Flat, threads: int, folder: Path) -> tuple[Save, Callable[[], object]]:
    """Hashes the state and nothing else."""
    views = states.views(state)
    return lambda _: limits.hash_all(views, threads), lambda: None


def writing(nbytes: int, folder: Path) -> tuple[Save, Callable[[], object]]:
    """Writes as many bytes and nothing else."""
    source = limits.memory(8 * limits.TASK)
    return lambda _: limits.write_all(folder / "bare", nbytes, source), lambda: None


def cases(state: Flat, threads: int, folder: Path) -> list[Case]:
    """Ourselves, the peers and the limits."""
    direct = "" if limits.takes_direct(folder) else "this file system has no O_DIRECT"
    return [
        Case("casckpt", partial(ours, state, threads, {})),
        Case("casckpt, compress=always", partial(ours, state, threads, {"compress": "always"})),
        *(
            Case(f"{peer.name}{' + fsync' * sync}", partial(theirs, state, peer, sync), absent=peer.absent)
            for peer in PEERS
            for sync in (True, False)
        ),
        Case(HASHING, partial(hashing, state, threads), (UNCHANGED,)),
        Case(WRITING, partial(writing, states.nbytes(state)), (FIRST,), direct),
    ]


def play(case: Case, state: Flat, folder: Path, results: Results) -> None:
    """Measure one case in a new folder and leave the disk quiet."""
    folder.mkdir()
    save, end = case.start(folder)
    stored = 0
    for question in case.questions:
        if question == CHANGED:
            states.edit(state, 0.1)
        limits.wake(states.nbytes(state))
        seconds = timed(partial(save, question))
        before, stored = stored, files.allocated(folder)
        results.add(question, case.name, seconds, stored_mb=(stored - before) / 1e6)
        # Else the next save pays for what this one left dirty.
        files.chill(folder)
    end()
    files.remove(folder)


def main() -> None:
    """Read the command line, measure, print."""
    options = parser(__doc__, mb=512, repeats=3)
    options.add_argument("--threads", type=int, default=default_threads())
    options.add_argument("--kind", choices=states.KINDS, default="model")
    arguments = options.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    with files.scratch(arguments.folder) as folder:
        results = begin("commit", folder, mb=arguments.mb, kind=arguments.kind, threads=threads)
        state = states.KINDS[arguments.kind](arguments.mb)
        everyone = cases(state, threads, folder)
        results.order = [case.name for case in everyone]
        for case in everyone:
            for question in case.questions if case.absent else ():
                results.absent(question, case.name, case.absent)
        present = [case for case in everyone if not case.absent]
        for number in results.rounds(arguments.repeats):
            for case in rotated(present, number):
                play(case, state, folder / "case", results)
        for question in QUESTIONS:
            results.print(question, base="casckpt")
        results.write(arguments.json)


if __name__ == "__main__":
    main()
