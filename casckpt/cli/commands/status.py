"""casckpt status."""

from __future__ import annotations

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command


@command("casckpt status", "casckpt status --json", "casckpt status --exit-code -q")
@click.option("--exit-code", is_flag=True, help="End with 1 if anything needs attention.")
def status_command(call: Call, exit_code: bool = False) -> Answer:
    """Show the store at a glance, and what needs attention."""
    from casckpt.view.stores import attention, next_command, status_lines

    store = call.open()
    found = store.status()
    wanting = attention(found)
    return Answer(
        lambda: {**found.to_dict(), "attention": wanting, "next": next_command(found)},
        lambda look: status_lines(found, look),
        int(exit_code and bool(wanting)),
        confirms=exit_code,
    )
