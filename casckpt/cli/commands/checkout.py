"""casckpt checkout."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run

UNSURE = "the target is as it was, or written as a whole"


@command(
    "casckpt checkout gpt/best best/",
    "casckpt checkout 75beb7660a1b",
    "casckpt checkout gpt@step=4000:out/model.safetensors model.safetensors --replace",
    "casckpt checkout gpt~5 part/ --select 'out/*.json'",
)
@click.argument("rev", metavar="REV[:PATH]")
@click.argument("dest", required=False)
@click.option("--select", multiple=True, metavar="PATTERN", help="Only what matches, in a folder; repeatable.")
@click.option("--replace", is_flag=True, help="DEST may be there; it stays until the new one is complete.")
@click.option("--links", is_flag=True, help="Make the symbolic links among the files, which must stay inside.")
@dry_run
def checkout_command(
    call: Call, rev: str, dest: str | None, select: tuple[str, ...], replace: bool, links: bool, dry_run: bool
) -> Answer:
    """Write a commit to disk.

    With PATH only that file or folder of it. DEST must be absent, or an empty folder where a folder is to come; without
    it the target is named by the id of the commit, or by the last name of PATH, in this folder. Files come back byte
    for byte, each verified; a single file gives that file. A state that Python committed is no file: casckpt export
    writes it as one, and Store.checkout restores it in Python.
    """
    from casckpt.plan.revision import split_path
    from casckpt.view.history import checkout_lines

    store = call.open()
    with call.progress("checkout") as progress:
        if dest is None:
            name, path = split_path(rev)
            dest = (path or "").strip("/").rpartition("/")[2] or store.show(name).short
        try:
            words: dict[str, Any] = {"select": list(select) or None, "progress": progress}
            report = store.checkout_path(rev, dest, replace=replace, links=links, dry_run=dry_run, **words)
        except BaseException:  # said only if it comes from an interrupt
            if progress.total is not None and progress.done >= progress.total:
                call.outcome = UNSURE
            raise
    if report.leftover is not None:
        call.warn("checkout.leftover", f"what was replaced could not be removed: {report.leftover}")
    return Answer(report.to_dict, lambda look: checkout_lines(report, look), confirms=not dry_run)
