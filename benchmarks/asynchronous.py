"""How long does a commit in the background block the training?

    python -m benchmarks.asynchronous [--mb 512] [--repeats 5] [--threads N] [--json FILE]

casckpt: `commit(wait=False)`, and for comparison the commit that waits. Limit: one copy of the state from memory to
memory with all threads. Peers: dcp.async_save as it comes and with a stager that keeps its copy, torch.save.

Method: the cases take turns in one process; each ends (result()) before the next begins, and one round warms up, so
all kept memory is warm. Every round edits a tenth of the state first. Unit: seconds; wall_s and cpu_s are what passed
until the call returned, done_s until the data was saved.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import casckpt
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import Seconds, cpu_seconds, rotated
from benchmarks.workbench.machine import default_threads
from benchmarks.workbench.peers import DCP, TORCH
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.states import Flat

QUESTION = "until the call returns"
OURS, COPY, CACHED = "casckpt wait=False", "memcpy", "dcp.async_save, copy kept"
WAITING, ASYNC_DCP = "casckpt wait=True", "dcp.async_save"

Start = Callable[[int], Callable[[], Any]]
"""Starts saving, given a fresh number; returns what waits for the end."""


def done() -> None:
    """Nothing is left to wait for."""


@contextlib.contextmanager
def group(folder: Path) -> Iterator[None]:
    """A process group of this process alone, which dcp.async_save asks for."""
    import torch.distributed as dist

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def dcp_cases(state: Flat, folder: Path) -> dict[str, Start]:
    """dcp.async_save with a new copy each time, and with one that is kept."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

    # Pinned memory and copies on a stream need an accelerator.
    stager = DefaultStager(
        StagingOptions(
            use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
        )
    )

    def start(number: int, **options: Any) -> Callable[[], Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            future = dcp.async_save({"model": state}, checkpoint_id=folder / str(number), **options)
        return future.result

    return {ASYNC_DCP: start, CACHED: lambda number: start(number, async_stager=stager)}


def copying(state: Flat, threads: int) -> Start:
    """One copy into memory that is there already."""
    arena = memoryview(limits.memory(states.nbytes(state)))
    pairs, start = [], 0
    for view in states.views(state):
        pairs.append((arena[start : start + len(view)], view))
        start += len(view)

    def copy(_: int) -> Callable[[], Any]:
        limits.copy_all(pairs, threads)
        return done

    return copy


def cases(state: Flat, store: casckpt.Store, folder: Path, threads: int) -> dict[str, Start]:
    """All that can run here."""

    def waits(_: int) -> Callable[[], Any]:
        store.commit(states.nested(state))
        return done

    def returns(_: int) -> Callable[[], Any]:
        return store.commit(states.nested(state), wait=False).result

    def torch_save(number: int) -> Callable[[], Any]:
        TORCH.save(state, folder / str(number), True)
        return done

    made: dict[str, Start] = {OURS: returns, COPY: copying(state, threads), WAITING: waits}
    return made | ({} if DCP.absent else dcp_cases(state, folder)) | {"torch.save + fsync": torch_save}


def play(name: str, start: Start, number: int, results: Results) -> None:
    """Measure one case from its call to its end."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    wait = start(number)
    blocked = Seconds(time.perf_counter() - wall, cpu_seconds() - cpu)
    wait()
    results.add(QUESTION, name, blocked, done_s=time.perf_counter() - wall)


def main() -> None:
    """Read the command line, measure, print."""
    options = parser(__doc__, mb=512, repeats=5)
    options.add_argument("--threads", type=int, default=default_threads())
    arguments = options.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    with files.scratch(arguments.folder) as folder, ExitStack() as stack:
        results = begin("asynchronous", folder, mb=arguments.mb, threads=threads)
        state = states.model(arguments.mb)
        store = stack.enter_context(casckpt.init(folder / "store", threads=threads))
        saves = folder / "saves"
        saves.mkdir()
        if not DCP.absent:
            stack.enter_context(group(folder))
        found = cases(state, store, saves, threads)
        results.order = [OURS, COPY, WAITING, ASYNC_DCP, CACHED]
        if DCP.absent:
            results.absent(QUESTION, ASYNC_DCP, DCP.absent)
        for number in results.rounds(arguments.repeats):
            for place, (name, start) in enumerate(rotated(list(found.items()), number)):
                states.edit(state, 0.1)
                limits.wake(states.nbytes(state))
                play(name, start, number * len(found) + place, results)
                files.flush(saves)
                for saved in saves.iterdir():
                    files.remove(saved)
        results.print(QUESTION, base=OURS if OURS in found else WAITING)
        results.write(arguments.json)


if __name__ == "__main__":
    main()
