"""casckpt checkout."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt checkout gpt/best best/", "casckpt checkout 75beb7660a1b", "casckpt checkout gpt@step=4000 old/")
@click.argument("rev")
@click.argument("dest", required=False)
def checkout_command(call: Call, rev: str, dest: str | None) -> Answer:
    """Write a commit to disk.

    DEST must be absent; without it the target is named by the id of the commit, in this folder. Files come back byte
    for byte, each verified; a commit of a single file gives that file. A state that Python committed is no file:
    restore it there, with Store.checkout.
    """
    from casckpt.view.history import checkout_lines

    with call.open() as store, call.output.progress("checkout", wanted=not (call.quiet or call.json)) as progress:
        target = store.show(rev).short if dest is None else dest
        report = store.checkout_path(rev, target, progress=progress)
    return Answer(report.to_dict, lambda look: checkout_lines(report, look), confirms=True)
