"""casckpt checkout."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command(
    "casckpt checkout gpt/best best/",
    "casckpt checkout 75beb7660a1b",
    "casckpt checkout gpt@step=4000 step-4000.pt",
)
@click.argument("rev")
@click.argument("dest", required=False)
def checkout_command(call: Call, rev: str, dest: str | None) -> Answer:
    """Write a commit to disk.

    DEST must be absent; without it the target is named by the id of the commit, in this folder. Files come back as
    they were committed; a state that Python committed is written to a DEST that ends with .pt, for torch.load. Every
    byte is verified.
    """
    from casckpt.view.history import checkout_lines

    call.outcome = "the target is not complete"
    with call.open() as store:
        report = store.checkout_path(rev, store.show(rev).short if dest is None else dest)
    return Answer(report.to_dict, lambda look: checkout_lines(report, look), confirms=True)
