"""casckpt reflog."""

from __future__ import annotations

from itertools import islice

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command

CHANGES_SHOWN = 100


@command("casckpt reflog", "casckpt reflog gpt/best", "casckpt reflog v1 --json", "casckpt reflog gpt -n 5")
@click.argument("ref", required=False)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=CHANGES_SHOWN,
    show_default=True,
    help="At most this many changes; 0: all.",
)
def reflog_command(call: Call, ref: str | None, limit: int) -> Answer:
    """Show what names meant before, newest first.

    The changes of REF, a run (its last commit), RUN/best, RUN/recovery, a tag or @; without it those of all.
    """
    from casckpt.view.history import reflog_lines

    store = call.open()
    found = store.reflog(ref)
    changes = list(islice(found, limit or None))
    more = next(found, None) is not None
    if more:
        call.note(f"there are older changes: casckpt reflog{'' if ref is None else f' {ref}'} -n 0 shows all")
    elif not changes:
        call.note("no commits yet: casckpt commit PATH makes the first")
    return Answer(
        lambda: {"changes": [change.to_dict() for change in changes], "more": more},
        lambda look: reflog_lines(changes, look),
        records=lambda: (change.to_dict() for change in changes),
        record="change",
    )
