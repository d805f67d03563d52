"""casckpt doctor."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.errors import StoreNotFound

CHECK_FAILED = 12


@command("casckpt doctor", "casckpt doctor --strict -q", "casckpt -C /data/ckpts doctor --json")
@click.option("--strict", is_flag=True, help="End with 12 if there is a warning or problem.")
def doctor_command(call: Call, strict: bool) -> Answer:
    """Check machine and store, and say how to mend what is wrong.

    Nothing in the store is changed; its file system is tried out on files in tmp/ that are removed at once. Ends with 0
    whatever is found, unless --strict is given or the store cannot be opened. With -q only what is wrong is shown.
    """
    from dataclasses import replace

    from casckpt.cli.settings import user_file
    from casckpt.ops.doctor import doctor, settings_checks
    from casckpt.ops.settings import user_layer
    from casckpt.view.doctor import doctor_lines

    try:
        call.place = call.locate()
    except StoreNotFound:
        call.place = None
    report = doctor(call.place)
    mine = settings_checks("user.settings", user_layer(user_file(call.environ)))
    report = replace(report, checks=(*report.checks, *mine))
    code = report.exit_code or (CHECK_FAILED if strict and not report.ok else 0)
    return Answer(
        report.to_dict,
        lambda look: doctor_lines(report, look, details=not call.quiet),
        code,
        records=lambda: (check.to_dict() for check in report.checks),
        record="check",
    )
