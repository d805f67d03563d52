"""casckpt drill."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.cli.syncing import limit_rate
from casckpt.errors import IntegrityError


@command(
    "casckpt drill",
    "casckpt drill origin --commits 10",
    "casckpt drill origin --seed 1790134",
    "casckpt drill nas --all",
)
@click.argument("remote", required=False)
@click.option("--commits", type=click.IntRange(min=1), metavar="N", help="How many to try.  [default: 3]")
@click.option("--all", "everything", is_flag=True, help="Try every commit there.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw those commits again that a drill tried.")
@limit_rate
def drill_command(
    call: Call, remote: str | None, commits: int | None, everything: bool, seed: int | None, limit_rate: str | None
) -> Answer:
    """Prove that a remote can be restored from.

    Random commits are read from it as a restore would, every byte is checked, and nothing is kept. Ends with 4 if one
    cannot be restored.
    """
    from casckpt.view.syncing import drill_lines

    if everything and commits is not None:
        raise click.UsageError("--all tries them all: leave out --commits")
    store = call.open()
    wanted = None if everything else commits or 3
    with call.progress("drill") as progress:
        report = store.drill(remote, commits=wanted, seed=seed, limit_rate=limit_rate, progress=progress)
    return Answer(
        report.to_dict,
        lambda look: drill_lines(report, look),
        0 if report.ok else IntegrityError.exit_code,
        records=lambda: (one.to_dict() for one in report.commits),
        record="drilled",
    )
