"""casckpt tag."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.errors import UsageError


@command("casckpt tag", "casckpt tag v1", "casckpt tag v1 gpt/best", "casckpt tag -d v1")
@click.argument("name", required=False)
@click.argument("rev", required=False)
@click.option("-d", "--delete", is_flag=True, help="Remove the tag NAME; its commit stays.")
@dry_run
def tag_command(call: Call, name: str | None, rev: str | None, delete: bool, dry_run: bool) -> Answer:
    """Give a commit a name that never moves, or list the tags.

    REV is @ by default, the last commit of the newest run.
    """
    from casckpt.view.history import tag_lines
    from casckpt.view.naming import tag_line

    if delete and (name is None or rev is not None):
        raise UsageError(problem="--delete takes the name of one tag")
    store = call.open()
    if name is None:
        found = {known: store.show(f"id:{commit}") for known, commit in store.status().tags.items()}
        return Answer(
            lambda: {"tags": {known: commit.to_dict() for known, commit in sorted(found.items())}},
            lambda look: tag_lines(found, look),
            records=lambda: ({"tag": known, "commit": commit.to_dict()} for known, commit in sorted(found.items())),
            record="tag",
        )
    call.outcome = "casckpt tag lists the tags that were given"
    before = None if delete else store.show(rev or "@")
    commit = (
        store.untag(name, dry_run=dry_run) if before is None else store.tag(name, f"id:{before.id}", dry_run=dry_run)
    )
    say_undo(call, dry_run=dry_run, changed=commit != before)
    return Answer(
        lambda: {"tag": name, "commit": commit.to_dict(), "removed": delete, "dry_run": dry_run},
        lambda look: [tag_line(name, commit, look, removed=delete, dry_run=dry_run)],
        confirms=not dry_run,
    )
