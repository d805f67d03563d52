"""casckpt compare, and the same for `casckpt diff A...B`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.errors import CheckFailed

if TYPE_CHECKING:
    from casckpt.ops.diff import DiffWords
    from casckpt.plan.series import Axis

LEAVES_SHOWN = 20


@command(
    "casckpt compare base wide",
    "casckpt compare base wide lr3e-4 -k val/loss -k acc:max --x epoch",
    "casckpt compare main pr --fail-if 'val/loss > +2%' -q",
)
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@click.option(
    "-k",
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="Only this metric, METRIC:min or METRIC:max if no run has a rule for it; may be given more than once.",
)
@click.option("--x", type=click.Choice(["step", "epoch", "time"]), default="step", help="Align by.  [default: step]")
@click.option("--values", is_flag=True, help="Also measure how far changed numbers of the last states are apart.")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Only the N leaves that differ most; 0: all.  [default: {LEAVES_SHOWN}]",
)
@click.option(
    "--fail-if",
    "checks",
    multiple=True,
    metavar="CHECK",
    help="End with 12 if another run is worse than the first by that, as 'val/loss > +2%'.",
)
@click.option("--exit-code", is_flag=True, help="End with 1 if there is any difference.")
def compare_command(
    call: Call,
    runs: tuple[str, ...],
    metrics: tuple[str, ...],
    x: Axis,
    values: bool,
    top: int | None,
    checks: tuple[str, ...],
    exit_code: bool,
) -> Answer:
    """Compare runs: which is better, and where they part.

    A RUN is a run or any revision, with the commits that led to it; the first is what the others are compared with.
    Shown are their common history, what was set otherwise, their metrics side by side, and what differs between their
    last states.
    """
    return comparison(call, runs, metrics, x, top, {} if values else None, checks, exit_code=exit_code)  # fmt: skip


def comparison(
    call: Call,
    runs: Sequence[str],
    metrics: Sequence[str] = (),
    x: Axis = "step",
    top: int | None = None,
    words: DiffWords | None = None,
    checks: Sequence[str] = (),
    *,
    exit_code: bool = False,
) -> Answer:
    """The answer to a comparison of runs.

    Args:
        words: how to measure the values of the last states; None if they are not to be measured.
    """
    from casckpt.plan.checks import parse_check
    from casckpt.view.comparison import comparison_differs, comparison_lines

    if len(runs) < 2:
        raise click.UsageError("give two runs or more")
    asked = [parse_check(check).metric for check in checks]
    wanted = [*metrics, *(name for name in asked if name not in {one.rpartition(":")[0] or one for one in metrics})]
    store = call.open()
    left, right, *more = runs
    with call.progress("compare") as progress:
        if words is None:
            found = store.compare(left, right, *more, metrics=wanted if metrics else None, x=x)
        else:
            words["progress"] = progress
            found = store.compare(left, right, *more, metrics=wanted if metrics else None, x=x, values=True, **words)
    results = [result for check in checks for result in found.check(check)]
    failed = any(result.failed for result in results)

    def data() -> dict[str, Any]:
        fields = found.to_dict()
        for tip in fields["tips"]:
            if tip["diff"] is not None:
                tip["diff"] = shortened(tip["diff"], top)
        return {**fields, "checks": [result.to_dict() for result in results]}

    shown = LEAVES_SHOWN if top is None else top
    charted = [metric.name for metric in found.metrics] if metrics else []
    return Answer(
        data,
        lambda look: comparison_lines(found, look, top=shown, charted=charted, checks=results),
        CheckFailed.exit_code if failed else int(exit_code and comparison_differs(found)),
        confirms=exit_code or bool(checks),
        command="compare",
    )


def shortened(fields: dict[str, Any], top: int | None) -> dict[str, Any]:
    """A diff as `--json` prints it, with the `top` leaves; None and 0: all."""
    if fields["values"] is not None:
        fields["values"]["leaves"] = fields["values"]["leaves"][: top or None]
    return {**fields, "leaves": fields["leaves"][: top or None]}
