"""Are the budgets met? All benchmarks one after the other, small, and one table at the end.

    python -m benchmarks.run [--mb 256] [--repeats 3] [--out build/bench] [--folder DIR] [--only NAME ...]

Every benchmark runs in a process of its own and writes its raw JSON into --out. A budget is for 1 GB (--mb 1000); with
less, fixed costs weigh more, and trainings are small ones that are not judged. "not measured" names such a case, or one
that could not run here; the tables above say why.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.budgets import BUDGETS, Budget
from benchmarks.workbench.machine import ROOT
from benchmarks.workbench.results import Results

# The share of --mb and the repeats, where they are not those of all: a fresh process a case is slow to start.
SIZES = {"small": 100, "codecs": 32}
REPEATS = {"checkout": 2, "small": 2, "memory": 1, "trainings": 1}
COUNTED = ("history", "gc", "trainings")
"""Those of which the size is a number of commits, or of models."""
FULL_MB = 1000
BENCHMARKS = (
    *("commit", "checkout", "small", "asynchronous", "memory", "stores", "codecs", "diff", "history", "gc"),
    *("remotes", "trainings"),
)


def run(name: str, mb: int, repeats: int, out: Path, folder: Path | None) -> bool:
    """Run one benchmark; whether it ended well."""
    file = out / f"{name}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
    command += ["--repeats", str(min(repeats, REPEATS.get(name, repeats)))]
    command += ["--mb", str(SIZES.get(name, mb))] if name not in COUNTED else []
    command += ["--quick"] if name == "trainings" and mb < FULL_MB else []
    command += ["--folder", str(folder.resolve())] if folder else []
    print(flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def line(budget: Budget, figure: float | None) -> str:
    """One row of the table."""
    limit = budget.bound()
    if figure is None:
        return f"{budget.what:48s} {limit:>12s}   not measured"
    return f"{budget.what:48s} {limit:>12s} {figure:8.2f} {budget.unit:2s} {'yes' if budget.met(figure) else 'NO'}"


HEAD = f"\n{'budget':48s} {'':>12s} {'measured':>11s} met"


def judge(results: Results) -> list[Budget]:
    """Print the budgets of one benchmark beside what was measured; those that are missed."""
    print(HEAD)
    missed = []
    for budget in BUDGETS:
        if budget.benchmark == results.benchmark:
            figure = budget.measure(results)
            print(line(budget, figure))
            if figure is not None and not budget.met(figure):
                missed.append(budget)
    return missed


def table(out: Path) -> None:
    """Every budget beside what was measured."""
    found = {path.stem: Results.read(path) for path in sorted(out.glob("*.json"))}
    print(HEAD)
    for budget in BUDGETS:
        results = found.get(budget.benchmark)
        print(line(budget, budget.measure(results) if results else None))


def main() -> int:
    """Read the command line; 1 if a benchmark failed. A budget that is missed is a finding, not a failure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mb", type=int, default=256)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    options.add_argument("--folder", type=Path, metavar="DIR", help="where files go (default: the temporary folder)")
    options.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME")
    arguments = options.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    failed = [name for name in arguments.only if not run(name, arguments.mb, arguments.repeats, out, arguments.folder)]
    table(out)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
