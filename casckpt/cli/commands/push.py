"""casckpt push."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.confirm import confirm, yes_option
from casckpt.cli.options import OptionalValue, command, dry_run
from casckpt.cli.syncing import holding, limit_rate, on_conflict, under_lock
from casckpt.errors import UsageError
from casckpt.ops.push_reports import PushReport
from casckpt.view import text as t


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
@yes_option
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
    yes: bool,
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
    words: dict[str, Any] = {
        "everything": everything,
        "mirror": mirror,
        "policy": "lease" if lease is not None else on_conflict,
        "lease": lease or None,
        "verify": verify,
        "limit_rate": limit_rate,
    }
    if mirror and not (dry_run or yes):
        _confirm_mirror(call, store.push(remote, *revs, dry_run=True, **words))
    call.outcome = "nothing moved on the remote unless everything had arrived; the same push again goes on"
    with holding(store, remote, lock, wait_s, dry_run=dry_run) as held, call.progress("push") as progress:
        report = store.push(remote, *revs, lock=held, dry_run=dry_run, progress=progress, **words)
    return Answer(report.to_dict, lambda look: push_lines(report, look), confirms=not dry_run)


def _confirm_mirror(call: Call, planned: PushReport) -> None:
    """Show what goes from a remote since it is not here, and ask whether it is to."""
    gone = [move.ref for move in planned.moves if move.new is None]
    for ref in gone:
        call.note(f"{t.safe(ref)} is not here, and would go from {t.safe(planned.remote)}")
    if gone:
        count = t.plural(len(gone), "ref")
        confirm(call, f"taking {count} from {planned.remote}", str(len(gone)), yes=False)
