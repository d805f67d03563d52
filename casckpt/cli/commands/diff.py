"""casckpt diff."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.errors import UsageError

LEAVES_SHOWN = 20


@command(
    "casckpt diff gpt~1 gpt", "casckpt diff base/best wide/best --values --by 2", "casckpt diff v1 @ --exit-code -q"
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Only the N leaves that differ most; 0: all.  [default: {LEAVES_SHOWN}]",
)
@click.option("--values", is_flag=True, help="Also measure how far changed numbers are apart.")
@click.option("--by", type=click.IntRange(min=1), metavar="DEPTH", help="With --values: also by path, so many levels.")
@click.option("--exact", is_flag=True, help="With --values: read changed leaves whole.")
@click.option("--exit-code", is_flag=True, help="End with 1 if there is any difference.")
def diff_command(
    call: Call, a: str, b: str, top: int | None, values: bool, by: int | None, exact: bool, exit_code: bool
) -> Answer:
    """Show what differs between two commits.

    Large tensors are compared by ids, and read only with --values if they changed. With --json all leaves are listed
    unless --top is given.
    """
    from casckpt.view.compare import diff_lines, differs

    if (by is not None or exact) and not values:
        raise UsageError(problem="--by and --exact need --values")
    store = call.open()
    with call.progress("diff") as progress:
        found = store.diff(a, b, values=True, by=by, exact=exact, progress=progress) if values else store.diff(a, b)

    def data() -> dict[str, Any]:
        fields = found.to_dict()
        if values:
            fields["values"]["leaves"] = fields["values"]["leaves"][: top or None]
        return {**fields, "leaves": fields["leaves"][: top or None]}

    shown = LEAVES_SHOWN if top is None else top
    code = int(exit_code and differs(found))
    return Answer(data, lambda look: diff_lines(found, look, top=shown), code, confirms=exit_code)
