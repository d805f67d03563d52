"""casckpt du."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.errors import UsageError


@command(
    "casckpt du",
    "casckpt du --by commit -r gpt -n 10",
    "casckpt du gpt~30..gpt --by component",
    "casckpt du --drop -w 'run=sweep-3 and val/loss>2'",
)
@click.argument("revs", nargs=-1, metavar="[REV]...")
@click.option(
    "--by", type=click.Choice(["run", "commit", "component", "dtype"]), help="What a line is.  [default: run]"
)
@click.option("--drop", is_flag=True, help="Say what dropping these commits would free.")
@click.option("-r", "--run", help="Only the commits of a run.")
@click.option("-w", "--where", metavar="FILTER", help="Only commits it fits.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most this many lines.")
def du_command(
    call: Call,
    revs: tuple[str, ...],
    by: str | None,
    drop: bool,
    run: str | None,
    where: str | None,
    limit: int | None,
) -> Answer:
    """Show where the bytes are, and what dropping commits would free.

    REV is a commit or a range A..B; without it all commits are shown. Unique is what only this line needs, shared what
    others need too. Nothing is changed, with --drop neither.
    """
    if not drop:
        return _usage(call, revs, by or "run", run, where, limit)
    if by is not None or limit is not None:
        raise UsageError(problem="--drop lists commits, all of them: it goes with neither --by nor --limit")
    if not revs and run is None and where is None:
        raise UsageError(problem="say which commits: casckpt du --drop REV..., -r RUN or -w FILTER")
    return _drop(call, revs, run, where)


def _usage(call: Call, revs: tuple[str, ...], by: str, run: str | None, where: str | None, limit: int | None) -> Answer:
    from casckpt.view.usage import usage_lines

    report = call.open().du(*revs, by=by, run=run, where=where)
    if not report.commits:
        call.note("no commits yet" if not report.all_commits else "no such commits")

    def rows() -> list[dict[str, Any]]:
        return [row.to_dict() for row in report.rows[:limit]]

    def totals() -> dict[str, Any]:
        return {key: value for key, value in report.to_dict().items() if key != "rows"}

    return Answer(
        lambda: {"rows": rows(), "usage": totals(), "drop": None},
        lambda look: usage_lines(report, look, limit),
        records=rows,
        record="usage",
    )


def _drop(call: Call, revs: tuple[str, ...], run: str | None, where: str | None) -> Answer:
    from casckpt.view.usage import drop_plan_lines

    plan = call.open().plan_drop(*revs, run=run, where=where)
    if not (plan.commits or plan.already):
        call.note("no such commits")

    def rows() -> list[dict[str, Any]]:
        return [commit.to_dict() for commit in plan.commits]

    def totals() -> dict[str, Any]:
        return {key: value for key, value in plan.to_dict().items() if key != "commits"}

    return Answer(
        lambda: {"rows": rows(), "usage": None, "drop": totals()},
        lambda look: drop_plan_lines(plan, look),
        records=rows,
        record="cost",
    )
