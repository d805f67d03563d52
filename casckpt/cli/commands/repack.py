"""casckpt repack."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.errors import UsageError
from casckpt.units import parse_duration


@command(
    "casckpt repack",
    "casckpt repack --limit 10min",
    "casckpt repack -r gpt --max",
    "casckpt repack --dry-run",
)
@click.option("-r", "--run", help="Only the commits of a run.")
@click.option("--max", "thorough", is_flag=True, help="For archives: smallest, slower to write and to restore.")
@click.option("--limit", metavar="TIME", help="Stop after 30s, 10min or 2h; another call goes on.")
@dry_run
def repack_command(call: Call, run: str | None, thorough: bool, limit: str | None, dry_run: bool) -> Answer:
    """Store neighbouring checkpoints as deltas, to take less room.

    Nothing is lost and no id changes; the packs that are replaced are removed, and what was dropped for good. The
    newest commit, the last, best and recovery of a run, and what has a tag or pin stay as they are, unless --max is
    given. What was packed before is left alone. An interrupt loses no work that was finished; the same command goes on.
    """
    from casckpt.view.repack import repack_lines

    limit_ns = None if limit is None else parse_duration(limit)
    if limit is not None and limit_ns is None:
        raise UsageError(problem=f"--limit is a length of time, as 30s, 10min or 2h, not {limit!a}")
    store = call.open()
    call.outcome = "what was packed stays so; repeat it to go on"
    with call.progress("repack") as progress:
        report = store.repack(
            run=run,
            max=thorough,
            limit_s=None if limit_ns is None else limit_ns / 1e9,
            dry_run=dry_run,
            progress=progress,
        )
    if report.left.get("limit"):
        call.note("the same command goes on")
    return Answer(report.to_dict, lambda look: repack_lines(report, look), confirms=not dry_run)
