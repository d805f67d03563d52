"""casckpt blame."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt blame", "casckpt blame gpt/best:model --by 2", "casckpt blame @:optimizer --json")
@click.argument("rev", metavar="[REV[:PATH]]", default="@")
@click.option("--by", type=click.IntRange(min=1), metavar="DEPTH", help="By path, so many levels, instead of by leaf.")
def blame_command(call: Call, rev: str, by: int | None) -> Answer:
    """Show in which commit each leaf changed last.

    The newest change comes first, what never changed last. First parents of REV are followed, by default of @; PATH
    names a leaf or a part of the state. No tensor is read: leaves are compared by ids.
    """
    from casckpt.cli.undone import note_losses
    from casckpt.view.blame import blame_lines

    store = call.open()
    found = list(store.blame(revision=rev, by=by))
    note_losses(call, store, rev)
    return Answer(
        lambda: {"lines": [line.to_dict() for line in found]},
        lambda look: blame_lines(found, look),
        records=lambda: (line.to_dict() for line in found),
        record="line",
    )
