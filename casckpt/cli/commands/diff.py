"""casckpt diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.comparing import LEAVES_SHOWN, comparison, shortened
from casckpt.cli.options import command
from casckpt.errors import UsageError

if TYPE_CHECKING:
    from casckpt.ops.diff import DiffWords, Part


@command(
    "casckpt diff gpt~1 gpt",
    "casckpt diff base/best wide/best --values --by 2",
    "casckpt diff base...wide",
    "casckpt diff v1 @ --exit-code -q",
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B", required=False)
@click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Only the N leaves that differ most; 0: all.  [default: {LEAVES_SHOWN}]",
)
@click.option("--meta", is_flag=True, help="Only metrics and what the commits were made with.")
@click.option("--tree", is_flag=True, help="Only the states.")
@click.option("--values", is_flag=True, help="Also measure how far changed numbers are apart.")
@click.option("--by", type=click.IntRange(min=1), metavar="DEPTH", help="With --values: also by path, so many levels.")
@click.option("--exact", is_flag=True, help="With --values: read changed leaves whole.")
@click.option("--exit-code", is_flag=True, help="End with 1 if there is any difference.")
def diff_command(
    call: Call,
    a: str,
    b: str | None,
    top: int | None,
    meta: bool,
    tree: bool,
    values: bool,
    by: int | None,
    exact: bool,
    exit_code: bool,
) -> Answer:
    """Show what differs between two commits.

    A...B compares two runs from where they part, as casckpt compare A B. Large tensors are compared by ids, and read
    only with --values if they changed. With --json all leaves are listed unless --top is given.
    """
    from casckpt.view.compare import diff_lines, differs

    if (by is not None or exact) and not values:
        raise UsageError(problem="--by and --exact need --values")
    if meta and (tree or values):
        raise UsageError(problem="--meta leaves out what --tree and --values are about")
    words: DiffWords | None = {"by": by, "exact": exact} if values else None
    if b is None:
        if meta or tree:
            raise UsageError(problem="--meta and --tree are about two commits: casckpt diff A B")
        return comparison(call, sides(a), top=top, words=words, exit_code=exit_code)
    parts: tuple[Part, ...] = ("metadata",) if meta else ("tree",) if tree else ("metadata", "tree")
    store = call.open()
    with call.progress("diff") as progress:
        if words is None:
            found = store.diff(a, b, parts=parts)
        else:
            words["progress"] = progress
            found = store.diff(a, b, parts=parts, values=True, **words)
    shown = LEAVES_SHOWN if top is None else top
    code = int(exit_code and differs(found))
    return Answer(
        lambda: shortened(found.to_dict(), top),
        lambda look: diff_lines(found, look, top=shown),
        code,
        confirms=exit_code,
    )


def sides(text: str) -> tuple[str, str]:
    """The two revisions of `A...B`."""
    from casckpt.plan.revision import parse_range

    found = parse_range(text)
    if found is None or not found.symmetric:
        raise UsageError(problem="give two commits, or two runs as A...B")
    return str(found.left), str(found.right)
