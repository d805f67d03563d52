"""How much is read, and how long does it take, to say how far the numbers of two commits are apart?

    python -m benchmarks.diff [--mb 1000] [--repeats 3] [--threads N] [--quick] [--check] [--json FILE]

Two states of --mb that share 90 % of their bytes: a tenth got new values, in whole tensors spread over the state. Asked
is, of every tensor that differs: length of the difference, also relative to the length before, largest difference,
cosine, share of the elements that changed, NaN and infinite ones. casckpt: `store.diff(values=True)`, as it is and with
`exact=True`, which also reads what is equal in tensors that changed in part. Peers measure the same with torch, in
fp32: both commits checked out; both files of `torch.save` loaded, and mapped. They pass over tensors that `torch.equal`
calls equal, as whoever writes this for large states soon does.

Method: the cases take turns in one process; a store is opened for each. Before the clock starts, as much free memory as
both states take is touched and given back. Cold means: the case's files were flushed and taken out of the page cache;
warm: they were read just before. One round warms up. What the cases found is compared.

Unit: seconds; read_mb is what the kernel counted as read from files (what is mapped it does not count), read_pct its
share of the bytes of both states, chunks_pct the same by the report of casckpt: plain bytes of the chunks it read.
--quick is one round with 64 MB. --check ends with 1 if one of its budgets (budgets.py) is missed; they are for 1 GB.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

import casckpt
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.machine import default_threads
from benchmarks.workbench.peers import TORCH
from benchmarks.workbench.results import Results, begin, parser
from benchmarks.workbench.states import Flat

WARM, COLD = "warm diff", "cold diff"
OURS, EXACT = "casckpt diff", "casckpt diff, exact"
CHECKOUT, LOAD, MAPPED = "checkout both, compare", "torch.load both, compare", "torch.load(mmap) both, compare"
SHARE = 0.1
CLOSE = 1e-3
NONE = 1e-5
"""How far two measures of the same may be apart, as a share of them or at all: sums of fp32 are not exact."""


class Measured(NamedTuple):
    """How far two tensors are apart. `relative` and `cosine` are None where not all was read."""

    l2: float
    relative: float | None
    largest: float
    cosine: float | None
    changed: float
    not_finite: tuple[int, int, int, int]


Found = dict[str, Measured]
"""By name, of the tensors that differ."""


def measured(before: Flat, after: Flat) -> Found:
    """The same measures with torch, of tensors in memory."""
    found = {}
    for name, old in before.items():
        new = after[name]
        if torch.equal(old, new):
            continue
        difference = new - old
        l2, length = (float(torch.linalg.vector_norm(one)) for one in (difference, old))
        product = length * float(torch.linalg.vector_norm(new))
        counts = [int(count(one).sum()) for count in (torch.isnan, torch.isinf) for one in (old, new)]
        found[name] = Measured(
            l2=l2,
            relative=l2 / length,
            largest=float(difference.abs_().max()),
            cosine=float(torch.dot(old.view(-1), new.view(-1))) / product,
            changed=int(torch.count_nonzero(old != new)) / old.numel(),
            not_finite=(counts[0], counts[1], counts[2], counts[3]),
        )
    return found


def ours(folder: Path, threads: int, reported: list[float], exact: bool = False) -> Found:
    """What `diff` says; the bytes it reports as read are added to `reported`."""
    with casckpt.open(folder / "store", threads=threads) as store:
        values = store.diff("before", "after", values=True, parts=("tree",), exact=exact).values
    assert values is not None
    reported.append(values.read_bytes)
    return {
        leaf.path.removeprefix("model/"): Measured(
            leaf.measures.l2,
            leaf.measures.relative,
            leaf.measures.largest,
            leaf.measures.cosine,
            leaf.measures.changed,
            (leaf.measures.nan_before, leaf.measures.nan_after, leaf.measures.inf_before, leaf.measures.inf_after),
        )
        for leaf in values.leaves
    }


def checked_out(folder: Path, threads: int, _: list[float]) -> Found:
    """Both commits in memory, compared."""
    with casckpt.open(folder / "store", threads=threads) as store:
        return measured(*(store.checkout(run)["model"] for run in ("before", "after")))


def loaded(folder: Path, _threads: int, _: list[float], mmap: bool = False) -> Found:
    """Both files in memory, or mapped, compared."""
    paths = (folder / "files" / name for name in ("before.pt", "after.pt"))
    return measured(*(torch.load(path, weights_only=True, mmap=mmap)["model"] for path in paths))


@dataclass(frozen=True, slots=True)
class Case:
    """One way to ask, and where its files are."""

    ask: Callable[[Path, int, list[float]], Found]
    place: str
    counted: bool = True
    """Whether the kernel counts what it reads."""


CASES = {
    OURS: Case(ours, "store"),
    EXACT: Case(partial(ours, exact=True), "store"),
    CHECKOUT: Case(checked_out, "store"),
    LOAD: Case(loaded, "files"),
    MAPPED: Case(partial(loaded, mmap=True), "files", counted=False),
}


def prepare(folder: Path, mb: int, threads: int) -> tuple[int, Found]:
    """Write both states as both do; the bytes of both, and what is to be found."""
    (folder / "files").mkdir()
    before = states.model(mb)
    after = {name: tensor.clone() for name, tensor in before.items()}
    states.edit(after, SHARE)
    with casckpt.init(folder / "store", threads=threads) as store:
        for name, state in (("before", before), ("after", after)):
            store.commit(states.nested(state), run=name)
            TORCH.save(state, folder / "files" / f"{name}.pt", False)
    files.flush(folder)
    return states.nbytes(before) + states.nbytes(after), measured(before, after)


def read_so_far() -> int:
    """Bytes that this process has read from files by calls, those in the page cache too."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def play(name: str, question: str, folder: Path, threads: int, both: tuple[int, Found], results: Results) -> None:
    """Measure one case, and compare what it found with what is to be found."""
    case, (nbytes, expected) = CASES[name], both
    (files.warm if question == WARM else files.chill)(folder / case.place)
    limits.wake(nbytes)
    found: list[Found] = []
    reported: list[float] = []
    before = read_so_far()
    seconds = timed(lambda: found.append(case.ask(folder, threads, reported)))
    read = read_so_far() - before
    quantities = {"read_mb": read / 1e6, "read_pct": 100 * read / nbytes} if case.counted else {}
    if reported:
        quantities["chunks_pct"] = 100 * reported[0] / nbytes
    if not agree(found[0], expected):
        raise SystemExit(f"{name}: other differences than there are")
    results.add(question, name, seconds, **quantities)


def agree(found: Found, expected: Found) -> bool:
    """Whether both say the same of the same tensors; what was not measured agrees."""
    return found.keys() == expected.keys() and all(
        found[name].not_finite == expected[name].not_finite
        and all(
            one is None or other is None or math.isclose(one, other, rel_tol=CLOSE, abs_tol=NONE)
            for one, other in zip(found[name][:5], expected[name][:5], strict=True)
        )
        for name in found
    )


def main() -> int:
    """Read the command line, measure, print; 1 if a budget was to be checked and is missed."""
    options = parser(__doc__, mb=1000, repeats=3)
    options.add_argument("--threads", type=int, default=default_threads())
    options.add_argument("--quick", action="store_true", help="one round with 64 MB")
    options.add_argument("--check", action="store_true", help="end with 1 if a budget is missed")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.mb, arguments.repeats = 64, 1
    torch.set_num_threads(arguments.threads)
    with files.scratch(arguments.folder) as folder:
        results = begin("diff", folder, mb=arguments.mb, shared=1 - SHARE, threads=arguments.threads)
        measure(arguments, folder, results)
    results.write(arguments.json)
    from benchmarks.run import judge  # which imports all benchmarks, this one too

    return 1 if judge(results) and arguments.check else 0


def measure(arguments: argparse.Namespace, folder: Path, results: Results) -> None:
    """All cases, warm and cold."""
    both = prepare(folder, arguments.mb, arguments.threads)
    results.order = list(CASES)
    for question in (WARM, COLD):
        for number in results.rounds(arguments.repeats):
            for name in rotated(list(CASES), number):
                play(name, question, folder, arguments.threads, both, results)
        results.print(question, base=OURS)


if __name__ == "__main__":
    sys.exit(main())
