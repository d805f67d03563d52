"""casckpt export."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run


@command(
    "casckpt export gpt/best:model model.safetensors",
    "casckpt export gpt/best:model.npz weights.npz --replace",
    "casckpt export @ state.json",
)
@click.argument("rev", metavar="REV[:PATH]")
@click.argument("dest")
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "pt", "npz", "json", "h5"]),
    help="The format.  [default: what the suffix of PATH or DEST says]",
)
@click.option("--select", multiple=True, metavar="PATTERN", help="Only what matches, as model/**; repeatable.")
@click.option("--replace", is_flag=True, help="Replace DEST once the new file is whole.")
@dry_run
def export_command(
    call: Call, rev: str, dest: str, form: str | None, select: tuple[str, ...], replace: bool, dry_run: bool
) -> Answer:
    """Write a state or a part of it as a file of another program.

    PATH names a part, as in gpt/best:model; with the suffix of a format, as in gpt/best:model.safetensors, it says that
    too. DEST must be absent; it is written aside and renamed, so it is whole or not there.
    """
    from casckpt.view.exchange import export_lines

    call.outcome = "the target is as it was, or written as a whole"
    store = call.open()
    with call.progress("export") as progress:
        report = store.export(
            rev, dest, format=form, select=list(select) or None, replace=replace, dry_run=dry_run, progress=progress
        )
    return Answer(report.to_dict, lambda look: export_lines(report, look), confirms=not dry_run)
