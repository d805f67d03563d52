"""casckpt ls."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt ls", "casckpt ls gpt/best:model", "casckpt ls v1:model/encoder -R --json")
@click.argument("rev", metavar="[REV[:PATH]]", default="@")
@click.option("-R", "--recursive", is_flag=True, help="List every leaf below PATH.")
def ls_command(call: Call, rev: str, recursive: bool) -> Answer:
    """List what lies at a path of a commit.

    Leaves and containers one level below PATH, of a state or of files; without PATH those of all the commit. REV is @
    by default. No tensor is read.
    """
    from casckpt.view.listing import ls_lines

    store = call.open()
    found = list(store.ls(rev, recursive=recursive))
    return Answer(
        lambda: {"entries": [one.to_dict() for one in found]},
        lambda look: ls_lines(found, look),
        records=lambda: (one.to_dict() for one in found),
        record="entry",
    )
