"""casckpt run fork, rename, finish."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import CommandGroup, command, dry_run
from casckpt.cli.undone import say_undo
from casckpt.ops.values import RunInfo


@command("casckpt run fork gpt@step=4000 gpt-low-lr", "casckpt run fork gpt/best gpt-2 --dry-run")
@click.argument("rev")
@click.argument("name")
@dry_run
def fork_command(call: Call, rev: str, name: str, dry_run: bool) -> Answer:
    """Begin run NAME at any commit.

    It takes over the rule for best of the run of that commit. Its first commit becomes a child of REV.
    """
    call.outcome = "casckpt runs lists the runs"
    return _answer(call, "fork", call.open().fork_run(rev, name, dry_run=dry_run), dry_run)


@command("casckpt run rename gpt gpt-base")
@click.argument("old")
@click.argument("new")
@dry_run
def rename_command(call: Call, old: str, new: str, dry_run: bool) -> Answer:
    """Give a run another name.

    Its commits, refs and settings go along. A training that still commits to OLD begins a new run of that name.
    """
    call.outcome = "casckpt runs lists the runs"
    return _answer(call, "rename", call.open().rename_run(old, new, dry_run=dry_run), dry_run, old)


@command("casckpt run finish gpt", "casckpt run finish gpt --status failed")
@click.argument("name")
@click.option(
    "--status",
    type=click.Choice(["completed", "failed", "cancelled", "preempted"]),
    default="completed",
    show_default=True,
    help="How it ended.",
)
@dry_run
def finish_command(call: Call, name: str, status: str, dry_run: bool) -> Answer:
    """Say that a run has ended, and how.

    A later commit to it takes that back.
    """
    call.outcome = "casckpt runs lists the runs"
    return _answer(call, "finish", call.open().finish_run(name, status, dry_run=dry_run), dry_run)


def _answer(call: Call, action: str, run: RunInfo, dry_run: bool, old: str = "") -> Answer:
    from casckpt.view.naming import run_line

    say_undo(call, dry_run=dry_run)
    return Answer(
        lambda: {"action": action, "run": run.to_dict(), "dry_run": dry_run},
        lambda look: [run_line(action, run, look, old=old, dry_run=dry_run)],
        confirms=not dry_run,
    )


run_command = CommandGroup(
    "run",
    ("casckpt run fork gpt@step=4000 gpt-low-lr", "casckpt run rename gpt gpt-base", "casckpt run finish gpt"),
    commands=[fork_command, rename_command, finish_command],
    help="Begin a run at any commit, rename or finish one.",
)
