"""casckpt undo."""

from __future__ import annotations

from itertools import islice

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.errors import UsageError

OPERATIONS_SHOWN = 20


@command("casckpt undo", "casckpt undo --list", "casckpt undo 12 --dry-run", "casckpt undo 12")
@click.argument("op", type=click.IntRange(min=0), required=False)
@click.option("-l", "--list", "listed", is_flag=True, help="List what was done, newest first, with numbers.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=OPERATIONS_SHOWN,
    show_default=True,
    help="With --list: at most this many; 0: all.",
)
@dry_run
def undo_command(call: Call, op: int | None, listed: bool, limit: int, dry_run: bool) -> Answer:
    """Take back a change of names, notes, pins or runs, or any operation by its number.

    Without OP the newest such change; again, the one before. Commits stay in the store, also where their refs move
    back. The undo of an undo, by its number, does again what that took back.
    """
    from casckpt.view.naming import operations_lines, undo_lines

    if listed and op is not None:
        raise UsageError(problem="--list takes no operation")
    store = call.open()
    if listed:
        found = store.operations()
        operations = list(islice(found, limit or None))
        more = next(found, None) is not None
        if more:
            call.note("there are older operations: casckpt undo --list --limit 0 shows all")
        return Answer(
            lambda: {"operations": [operation.to_dict() for operation in operations], "more": more},
            lambda look: operations_lines(operations, look),
            records=lambda: (operation.to_dict() for operation in operations),
            record="operation",
        )
    call.outcome = "casckpt undo --list shows whether it was taken back"
    report = store.undo(op, dry_run=dry_run)
    if not dry_run:
        call.note(f"do it again with: casckpt undo {report.operation.number}")
    return Answer(report.to_dict, lambda look: undo_lines(report, look), confirms=not dry_run)
