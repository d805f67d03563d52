"""casckpt compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.comparing import LEAVES_SHOWN, comparison
from casckpt.cli.options import command

if TYPE_CHECKING:
    from casckpt.plan.series import Axis


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
