"""casckpt push."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import OptionalValue, command, dry_run
from casckpt.cli.syncing import holding, limit_rate, on_conflict, under_lock
from casckpt.errors import UsageError


@command(
    "casckpt push",
    "casckpt push origin gpt v1 --dry-run",
    "casckpt push origin --all --limit-rate 20MiB",
    "casckpt push origin gpt --on-conflict newest",
    "casckpt push origin gpt --force-with-lease",
    "casckpt push origin gpt --lock gpt",
)
@click.argument("remote", required=False)
@click.argument("revs", nargs=-1, metavar="[RUN|TAG]...")
@click.option("--all", "everything", is_flag=True, help="All runs and tags.")
@click.option("--mirror", is_flag=True, help="All runs and tags, and take away there those that are not here.")
@click.option(
    "--force-with-lease", "lease", cls=OptionalValue, metavar="REV",
    help="Move the run even to what does not go on from there, if it is at REV.  [default: where it was seen last]",
)  # fmt: skip
@on_conflict
@click.option("--verify", is_flag=True, help="Read back all that was sent before anything names it.")
@under_lock
@limit_rate
@dry_run
def push_command(
    call: Call,
    remote: str | None,
    revs: tuple[str, ...],
    everything: bool,
    mirror: bool,
    lease: str | None,
    on_conflict: str | None,
    verify: bool,
    lock: str | None,
    wait_s: int | None,
    limit_rate: str | None,
    dry_run: bool,
) -> Answer:
    """Send runs and tags to a remote.

    REMOTE is origin by default, or the only one there is; what is sent is the current run, unless runs and tags are
    named. All commits behind them go along, with their content as far as it is here. Others see all of it at once or
    nothing, and what the remote has is not sent again.
    """
    from casckpt.view.syncing import push_lines

    if lease is not None and on_conflict is not None:
        raise UsageError(problem="--force-with-lease and --on-conflict say two things of the same conflict")
    store = call.open()
    call.outcome = "nothing moved on the remote unless everything had arrived; the same push again goes on"
    with holding(store, remote, lock, wait_s, dry_run=dry_run) as held, call.progress("push") as progress:
        report = store.push(
            remote,
            *revs,
            everything=everything,
            mirror=mirror,
            policy="lease" if lease is not None else on_conflict,
            lease=lease or None,
            verify=verify,
            lock=held,
            limit_rate=limit_rate,
            dry_run=dry_run,
            progress=progress,
        )
    return Answer(report.to_dict, lambda look: push_lines(report, look), confirms=not dry_run)
