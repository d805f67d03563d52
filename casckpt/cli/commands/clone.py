"""casckpt clone."""

from __future__ import annotations

import os
from typing import Any

import click

from casckpt.cli.call import STORE_FOLDER, Answer, Call
from casckpt.cli.commands.remote import access_options, said
from casckpt.cli.options import command, dry_run
from casckpt.cli.syncing import ARRIVED, limit_rate, part, patterns


@command(
    "casckpt clone s3://bucket/checkpoints",
    "casckpt clone /mnt/nas/checkpoints ckpts --depth 1",
    "casckpt clone s3://bucket/checkpoints --only model --run gpt",
)
@click.argument("url")
@click.argument("path", metavar="[DIR]", required=False)
@click.option("--run", "names", metavar="RUN|TAG", multiple=True, help="Only this run or tag; repeatable.")
@click.option("--name", "new", metavar="NAME", default="origin", help="What the remote is called.  [default: origin]")
@part
@access_options
@limit_rate
@dry_run
def clone_command(
    call: Call,
    url: str,
    path: str | None,
    names: tuple[str, ...],
    new: str,
    depth: int | None,
    only: tuple[str, ...],
    limit_rate: str | None,
    dry_run: bool,
    **options: Any,
) -> Answer:
    """Make a store with what a remote has.

    Without DIR it is .casckpt in this folder, as of casckpt init. It knows the remote from then on, for push and pull.
    """
    from casckpt.distant import clone_remote, plan_clone
    from casckpt.view.syncing import clone_lines

    place = os.path.abspath(path or call.named_store() or STORE_FOLDER)
    words: dict[str, Any] = {"name": new, "depth": depth, "only": patterns(only), "limit_rate": limit_rate}
    words |= said(options)
    if dry_run:
        report = plan_clone(url, place, *names, **words)
    else:
        call.outcome = ARRIVED
        with call.progress("clone") as progress:
            repository, report = clone_remote(url, place, *names, progress=progress, **words)
        repository.close()
        call.place = place
    return Answer(
        lambda: {"path": place, **report.to_dict(), "dry_run": dry_run},
        lambda look: clone_lines(place, report, look),
        confirms=not dry_run,
    )
