"""How long does a verified checkout take in a fresh process, from a warm and from a cold page cache?

    python -m benchmarks.checkout [--mb 512] [--repeats 3] [--threads N] [--json FILE]

casckpt: into new memory, into existing tensors (into=), mapped (mmap=True, the one that is not verified on return).
Peers: torch.load, torch.load(mmap=True), the same copied into existing tensors, safetensors load_file, dcp.load
(always into existing tensors). Limits: reading as many bytes by O_DIRECT (cold), and copying them in memory, into
fresh pages and into used ones.

Method: every case is a process of its own that first does the same with a tiny state, so that no import is timed, and
at the end shows the BLAKE3 of all it loaded, which must be right. Before the clock starts, as much free memory as the
state takes is touched and given back, so that no case pays for memory that the machine had lent away. Cold means: the
case's files were flushed and taken out of the page cache (posix_fadvise DONTNEED); warm: they were read just before. A
host below a virtual machine may cache what this machine does not; the row of the bare disk meets the same. The cases
take turns; one round warms up.

Unit: seconds. wall_s and cpu_s count until the call has returned, touched_s and touched_cpu_s until every byte was
read once after that: what is mapped is paid for only then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import blake3
import torch

import casckpt
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.machine import ROOT, default_threads
from benchmarks.workbench.peers import DCP, SAFETENSORS, TORCH
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.states import Flat

WARM, COLD = "warm checkout", "cold checkout"
Load = Callable[[Path, Flat, int], Flat]
"""Loads from the folder of all copies; what to fill if the case fills something; threads."""
OPENED: list[casckpt.Store] = []


@dataclass(frozen=True, slots=True)
class Case:
    """One way to load: from which file or folder, whether into existing tensors."""

    load: Load
    place: str
    fills: bool = False
    absent: str = ""


def ours(folder: Path, target: Flat, threads: int, **options: Any) -> Flat:
    """A checkout from a store that is opened for it, and stays open: mapped tensors may need it."""
    if "into" in options:
        options["into"] = states.nested(target)
    OPENED.append(casckpt.open(folder / "store", threads=threads))
    return OPENED[-1].checkout(**options)["model"]


def torch_mapped(folder: Path, target: Flat, threads: int) -> Flat:
    """torch.load with its pages left in the file."""
    return torch.load(folder / "state.pt", weights_only=True, mmap=True)["model"]


def torch_copied(folder: Path, target: Flat, threads: int) -> Flat:
    """torch.load with its pages left in the file, copied over existing tensors."""
    for name, tensor in torch_mapped(folder, target, threads).items():
        target[name].copy_(tensor)
    return target


def dcp_load(folder: Path, target: Flat, threads: int) -> Flat:
    """dcp.load fills what it is given."""
    assert DCP.into
    DCP.into(folder / "dcp", target)
    return target


def loads(peer: Callable[[Path], Flat] | None, name: str) -> Load:
    """What a peer loads from its file."""
    assert peer
    return lambda folder, _target, _threads: peer(folder / name)


CASES = {
    "casckpt": Case(ours, "store"),
    "casckpt into=": Case(partial(ours, into=None), "store", fills=True),
    "casckpt mmap, unverified": Case(partial(ours, mmap=True), "store"),
    "casckpt mmap, verify=background": Case(partial(ours, mmap=True, verify="background"), "store"),
    "torch.load": Case(loads(TORCH.load, "state.pt"), "state.pt"),
    "torch.load(mmap)": Case(torch_mapped, "state.pt"),
    "torch.load(mmap), copied": Case(torch_copied, "state.pt", fills=True),
    "safetensors": Case(loads(SAFETENSORS.load, "state.safetensors"), "state.safetensors", absent=SAFETENSORS.absent),
    "dcp.load": Case(dcp_load, "dcp", fills=True, absent=DCP.absent),
}
READING, COPYING, COPYING_INTO = "bare disk", "memcpy, fresh pages", "memcpy, used pages"
LIMITS = {WARM: (COPYING, COPYING_INTO), COLD: (READING,)}


def digest(state: Flat) -> str:
    """BLAKE3 of all tensors in the order of their names."""
    hashed = blake3.blake3()
    for name in sorted(state):
        hashed.update(states.views({name: state[name]})[0])
    return hashed.hexdigest()


def touch(state: Flat) -> None:
    """Read every byte once."""
    for tensor in state.values():
        tensor.view(torch.int32).max()


def child_loads(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """What a child measures for one of the cases."""
    case = CASES[name]

    def target(copies: Path) -> Flat:
        shapes = json.loads((copies / "sizes.json").read_text())
        return {key: torch.full((count,), 1.0) for key, count in shapes.items()} if case.fills else {}

    case.load(folder / "tiny", target(folder / "tiny"), threads)
    into = target(folder)
    limits.wake((folder / "state.pt").stat().st_size)
    loaded: list[Flat] = []
    returned = timed(lambda: loaded.append(case.load(folder, into, threads)))
    touched = timed(partial(touch, loaded[0]))
    return {
        "wall_s": returned.wall,
        "cpu_s": returned.cpu,
        "touched_s": returned.wall + touched.wall,
        "touched_cpu_s": returned.cpu + touched.cpu,
        "digest": digest(loaded[0]),
    }


def child_limits(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """What a child measures for one of the limits."""
    nbytes = (folder / "state.pt").stat().st_size
    whole = -(-nbytes // limits.BLOCK) * limits.BLOCK
    if name == READING:
        target = limits.memory(whole)
        limits.wake(whole)
        seconds = timed(lambda: limits.read_all(folder / "state.pt", target, threads))
    else:
        source = memoryview(limits.memory(whole))
        fresh = memoryview(torch.empty(whole, dtype=torch.uint8).numpy())
        if name == COPYING_INTO:
            fresh[:] = source
        limits.wake(whole)
        seconds = timed(lambda: limits.copy_all([(fresh, source)], threads))
    return {
        "wall_s": seconds.wall,
        "cpu_s": seconds.cpu,
        "touched_s": seconds.wall,
        "touched_cpu_s": seconds.cpu,
        "digest": None,
    }


def copies(folder: Path, state: Flat, threads: int) -> None:
    """The state in every form that is loaded from."""
    with casckpt.init(folder / "store", threads=threads) as store:
        store.commit(states.nested(state))
    TORCH.save(state, folder / "state.pt", True)
    for peer, name in ((SAFETENSORS, "state.safetensors"), (DCP, "dcp")):
        if not peer.absent:
            peer.save(state, folder / name, True)
    (folder / "sizes.json").write_text(json.dumps({name: len(tensor) for name, tensor in state.items()}))


def play(name: str, question: str, folder: Path, threads: int, expected: str, results: Results) -> None:
    """Run one case in a process of its own."""
    place = folder / (CASES[name].place if name in CASES else "state.pt")
    (files.chill if question == COLD else files.warm)(place)
    command = ["-m", "benchmarks.checkout", "--child", name, "--folder", str(folder), "--threads", str(threads)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    measured = json.loads(done.stdout.splitlines()[-1])
    if measured.pop("digest") not in (expected, None):
        raise SystemExit(f"{name} loaded other bytes than were saved")
    results.add(question, name, **measured)


def measure(arguments: argparse.Namespace, folder: Path, threads: int) -> None:
    """All cases, warm and cold."""
    results = begin("checkout", folder, mb=arguments.mb, threads=threads)
    state = states.model(arguments.mb)
    copies(folder, state, threads)
    (folder / "tiny").mkdir()
    copies(folder / "tiny", states.model(2), threads)
    expected = digest(state)
    del state
    direct = limits.takes_direct(folder)
    results.order = [*CASES, READING, COPYING, COPYING_INTO]
    for question in (WARM, COLD):
        names = [name for name, case in CASES.items() if not case.absent]
        names += [name for name in LIMITS[question] if direct or name != READING]
        for name, case in CASES.items():
            if case.absent:
                results.absent(question, name, case.absent)
        if question == COLD and not direct:
            results.absent(COLD, READING, "this file system has no O_DIRECT")
        for number in results.rounds(arguments.repeats):
            for name in rotated(names, number):
                play(name, question, folder, threads, expected, results)
        results.print(question, base="casckpt", compared=("wall_s", "cpu_s", "touched_s", "touched_cpu_s"))
    results.write(arguments.json)


def main() -> None:
    """Read the command line; measure, or be the process of one case."""
    options = parser(__doc__, mb=512, repeats=3)
    options.add_argument("--threads", type=int, default=default_threads())
    options.add_argument("--child", metavar="CASE", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    if arguments.child:
        child = child_loads if arguments.child in CASES else child_limits
        print(json.dumps(child(arguments.child, arguments.folder, threads)))
        return
    with files.scratch(arguments.folder) as folder:
        measure(arguments, folder, threads)


if __name__ == "__main__":
    main()
