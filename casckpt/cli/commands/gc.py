"""casckpt gc."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.confirm import confirm, yes_option
from casckpt.cli.options import command, dry_run
from casckpt.errors import UsageError
from casckpt.ops.gc_reports import EARLY
from casckpt.units import SECOND, parse_duration


@command(
    "casckpt gc --dry-run",
    "casckpt gc",
    "casckpt gc --now --yes",
    "casckpt gc --limit 10min",
    "casckpt gc --no-repack --wait 10min",
)
@click.option("--now", is_flag=True, help="End all graces: what was dropped cannot be taken back then.")
@click.option("--wait", metavar="DURATION", default="1min", help="How long to wait for commits.  [default: 1min]")
@click.option("--no-repack", is_flag=True, help="Only remove; write nothing again.")
@click.option("--limit", metavar="DURATION", default="1min", help="How long to write packs again.  [default: 1min]")
@yes_option
@dry_run
def gc_command(call: Call, now: bool, wait: str, no_repack: bool, limit: str, yes: bool, dry_run: bool) -> Answer:
    """Free what no commit needs any more.

    First the retention policies that the store keeps are applied. Then the state of every commit that was dropped goes,
    once its grace is over: until then casckpt undo brings it back. Then packs that are mostly dead, and many small
    ones, are written again, and neighbouring commits are packed as deltas, as far as the time allows. Commits may be
    made and read meanwhile. On a disk that is nearly full graces end early, the oldest drops first.
    """
    from casckpt.view.lifetime import gc_lines
    from casckpt.view.text import plural

    wait_s, limit_s = _seconds("--wait", wait), _seconds("--limit", limit)
    store = call.open()
    if now and not dry_run and not yes:
        early = [commit for commit in store.plan_gc(now=True).commits if commit.outcome == EARLY]
        if early:
            what = plural(len(early), "dropped commit")
            confirm(call, f"freeing the state of {what} before the grace ends", str(len(early)), yes=yes)
    call.outcome = "what was removed until then is freed; casckpt gc goes on"
    with call.progress("gc") as progress:
        report = store.gc(
            now=now, repack=not no_repack, limit_s=limit_s, wait_s=wait_s, dry_run=dry_run, progress=progress
        )
    if report.plan.early and not now:
        call.warn("space.low", f"the disk is nearly full: the graces of {len(report.plan.early)} commits end early")
    return Answer(
        report.to_dict,
        lambda look: gc_lines(report, look),
        records=lambda: (commit.to_dict() for commit in report.plan.commits),
        record="leaving",
    )


def _seconds(option: str, text: str) -> float:
    found = parse_duration(text)
    if found is None:
        raise UsageError(problem=f"{option} takes a duration as 30s or 10min, not {text!r}")
    return found / SECOND
