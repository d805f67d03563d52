"""casckpt fsck."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.errors import IntegrityError, UsageError


@command("casckpt fsck", "casckpt fsck --full", "casckpt fsck --full --repair", "casckpt fsck --repair --from origin")
@click.option(
    "--quick", "depth", flag_value="quick", default=True, help="Journal, tables of contents, trees.  [default]"
)
@click.option("--full", "depth", flag_value="full", help="Also every stored byte.")
@click.option("--repair", is_flag=True, help="Heal what has a second copy; move damaged files to trash/.")
@click.option("--from", "remote", metavar="REMOTE", help="With --repair: bring what has no whole copy here; is --full.")
@dry_run
def fsck_command(call: Call, depth: str, repair: bool, remote: str | None, dry_run: bool) -> Answer:
    """Verify the store, and heal it if asked to.

    Ends with 4 if damage is left.
    """
    from casckpt.view.health import fsck_lines

    if remote is not None and not repair:
        raise UsageError(problem="--from says where a repair takes what is damaged here: give it with --repair")
    repair = repair and not dry_run  # what is found is what would be healed
    if repair:
        call.outcome = "what was healed stays so; repeat it"
    store = call.open()
    with call.progress("fsck") as progress:
        report = store.fsck(depth, repair=repair, source=remote, progress=progress)
    # What a state lacks by its schema was never stored, so no copy can bring it.
    if not repair and any(one.severity == "damage" and one.where != "schema" for one in report.findings):
        call.note("try: casckpt fsck --full --repair")
    return Answer(
        report.to_dict,
        lambda look: fsck_lines(report, look, notices=not call.quiet),
        0 if report.ok else IntegrityError.exit_code,
    )
