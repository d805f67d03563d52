"""casckpt log."""

from __future__ import annotations

from itertools import chain

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command(
    "casckpt log -n 20",
    "casckpt log gpt/best --oneline",
    "casckpt log gpt..wide",
    "casckpt log --all -w 'val/loss < 0.3'",
)
@click.argument("rev", required=False)
@click.option("-r", "--run", help="The history of a run.")
@click.option("--all", "every", is_flag=True, help="All commits that a run or tag leads to.")
@click.option("-w", "--where", metavar="FILTER", help="Only commits it fits, as 'val/loss<0.4 and step>1000'.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most this many commits.")
@click.option("--oneline", is_flag=True, help="A line a commit, without messages.")
def log_command(
    call: Call, rev: str | None, run: str | None, every: bool, where: str | None, limit: int | None, oneline: bool
) -> Answer:
    """Show the history, newest first.

    The commits that lead to REV; without it those of the run with the newest commit. A..B are those that lead to B
    and not to A, A...B those that lead to one of them and not to both.
    """
    from casckpt.view.history import log_lines

    if sum((rev is not None, run is not None, every)) > 1:
        raise click.UsageError("give one of REV, --run and --all")
    revision = None if every else rev if rev is not None else "@" if run is None else f"runs/{run}"
    store = call.open()
    # An empty store has an empty history; only a name that was given can be missing.
    is_empty = revision == "@" and rev is None and not store.runs()
    line = iter(()) if is_empty else store.log(revision, limit=limit, where=where)
    first = next(line, None)
    if first is None:
        empty = "no commits yet: casckpt commit PATH makes the first" if rev is None else f"no commits in {rev}"
        call.note(empty if where is None else f"no commits with {where}")
    commits = line if first is None else chain((first,), line)  # read as they are printed
    return Answer(
        lambda: {"commits": [commit.to_dict() for commit in commits]},
        lambda look: log_lines(commits, look, oneline=oneline),
        records=lambda: (commit.to_dict() for commit in commits),
        record="commit",
    )
