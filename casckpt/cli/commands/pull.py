"""casckpt pull."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.syncing import ARRIVED, accept_rollback, limit_rate, on_conflict, part, patterns


@command(
    "casckpt pull",
    "casckpt pull origin gpt",
    "casckpt pull origin --all --depth 1",
    "casckpt pull origin gpt --on-conflict newest",
)
@click.argument("remote", required=False)
@click.argument("names", nargs=-1, metavar="[RUN|TAG]...")
@click.option("--all", "everything", is_flag=True, help="All runs and tags.")
@on_conflict
@part
@accept_rollback
@limit_rate
@dry_run
def pull_command(
    call: Call,
    remote: str | None,
    names: tuple[str, ...],
    everything: bool,
    on_conflict: str | None,
    depth: int | None,
    only: tuple[str, ...],
    accept_rollback: bool,
    limit_rate: str | None,
    dry_run: bool,
) -> Answer:
    """Bring runs and tags to where they are on a remote.

    That is fetch, and then moving what this store calls by the same name. Without a name it is the current run, or all
    where there is none yet. A run that went on here and there is refused, unless --on-conflict newest is given.
    """
    from casckpt.view.syncing import pull_lines

    store = call.open()
    call.outcome = ARRIVED
    with call.progress("pull") as progress:
        report = store.pull(
            remote,
            *names,
            everything=everything,
            policy=on_conflict,
            depth=depth,
            only=patterns(only),
            accept_rollback=accept_rollback,
            limit_rate=limit_rate,
            dry_run=dry_run,
            progress=progress,
        )
    return Answer(report.to_dict, lambda look: pull_lines(report, look), confirms=not dry_run)
