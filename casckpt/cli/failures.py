"""Whatever a command raised, as a `Failure`: click's own errors, ours, interrupts, and bugs."""

from __future__ import annotations

from collections.abc import Iterator

import click

from casckpt.cli.call import Call
from casckpt.errors import CasckptError
from casckpt.view.failure import Failure
from casckpt.view.text import safe

USAGE, BUG, INTERRUPTED = 2, 70, 130


def failure_of(error: BaseException, call: Call) -> Failure:
    """What to say of an exception, and the exit code."""
    if isinstance(error, CasckptError):
        return Failure.of(error)
    if isinstance(error, click.ClickException):
        return _usage(error)
    if _is_interrupt(error):
        return Failure("interrupted", INTERRUPTED, f"interrupted; {call.outcome}")
    what = f"unexpected {type(error).__name__}: {error}"
    return Failure("bug", BUG, what, "this is a bug in casckpt", ("repeat with -vv for the traceback, and report it",))


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is an interrupt, or what broke while cleaning up after one."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt | click.Abort):
            return True
        error = error.__context__
    return False


def _usage(error: click.ClickException) -> Failure:
    """A wrong call in our form: lower case, no final period, the suggestion apart."""
    context = getattr(error, "ctx", None)
    known = getattr(error, "possibilities", None) or []
    what = (error.message if known else error.format_message()).removesuffix(".")
    why = f"did you mean {' or '.join(map(repr, known))}?" if known else ""
    hint = f"{'casckpt' if context is None else context.command_path} --help"
    return Failure("usage", USAGE, what[:1].lower() + what[1:], why, (hint,), {"possibilities": known} if known else {})


def traceback_lines(error: BaseException) -> Iterator[str]:
    """The traceback of an error, harmless to a terminal."""
    import traceback

    for part in traceback.format_exception(error):
        yield from map(safe, part.rstrip("\n").split("\n"))
