"""casckpt import."""

from __future__ import annotations

from typing import Literal

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run


@command(
    "casckpt import runs/gpt/checkpoints -r gpt",
    "casckpt import output/ -r bert --dry-run",
    "casckpt import epoch=3-step=1000.ckpt --as state",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--run", help="The run they become.  [default: the setting run, else main]")
@click.option(
    "--as",
    "form",
    type=click.Choice(["files", "state"]),
    default="files",
    help="Byte for byte, or decoded into tensors.  [default: files]",
)
@click.option("--allow-pickle", is_flag=True, help="With --as state: unpickle anything; a file can then execute code.")
@dry_run
def import_command(
    call: Call,
    paths: tuple[str, ...],
    run: str | None,
    form: Literal["files", "state"],
    allow_pickle: bool,
    dry_run: bool,
) -> Answer:
    """Import checkpoints that other programs wrote, as one run.

    PATH is a checkpoint file, a checkpoint folder such as checkpoint-500, or a folder that holds some. Each becomes a
    commit, oldest first, with the step, epoch and metrics that its name says. What the run has is skipped, so repeat it
    to import what is new or to go on after an interrupt. Ends with the code of the first checkpoint that failed.
    """
    from casckpt.cli.commands.commit import NONFINITE
    from casckpt.view.exchange import import_lines
    from casckpt.view.history import nonfinite_warning
    from casckpt.view.text import safe

    call.outcome = "nothing was changed" if dry_run else "what was imported stays; repeat it to go on"
    store = call.open("run", "threads", "upkeep", "health_gate")
    with call.progress("import") as progress:
        report = store.import_path(
            *paths,
            run=run,
            form=form,
            dry_run=dry_run,
            allow_pickle=allow_pickle,
            progress=progress,
        )
    gate = bool(call.settings.get("health_gate"))
    for one in report.checkpoints:
        if one.nonfinite:
            said = nonfinite_warning(one.nonfinite, one.nonfinite_paths, gate=gate)
            call.warn(NONFINITE, f"{safe(one.name)} {said}")
    return Answer(
        report.to_dict, lambda look: import_lines(report, look), report.exit_code, confirms=report.ok and not dry_run
    )
