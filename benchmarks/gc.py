"""How long does the collector look at a large store, and how much memory does that take?

    python -m benchmarks.gc [--commits 10000] [--chunks 1000] [--repeats 3] [--only NAME ...] [--check] [--json FILE]

Every commit lists so many chunks of 1 MiB; a tenth of them, or all, are its own. The stores are made by the benchmark:
all but the bytes of the chunks is real, and those are holes in sparse files. Measured are `plan_gc`, the same again in
the same open store, and at last `gc`, which removes the packs of the older half of the commits once they are dropped.

Method: every measurement is a process of its own. cpu_s counts user and system time of all its threads, peak_mb is the
most memory it ever had (VmHWM: with its imports and the pages of the index that it touched). The page cache is warm.

Unit: seconds, 10^6 bytes. --check ends with 1 if a budget (budgets.py) is missed; they are for the default sizes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import casckpt
from benchmarks.workbench import files
from benchmarks.workbench.clock import timed
from benchmarks.workbench.large_store import Shape, drop_all, make_store
from benchmarks.workbench.machine import ROOT
from benchmarks.workbench.results import begin, parser

TENTH, ALL = "a tenth is changed", "all is changed"
HALF = ", half is dropped"
QUESTIONS = (TENTH, TENTH + HALF, ALL, ALL + HALF)
PLAN, AGAIN, GC = "plan_gc", "plan_gc again", "gc"
READING = "Medians."


def peak_mb() -> float:
    """The most memory that this process ever had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def child(store: Path, *, collects: bool) -> dict[str, Any]:
    """Measure in this process."""
    found: dict[str, Any] = {}
    with casckpt.open(store) as opened:
        actions = {GC: partial(opened.gc, repack=False)} if collects else {PLAN: opened.plan_gc, AGAIN: opened.plan_gc}
        for name, action in actions.items():
            seconds = timed(action)
            found[name] = {"wall_s": seconds.wall, "cpu_s": seconds.cpu, "peak_mb": peak_mb()}
    return found


def measured(store: Path, *, collects: bool = False) -> dict[str, Any]:
    """What a fresh process measures."""
    command = ["-m", "benchmarks.gc", "--child", str(store), *(["--collects"] if collects else [])]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Read the command line; measure, or be the process of one case. 1 if a budget was to be checked and is missed."""
    options = parser(__doc__, mb=None, repeats=3)
    options.add_argument("--commits", type=int, default=10_000)
    options.add_argument("--chunks", type=int, default=1_000, help="that each commit lists (default 1000)")
    options.add_argument("--only", nargs="+", choices=("tenth", "all"), default=("tenth", "all"), metavar="NAME")
    options.add_argument("--check", action="store_true", help="end with 1 if a budget is missed")
    options.add_argument("--child", type=Path, metavar="STORE", help=argparse.SUPPRESS)
    options.add_argument("--collects", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, collects=arguments.collects)))
        return 0
    with files.scratch(arguments.folder) as folder:
        results = begin("gc", folder, reading=READING, commits=arguments.commits, chunks=arguments.chunks)
        results.order = [PLAN, AGAIN, GC]
        for name, question in (("tenth", TENTH), ("all", ALL)):
            if name not in arguments.only:
                continue
            store = folder / name
            fresh = arguments.chunks // 10 if question == TENTH else arguments.chunks
            commits = make_store(store, Shape(arguments.commits, arguments.chunks, fresh))
            for asked in (question, question + HALF):
                if asked != question:
                    drop_all(store, commits[: len(commits) // 2])
                for _ in results.rounds(arguments.repeats):
                    for case, figures in measured(store).items():
                        results.add(asked, case, **figures)
                if asked != question:
                    for case, figures in measured(store, collects=True).items():
                        results.add(asked, case, **figures)
                results.print(asked, base=PLAN, compared=())
            files.remove(store)
        results.write(arguments.json)
    from benchmarks.run import judge  # which imports all benchmarks, this one too

    return 1 if judge(results) and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
