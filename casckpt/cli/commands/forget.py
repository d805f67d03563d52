"""casckpt forget."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.confirm import confirm, yes_option
from casckpt.cli.options import command, dry_run
from casckpt.view import text as t


@command(
    "casckpt forget gpt~3 --dry-run",
    "casckpt forget gpt~3",
    "casckpt forget sweep-3 --force --yes",
    "casckpt forget",
)
@click.argument("revs", nargs=-1, metavar="[RUN|REV]...")
@click.option("--force", is_flag=True, help="Also commits with a tag or pin, and the last, best and recovery of a run.")
@yes_option
@dry_run
def forget_command(call: Call, revs: tuple[str, ...], force: bool, yes: bool, dry_run: bool) -> Answer:
    """Forget commits for good, as when a secret got in.

    RUN means all its commits with its name, REV a commit or a range A..B. Nothing brings them back: they leave the log,
    and no byte of what only they held is left in the folder of the store. What was done before, to names too, can not
    be taken back any more. Without a name it ends what an earlier forget had to leave.
    """
    from casckpt.view.lifetime import forget_lines

    store = call.open()
    if revs and not (dry_run or yes):
        planned = store.forget(*revs, force=force, dry_run=True)
        count = len(planned.forgotten)
        confirm(call, f"forgetting {t.plural(count, 'commit')}", str(count), yes=yes)
    call.outcome = "what was begun is ended by: casckpt forget"
    with call.progress("forget") as progress:
        report = store.forget(*revs, force=force, dry_run=dry_run, progress=progress)
    if not (revs or report.purge.journal_files):
        call.note("nothing was left to be removed")
    return Answer(report.to_dict, lambda look: forget_lines(report, look), confirms=not dry_run)
