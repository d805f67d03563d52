"""The answer to a comparison of runs, for `casckpt compare A B` and `casckpt diff A...B`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.errors import CheckFailed

if TYPE_CHECKING:
    from casckpt.ops.diff import DiffWords
    from casckpt.plan.series import Axis

LEAVES_SHOWN = 20


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
    named = {one.removesuffix(":min").removesuffix(":max") for one in metrics}
    asked = [parse_check(check).metric for check in checks]
    wanted = [*metrics, *(name for name in asked if name not in named)] if metrics else None
    store = call.open()
    left, right, *more = runs
    with call.progress("compare") as progress:
        if words is None:
            found = store.compare(left, right, *more, metrics=wanted, x=x)
        else:
            words["progress"] = progress
            found = store.compare(left, right, *more, metrics=wanted, x=x, values=True, **words)
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
