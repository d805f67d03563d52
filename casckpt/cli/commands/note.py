"""casckpt note."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.errors import UsageError


@command('casckpt note gpt/best "lr was too high"', "casckpt note gpt/best", "casckpt note -d gpt/best")
@click.argument("rev")
@click.argument("text", required=False)
@click.option("-d", "--delete", is_flag=True, help="Remove the note of REV.")
@dry_run
def note_command(call: Call, rev: str, text: str | None, delete: bool, dry_run: bool) -> Answer:
    """Remark something about a commit, or print what was remarked.

    A new note takes the place of the one before. The commit itself never changes.
    """
    from casckpt.view.naming import note_lines

    if delete and text is not None:
        raise UsageError(problem="--delete takes no text")
    store = call.open()
    found = store.show(rev)
    if text is None and not delete:
        if found.note is None:
            call.note("it has no note: casckpt note REV TEXT makes one")
        return Answer(lambda: {"commit": found.to_dict()}, lambda look: note_lines(found, look))
    call.outcome = "casckpt note REV prints the note there is"
    commit = store.note(f"id:{found.id}", text or "", dry_run=dry_run)
    say_undo(call, dry_run=dry_run, changed=commit != found)
    return Answer(
        lambda: {"commit": commit.to_dict(), "removed": commit.note is None, "dry_run": dry_run},
        lambda look: note_lines(commit, look, dry_run=dry_run),
        confirms=not dry_run,
    )
