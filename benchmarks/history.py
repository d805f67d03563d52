"""How long does a command take that looks at a store of 10 000 commits?

    python -m benchmarks.history [--commits 10000] [--repeats 11] [--check] [--json FILE]

The commits belong to 20 runs: five begin from nothing, each of the others in the middle of one that was there before.
They are made through the API, with tiny states. Asked are log, log --graph, status, runs, ranges, filters, a comparison
of two runs, and completion as bash asks for it.

Method: a command is a process of its own that does what the installed `casckpt` does, its output a pipe, or a terminal
where the case says so; its bytecode is cached. The cases take turns; one round warms up. In the same rounds: a Python
that does nothing, which no command can be faster than; and git, with a repository of as many commits on as many
branches, made by `git fast-import`.

Unit: seconds of the process, its start included. --check ends with 1 if one of its
budgets (budgets.py) is missed; they are for 10 000 commits.
"""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import casckpt
from benchmarks.workbench import files
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.machine import ROOT
from benchmarks.workbench.results import begin, parser

QUESTION = "a command"
BARE = "python -c pass"
LOG, GRAPH, GRAPH_ALL = "log -n 20", "log --graph -n 50", "log --graph --all -n 50"
STATUS, RUNS, HELP = "status", "runs", "--help"
RANGE, STEPS = "log --oneline run-15..run-19", "log --oneline run-19@step=100..run-19"
WHERE, WHERE_RUN = "log --all -w 'step = 60'", "log --oneline -r run-19 -w 'step > 40 and val/loss < 0.03'"
BROAD = "log --all --oneline -w 'lr < 0.01'"
"""Half of all commits fit: its output takes longer than its question, so it has no budget."""
COMPARE = "compare run-18 run-19"
TERMINAL = ", on a terminal"
LINES = {
    "completion: show run-1": "casckpt show run-1",
    "completion: log -r run-": "casckpt log -r run-",
    "completion: compare run-01 run-02 -k v": "casckpt compare run-01 run-02 -k v",
}
ENTRY = "from casckpt.cli.__main__ import entry; entry()"
"""What the installed `casckpt` does."""
READING = f"Medians; x = this case / {BARE}."
BRANCHES, FIRST_ONES = 20, 5


def generations(commits: int) -> Iterator[tuple[int, int, int | None]]:
    """The commits in the order in which they are made: run, how many that run had, at which of another it begins.

    The runs of a generation take turns. A run of a later one begins in the middle of the one five numbers before.
    """
    each = commits // BRANCHES
    for first in range(0, BRANCHES, FIRST_ONES):
        for number in range(each):
            for run in range(first, first + FIRST_ONES):
                yield run, number, each // 2 if first and not number else None


def name(run: int) -> str:
    """What a run and a branch are called; `run-19` is the last."""
    return f"run-{run:02}"


def make_store(path: Path, commits: int) -> None:
    """Commit so often; the steps of a run go on from where it begins."""
    steps = [0] * BRANCHES
    with casckpt.init(path) as store:
        for run, number, middle in generations(commits):
            if middle is not None:
                steps[run] = steps[run - FIRST_ONES] - middle
                store.fork_run(f"{name(run - FIRST_ONES)}~{middle}", name(run))
            steps[run] += 1
            loss = 2 / (steps[run] + 1)
            store.commit(
                {"step": steps[run], "w": [float(run), loss]},
                run=name(run),
                step=steps[run],
                metrics={"val/loss": loss * (1 + run / 100), "train/loss": loss, "lr": 0.1 / (1 + run)},
                best="val/loss:min" if number == 0 else None,
                config={"optim": {"lr": 0.1 / (1 + run)}, "seed": run},
            )


def make_repository(path: Path, commits: int) -> None:
    """The same history for git."""
    marks: dict[int, list[int]] = {}
    lines = []
    for mark, (run, number, middle) in enumerate(generations(commits), start=1):
        text = f"step {number}"
        lines += [f"commit refs/heads/{name(run)}", f"mark :{mark}"]
        lines += [f"committer B <b@example.org> {10**9 + mark} +0000", f"data {len(text)}", text]
        if middle is not None:
            lines.append(f"from :{marks[run - FIRST_ONES][-1 - middle]}")
        text = f"{run} {number}"
        lines += ["M 100644 inline step", f"data {len(text)}", text]
        marks.setdefault(run, []).append(mark)
    git = ["git", "-c", f"init.defaultBranch={name(BRANCHES - 1)}"]
    subprocess.run([*git, "init", "-q", str(path)], check=True)
    subprocess.run([*git, "-C", str(path), "fast-import", "--quiet"], input="\n".join(lines).encode(), check=True)


@dataclass(frozen=True, slots=True)
class Case:
    """A process to start, where, and with what in its environment."""

    command: tuple[str, ...]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    terminal: bool = False

    def run(self) -> bytes:
        """Start it, take what it says, wait for its end.

        Raises:
            SystemExit: it failed or said nothing.
        """
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", **self.environment}
        ours, theirs = pty.openpty() if self.terminal else os.pipe()
        process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdout=theirs)
        os.close(theirs)
        said = b"".join(iter(partial(_read, ours), b""))
        os.close(ours)
        if process.wait() or (not said and self.command[-1] != "pass"):
            raise SystemExit(f"{' '.join(self.command)} ended with {process.returncode}, and {len(said)} bytes")
        return said


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""


def cases(store: Path, repository: Path) -> dict[str, Case]:
    """All commands."""
    ours = (sys.executable, "-c", ENTRY)
    found = {BARE: Case((sys.executable, "-c", "pass"), store)}
    for line in (HELP, LOG, GRAPH, GRAPH_ALL, STATUS, RUNS, RANGE, STEPS, WHERE, WHERE_RUN, BROAD, COMPARE):
        found[line] = Case((*ours, *shlex.split(line)), store)
    for line in (LOG, STATUS):
        found[line + TERMINAL] = Case((*ours, "--no-pager", *shlex.split(line)), store, terminal=True)
    for what, line in LINES.items():
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "COMP_LINE": line}
        found[what] = Case(ours, store, {**asked, "_CASCKPT_COMPLETE": "bash_complete"})
    if repository.exists():
        for line in (LOG, GRAPH_ALL):
            found[f"git {line}"] = Case(("git", "--no-pager", *shlex.split(line)), repository)
    return found


def main() -> int:
    """Read the command line, measure, print; 1 if a budget was to be checked and is missed."""
    options = parser(__doc__, mb=None, repeats=11)
    options.add_argument("--commits", type=int, default=10_000)
    options.add_argument("--check", action="store_true", help="end with 1 if a budget is missed")
    arguments = options.parse_args()
    with files.scratch(arguments.folder) as folder:
        results = begin("history", folder, reading=READING, commits=arguments.commits, runs=BRANCHES)
        made = timed(partial(make_store, folder / ".casckpt", arguments.commits))
        print(f"the store was made in {made.wall:.0f} s, {made.cpu:.0f} s of them CPU", flush=True)
        if shutil.which("git"):
            make_repository(folder / "repository", arguments.commits)
        else:
            results.absent(QUESTION, f"git {LOG}", "not installed")
        everyone = cases(folder, folder / "repository")
        results.order = list(everyone)
        for number in results.rounds(arguments.repeats):
            for what in rotated(list(everyone), number):
                results.add(QUESTION, what, timed(everyone[what].run))
        results.print(QUESTION, base=BARE)
    results.write(arguments.json)
    from benchmarks.run import judge  # which imports all benchmarks, this one too

    return 1 if judge(results) and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
