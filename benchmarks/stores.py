"""What do backup programs with deduplication take for the same checkpoints?

    python -m benchmarks.stores [--mb 512] [--repeats 3] [--threads N] [--json FILE]

restic and borg (Debian's packages) back up one .pt file that torch.save has already written: that writing is not
counted, which flatters them. restic encrypts and compresses (it cannot do without the first), borg uses no encryption
and lz4; neither may trust its cache of unchanged files, since a checkpoint is always a new file. casckpt commits the
live state, and, like for like, the same file (`commit_path`).

Method: the cases take turns; each has a new repository a round: first, unchanged, 10 % changed, restore. One round
warms up. Unit: seconds, children included; stored_mb is what the repository grew by on the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import casckpt
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.machine import default_threads
from benchmarks.workbench.peers import NOT_INSTALLED, TORCH
from benchmarks.workbench.programs import borg_environment, restic_environment, run
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.states import Flat

FIRST, UNCHANGED, CHANGED, RESTORE = "first", "unchanged", "10 % changed", "restore"
QUESTIONS = (FIRST, UNCHANGED, CHANGED, RESTORE)
FILE = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Store:
    """An open repository: what saves under a name, what restores the newest, what ends it."""

    save: Callable[[str], Any]
    restore: Callable[[], Any]
    end: Callable[[], object] = lambda: None


def restic(folder: Path, _state: Flat, threads: int) -> Store:
    """--force: read the file again, as a new file would be."""
    environment = restic_environment(folder, threads)
    run(folder, environment, "restic", "init")
    return Store(
        lambda name: run(folder, environment, "restic", "backup", "--force", "--tag", name, FILE),
        lambda: run(folder, environment, "restic", "restore", "latest", "--target", "out"),
    )


def borg(folder: Path, _state: Flat, _threads: int) -> Store:
    """--files-cache disabled: read the file again, as a new file would be."""
    environment = borg_environment(folder)
    run(folder, environment, "borg", "init", "--encryption", "none", "store")
    (folder / "out").mkdir()
    return Store(
        lambda name: run(folder, environment, "borg", "create", "--files-cache", "disabled", f"store::{name}", FILE),
        lambda: run(folder / "out", environment, "borg", "extract", f"{folder}/store::{QUESTIONS.index(CHANGED)}"),
    )


def live(folder: Path, state: Flat, threads: int) -> Store:
    """casckpt with the tensors themselves."""
    store = casckpt.init(folder / "store", threads=threads)
    return Store(lambda _: store.commit(states.nested(state)), store.checkout, store.close)


def file(folder: Path, _state: Flat, threads: int) -> Store:
    """casckpt with the written file."""
    store = casckpt.init(folder / "store", threads=threads)
    return Store(
        lambda _: store.commit_path(str(folder / FILE)),
        lambda: store.checkout_path("@", str(folder / "out")),
        store.close,
    )


CASES = {"casckpt, live state": live, "casckpt, the file": file, "restic": restic, "borg": borg}
PROGRAMS = {"restic", "borg"}


def play(name: str, state: Flat, folder: Path, threads: int, results: Results) -> None:
    """Measure one case with a new repository."""
    folder.mkdir()
    store = CASES[name](folder, state, threads)
    stored = files.allocated(folder / "store")
    for number, question in enumerate(QUESTIONS):
        if question == RESTORE:
            limits.wake(states.nbytes(state))
            results.add(question, name, timed(store.restore))
            continue
        if question == CHANGED:
            states.edit(state, 0.1)
        TORCH.save(state, folder / FILE, True)
        limits.wake(states.nbytes(state))
        seconds = timed(lambda number=number: store.save(str(number)))
        before, stored = stored, files.allocated(folder / "store")
        results.add(question, name, seconds, stored_mb=(stored - before) / 1e6)
    store.end()
    check(name, folder)
    files.flush(folder)
    files.remove(folder)


def check(name: str, folder: Path) -> None:
    """What restored a file must have restored the one that was saved last."""
    found = [path for path in files.files(folder / "out") if path.name == FILE or path == folder / "out"]
    for path in found if (folder / "out").exists() else []:
        if path.read_bytes() != (folder / FILE).read_bytes():
            raise SystemExit(f"{name} restored other bytes than were saved")


def main() -> None:
    """Read the command line, measure, print."""
    options = parser(__doc__, mb=512, repeats=3)
    options.add_argument("--threads", type=int, default=default_threads())
    arguments = options.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    with files.scratch(arguments.folder) as folder:
        results = begin("stores", folder, mb=arguments.mb, threads=threads)
        results.order = list(CASES)
        missing = {name for name in PROGRAMS if shutil.which(name) is None}
        for name in missing:
            for question in QUESTIONS:
                results.absent(question, name, NOT_INSTALLED)
        state = states.model(arguments.mb)
        present = [name for name in CASES if name not in missing]
        for number in results.rounds(arguments.repeats):
            for name in rotated(present, number):
                play(name, state, folder / "case", threads, results)
        for question in QUESTIONS:
            results.print(question, base="casckpt, live state")
        results.write(arguments.json)


if __name__ == "__main__":
    main()
