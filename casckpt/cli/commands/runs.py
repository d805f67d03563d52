"""casckpt runs."""

from __future__ import annotations

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt runs", "casckpt runs --json")
def runs_command(call: Call) -> Answer:
    """List the runs, newest first.

    Each with its commits, its newest one and, if it has a rule for that, its best.
    """
    from casckpt.view.stores import runs_lines

    store = call.open()
    runs = store.runs()
    if not runs:
        call.note("no commits yet: casckpt commit PATH makes the first")
    return Answer(
        lambda: {"runs": [run.to_dict() for run in runs]},
        lambda look: runs_lines(runs, look),
        records=lambda: (run.to_dict() for run in runs),
        record="run",
    )
