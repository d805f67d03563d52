"""casckpt fsck."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.errors import IntegrityError


@command("casckpt fsck", "casckpt fsck --full", "casckpt fsck --full --repair")
@click.option(
    "--quick", "depth", flag_value="quick", default=True, help="Journal, tables of contents, trees.  [default]"
)
@click.option("--full", "depth", flag_value="full", help="Also every stored byte.")
@click.option("--repair", is_flag=True, help="Heal what has a second copy; move damaged files to trash/.")
@dry_run
def fsck_command(call: Call, depth: str, repair: bool, dry_run: bool) -> Answer:
    """Verify the store, and heal it if asked to.

    Ends with 4 if damage is left.
    """
    from casckpt.view.health import fsck_lines

    repair = repair and not dry_run  # what is found is what would be healed
    if repair:
        call.outcome = "what was healed stays so; repeat it"
    store = call.open()
    with call.progress("fsck") as progress:
        report = store.fsck(depth, repair=repair, progress=progress)
    # What a state lacks by its schema was never stored, so no copy can bring it.
    if not repair and any(one.severity == "damage" and one.where != "schema" for one in report.findings):
        call.note("try: casckpt fsck --full --repair")
    return Answer(
        report.to_dict,
        lambda look: fsck_lines(report, look, notices=not call.quiet),
        0 if report.ok else IntegrityError.exit_code,
    )
