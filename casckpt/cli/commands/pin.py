"""casckpt pin."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.errors import UsageError


@command("casckpt pin", "casckpt pin gpt/best", "casckpt pin gpt@step=4000 --until 30d", "casckpt pin -d gpt/best")
@click.argument("rev", required=False)
@click.option(
    "--until", metavar="DATE", help="A date as 2027-01-31 (to its end, UTC), a time, or 12h, 30d, 4w from now."
)
@click.option("-d", "--delete", is_flag=True, help="Remove the pin of REV.")
@dry_run
def pin_command(call: Call, rev: str | None, until: str | None, delete: bool, dry_run: bool) -> Answer:
    """Keep a commit reachable, whatever happens to its names, or list the pins.

    Without --until it is kept until the pin is removed.
    """
    from casckpt.view.naming import pin_line, pins_lines

    if (rev is None and (delete or until is not None)) or (delete and until is not None):
        raise UsageError(problem="--until and --delete each take the revision of one commit")
    store = call.open()
    if rev is None:
        found = store.pins()
        if not found:
            call.note("nothing is pinned: casckpt pin REV keeps a commit")
        return Answer(
            lambda: {"pins": [commit.to_dict() for commit in found]},
            lambda look: pins_lines(found, look),
            records=lambda: (commit.to_dict() for commit in found),
            record="commit",
        )
    call.outcome = "casckpt pin lists the pins"
    before = store.show(rev)
    identity = f"id:{before.id}"
    commit = store.unpin(identity, dry_run=dry_run) if delete else store.pin(identity, until, dry_run=dry_run)
    # A pin that is over is removed without a difference that shows.
    say_undo(call, dry_run=dry_run, changed=delete or commit != before)
    return Answer(
        lambda: {"commit": commit.to_dict(), "removed": delete, "dry_run": dry_run},
        lambda look: [pin_line(commit, look, dry_run=dry_run)],
        confirms=not dry_run,
    )
