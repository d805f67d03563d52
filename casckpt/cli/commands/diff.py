"""casckpt diff."""

from __future__ import annotations

from typing import Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command

LEAVES_SHOWN = 20


@command("casckpt diff gpt~1 gpt", "casckpt diff base/best wide/best --top 0", "casckpt diff v1 @ --exit-code -q")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Only the N leaves that differ most; 0: all.  [default: {LEAVES_SHOWN}]",
)
@click.option("--exit-code", is_flag=True, help="End with 1 if there is any difference.")
def diff_command(call: Call, a: str, b: str, top: int | None, exit_code: bool) -> Answer:
    """Show what differs between two commits.

    Large tensors are compared by ids and not read. With --json all leaves are listed unless --top is given.
    """
    from casckpt.view.compare import diff_lines, differs

    with call.open() as store:
        found = store.diff(a, b)

    def data() -> dict[str, Any]:
        values = found.to_dict()
        return {**values, "leaves": values["leaves"][: top or None]}

    shown = LEAVES_SHOWN if top is None else top
    code = int(exit_code and differs(found))
    return Answer(data, lambda look: diff_lines(found, look, top=shown), code, confirms=exit_code)
