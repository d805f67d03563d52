"""casckpt tag."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.view.text import safe


@command("casckpt tag", "casckpt tag v1", "casckpt tag v1 gpt/best")
@click.argument("name", required=False)
@click.argument("rev", default="@")
def tag_command(call: Call, name: str | None, rev: str) -> Answer:
    """Give a commit a name that never moves, or list the tags.

    REV is @ by default, the last commit of the newest run.
    """
    from casckpt.view.history import one_line, tag_lines

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
    commit = store.tag(name, rev)
    return Answer(
        lambda: {"tag": name, "commit": commit.to_dict()},
        lambda look: [f"{safe(name)} names {one_line(commit, look)}"],
        confirms=True,
    )
