"""Asking before what `undo` cannot take back. Everything else is done without a question."""

from __future__ import annotations

import sys

import click

from casckpt.cli.call import Call
from casckpt.errors import NotConfirmed

yes_option = click.option("--yes", is_flag=True, help="Do what cannot be taken back without asking.")
"""The option of every command that calls `confirm`."""


def confirm(call: Call, action: str, answer: str, *, yes: bool) -> None:
    """Ask for an answer on the terminal, on stderr; nothing else is taken for a yes.

    Args:
        action: what is about to be done, as in "freeing 3 commits for good".
        answer: what has to be typed: the number or the name of what is at stake.
        yes: it was confirmed beforehand.

    Raises:
        NotConfirmed: there is nobody to ask, or the answer was another.
    """
    if yes:
        return
    if call.for_program or not (sys.stdin and sys.stdin.isatty()):
        raise NotConfirmed(action=action, problem="there is no terminal to ask at")
    call.output.ask(f"{action} cannot be taken back; type {answer} to go on: ")
    if sys.stdin.readline().strip() != answer:
        raise NotConfirmed(action=action, problem="the answer was another")
