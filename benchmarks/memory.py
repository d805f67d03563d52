"""How much memory does a commit or a checkout need beyond the state, and does that grow with the state?

    python -m benchmarks.memory [--mb 512] [--repeats 1] [--threads N] [--json FILE]

Method: every case is a process of its own, for states of 1/16, 1/4 and all of --mb. A thread reads
/proc/self/status every half millisecond; `peak` is the highest sum of RssAnon (private) and RssShmem (shared
anonymous memory, which RssAnon does not count) above the level at the call. The page cache is not counted. For what
returns a state of its own, the bytes of that state are taken off; for wait=False the staged copy is not, since it is
real. safetensors maps its file, so nothing is taken off. Each process first does the same with a tiny state, so that
imports do not count. Unit: 10^6 bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import casckpt
from benchmarks.workbench import files, states
from benchmarks.workbench.machine import ROOT, default_threads
from benchmarks.workbench.peers import DCP, PEERS, TORCH
from benchmarks.workbench.results import begin, parser
from benchmarks.workbench.states import Flat

INTERVAL_S = 0.0005
COUNTED = ("RssAnon:", "RssShmem:")
OURS = "casckpt commit, first"


def resident() -> int:
    """Anonymous bytes of this process in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(COUNTED))


def peak_of(action: Callable[[], Any]) -> int:
    """The highest level above that at the call, in bytes, while `action` runs."""
    gc.collect()
    level = resident()
    highest, stop = [level], threading.Event()

    def sample() -> None:
        while not stop.wait(INTERVAL_S):
            highest[0] = max(highest[0], resident())

    sampler = threading.Thread(target=sample)
    sampler.start()
    result = action()
    highest[0] = max(highest[0], resident())
    stop.set()
    sampler.join()
    del result
    return highest[0] - level


@dataclass(frozen=True, slots=True)
class Case:
    """What to watch: `prepare(state, folder, threads)` gives the action. `returns` says that it makes a new state."""

    prepare: Callable[[Flat, Path, int], Callable[[], Any]]
    returns: bool = False
    absent: str = ""


def commits(state: Flat, folder: Path, threads: int, before: float | None = None, **options: Any) -> Callable[[], Any]:
    """A commit; if `before` is a share, after a commit of the state before that share of it was edited."""
    store = casckpt.init(folder, threads=threads)
    if before is not None:
        store.commit(states.nested(state))
        states.edit(state, before)
    return lambda: finished(store.commit(states.nested(state), **options))


def finished(commit: Any) -> Any:
    """The commit itself, waited for if it is still under way."""
    return commit.result() if hasattr(commit, "result") else commit


def checks_out(state: Flat, folder: Path, threads: int, into: bool = False) -> Callable[[], Any]:
    """A checkout of the state."""
    store = casckpt.init(folder, threads=threads)
    store.commit(states.nested(state))
    return partial(store.checkout, into=states.nested(state)) if into else store.checkout


def saves(state: Flat, folder: Path, _threads: int, save: Callable[[Flat, Path, bool], None]) -> Callable[[], Any]:
    """What a peer does to save."""
    return lambda: save(state, folder, True)


def peer_loads(
    state: Flat,
    folder: Path,
    _threads: int,
    save: Callable[[Flat, Path, bool], None],
    load: Callable[[Path], Flat] | None,
) -> Callable[[], Any]:
    """What a peer does to load; into the existing tensors if it knows no other way."""
    save(state, folder, True)
    if load:
        return lambda: load(folder)
    assert DCP.into
    return partial(DCP.into, folder, state)


CASES = {
    OURS: Case(commits),
    "casckpt commit, unchanged": Case(partial(commits, before=0.0)),
    "casckpt commit, 10 % changed": Case(partial(commits, before=0.1)),
    "casckpt commit, compress=always": Case(partial(commits, compress="always")),
    "casckpt commit, wait=False": Case(partial(commits, wait=False)),
    "casckpt checkout": Case(checks_out, returns=True),
    "casckpt checkout into=": Case(partial(checks_out, into=True)),
    **{peer.name: Case(partial(saves, save=peer.save), absent=peer.absent) for peer in PEERS},
    **{
        f"{peer.name.removesuffix('.save')} load": Case(
            partial(peer_loads, save=peer.save, load=peer.load), returns=peer is TORCH, absent=peer.absent
        )
        for peer in PEERS
    },
}


def child(name: str, mb: int, folder: Path, threads: int) -> float:
    """Peak of one case in 10^6 bytes."""
    case = CASES[name]
    # Else the thread that works may keep the one that samples waiting for ten of its intervals.
    sys.setswitchinterval(INTERVAL_S)
    case.prepare(states.model(2), folder / "tiny", threads)()
    state = states.model(mb)
    peak = peak_of(case.prepare(state, folder / "full", threads))
    return (peak - (states.nbytes(state) if case.returns else 0)) / 1e6


def play(name: str, mb: int, folder: Path, threads: int) -> float:
    """Peak of one case, in a process of its own."""
    folder.mkdir()
    command = ["-m", "benchmarks.memory", "--child", name, "--folder", str(folder)]
    command += ["--threads", str(threads), "--mb", str(mb)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    files.remove(folder)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Read the command line; measure, or be the process of one case."""
    options = parser(__doc__, mb=512, repeats=1)
    options.add_argument("--threads", type=int, default=default_threads())
    options.add_argument("--child", metavar="CASE", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    if arguments.child:
        print(json.dumps(child(arguments.child, arguments.mb, arguments.folder, threads)))
        return
    with files.scratch(arguments.folder) as folder:
        sizes = [size for size in (arguments.mb // 16, arguments.mb // 4, arguments.mb) if size]
        results = begin("memory", folder, reading="Medians of the peaks.", sizes=sizes, threads=threads)
        results.order = list(CASES)
        for mb in sizes:
            question = f"peak beyond the state, {mb} MB"
            for name, case in CASES.items():
                if case.absent:
                    results.absent(question, name, case.absent)
                    continue
                for _ in range(arguments.repeats):
                    results.add(question, name, peak_mb=play(name, mb, folder / "case", threads))
            results.print(question, base=OURS)
        results.write(arguments.json)


if __name__ == "__main__":
    main()
