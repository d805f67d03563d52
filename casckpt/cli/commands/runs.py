"""casckpt runs."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt runs", "casckpt runs --sort val/loss", "casckpt runs -w 'step > 1000' --json")
@click.option("-w", "--where", metavar="FILTER", help="Only runs whose newest commit it fits, as 'val/loss<0.4'.")
@click.option(
    "--sort", metavar="KEY", default="time", show_default=True, help="By time, name, commits, or a metric: best first."
)
def runs_command(call: Call, where: str | None, sort: str) -> Answer:
    """List the runs, newest first.

    Each with what goes on in it, its commits, its newest one and, if it has a rule for that, its best.
    """
    from casckpt.view.stores import runs_lines

    store = call.open()
    runs = store.runs(where=where, sort=sort)
    if not runs:
        empty = "no commits yet: casckpt commit PATH makes the first" if where is None else f"no runs with {where}"
        call.note(empty)
    return Answer(
        lambda: {"runs": [run.to_dict() for run in runs]},
        lambda look: runs_lines(runs, look),
        records=lambda: (run.to_dict() for run in runs),
        record="run",
    )
