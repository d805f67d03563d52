"""casckpt drop."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.errors import UsageError


@command(
    "casckpt drop gpt@step=1000 gpt@step=2000",
    "casckpt drop gpt~30..gpt~10 --dry-run",
    "casckpt drop -w 'run=sweep-3 and val/loss>2'",
    "casckpt drop gpt~1 --parts 'optimizer*'",
)
@click.argument("revs", nargs=-1, metavar="[REV]...")
@click.option("-w", "--where", metavar="FILTER", help="Only commits it fits; of all, if no REV is given.")
@click.option("--parts", metavar="PATTERN", multiple=True, help="Only components it fits; repeatable.")
@dry_run
def drop_command(call: Call, revs: tuple[str, ...], where: str | None, parts: tuple[str, ...], dry_run: bool) -> Answer:
    """Drop commits, or some of their components.

    REV is a commit or a range A..B. What is dropped cannot be checked out; it stays in the log with its metrics, and
    casckpt undo brings it back. Commits with a tag or pin and the last, best and recovery of a run are never dropped: a
    filter passes over them. casckpt gc frees the bytes once the grace is over.
    """
    from casckpt.view.lifetime import drop_lines

    if not revs and where is None:
        raise UsageError(problem="say which commits: casckpt drop REV..., or -w FILTER")
    store = call.open()
    call.outcome = "casckpt undo --list shows whether it was done"
    report = store.drop(*revs, where=where, parts=parts or None, dry_run=dry_run)
    if not (report.dropped or report.already or report.spared):
        call.note("no commits to drop")
    elif report.left:
        call.note(f"{report.left} more wait: the same command again drops them")
    elif report.dropped or report.already:
        say_undo(call, dry_run=dry_run, changed=bool(report.dropped))
    return Answer(report.to_dict, lambda look: drop_lines(report, look), confirms=not dry_run)
