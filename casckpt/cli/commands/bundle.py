"""casckpt bundle create, list, apply."""

from __future__ import annotations

import os

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import CommandGroup, command, dry_run
from casckpt.cli.syncing import ARRIVED, on_conflict
from casckpt.errors import IntegrityError


@command(
    "casckpt bundle create gpt.bundle gpt",
    "casckpt bundle create all.bundle --all",
    "casckpt bundle create news.bundle gpt --since gpt@step=4000",
)
@click.argument("dest", metavar="FILE")
@click.argument("revs", nargs=-1, metavar="[RUN|REV]...")
@click.option("--all", "everything", is_flag=True, help="All runs and tags.")
@click.option("--since", metavar="REV", multiple=True, help="Leave out what REV leads to; repeatable.")
@click.option("--replace", is_flag=True, help="Replace FILE once the new one is whole.")
@dry_run
def create_command(
    call: Call,
    dest: str,
    revs: tuple[str, ...],
    everything: bool,
    since: tuple[str, ...],
    replace: bool,
    dry_run: bool,
) -> Answer:
    """Write runs, tags and commits into one file.

    It holds them with all commits behind them; without a name it is the current run. With --since it is for stores that
    have what REV leads to.
    """
    from casckpt.view.bundle import created_lines

    store = call.open()
    call.outcome = f"{os.path.basename(dest)} was not written"
    with call.progress("bundle") as progress:
        report = store.bundle_create(
            dest, *revs, everything=everything, since=since, replace=replace, dry_run=dry_run, progress=progress
        )
    return Answer(
        lambda: {"action": "create", "created": report.to_dict(), "dry_run": dry_run},
        lambda look: created_lines(report, look),
        confirms=not dry_run,
    )


@command("casckpt bundle list gpt.bundle", "casckpt bundle list gpt.bundle --verify")
@click.argument("dest", metavar="FILE")
@click.option("--verify", is_flag=True, help="Compare every object with its id.")
def list_command(call: Call, dest: str, verify: bool) -> Answer:
    """Show what a bundle holds.

    It needs no store. Ends with 4 if --verify finds damage.
    """
    from casckpt.ops.bundle import bundle_list
    from casckpt.view.bundle import bundle_lines

    with call.progress("verify") as progress:
        found = bundle_list(dest, verify=verify, progress=progress)
    return Answer(
        lambda: {"action": "list", "bundle": found.to_dict()},
        lambda look: bundle_lines(found, look),
        0 if found.ok else IntegrityError.exit_code,
        records=lambda: (commit.to_dict() for commit in found.commits),
        record="bundled",
    )


@command("casckpt bundle apply gpt.bundle", "casckpt bundle apply gpt.bundle --on-conflict newest")
@click.argument("dest", metavar="FILE")
@on_conflict
@dry_run
def apply_command(call: Call, dest: str, on_conflict: str | None, dry_run: bool) -> Answer:
    """Take in what a bundle holds, and move runs and tags to where they are in it.

    That is what pull does with a remote. What a bundle made with --since builds on must be here.
    """
    from casckpt.view.syncing import applied_lines

    store = call.open()
    call.outcome = ARRIVED
    with call.progress("apply") as progress:
        report = store.bundle_apply(
            dest, policy="newest" if on_conflict == "newest" else "ff", dry_run=dry_run, progress=progress
        )
    return Answer(
        lambda: {"action": "apply", "applied": report.to_dict(), "dry_run": dry_run},
        lambda look: applied_lines(report, look),
        confirms=not dry_run,
    )


bundle_command = CommandGroup(
    "bundle",
    ("casckpt bundle create gpt.bundle gpt", "casckpt bundle list gpt.bundle", "casckpt bundle apply gpt.bundle"),
    commands=[create_command, list_command, apply_command],
    help="Carry commits in one file, where no network leads.",
)
