"""casckpt fetch."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.syncing import ARRIVED, accept_rollback, limit_rate, part, patterns


@command(
    "casckpt fetch",
    "casckpt fetch origin gpt --depth 1",
    "casckpt fetch origin gpt/best --only model",
    "casckpt fetch origin gpt --whole",
)
@click.argument("remote", required=False)
@click.argument("names", nargs=-1, metavar="[RUN|TAG|ID]...")
@part
@click.option("--whole", is_flag=True, help="Also what an earlier fetch left there.")
@accept_rollback
@limit_rate
@dry_run
def fetch_command(
    call: Call,
    remote: str | None,
    names: tuple[str, ...],
    depth: int | None,
    only: tuple[str, ...],
    whole: bool,
    accept_rollback: bool,
    limit_rate: str | None,
    dry_run: bool,
) -> Answer:
    """Bring commits of a remote here, without moving any run or tag.

    What came is called REMOTE/RUN from then on, as origin/gpt. Every object is verified before it is stored.
    """
    from casckpt.view.syncing import fetch_lines

    store = call.open()
    call.outcome = ARRIVED
    with call.progress("fetch") as progress:
        report = store.fetch(
            remote,
            *names,
            depth=depth,
            only=patterns(only),
            whole=whole,
            accept_rollback=accept_rollback,
            limit_rate=limit_rate,
            dry_run=dry_run,
            progress=progress,
        )
    return Answer(report.to_dict, lambda look: fetch_lines(report, look), confirms=not dry_run)
