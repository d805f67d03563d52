"""A pager for what is longer than the screen; lines go to it as they come."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterable, Mapping

DEFAULT = "less -FRX"
_NONE = ("", "cat")


def pager_of(environ: Mapping[str, str], chosen: str | None = None) -> list[str]:
    """The words of the pager's command: the one a setting chose, else PAGER, else less; none for an empty or `cat`."""
    chosen = (environ.get("PAGER", DEFAULT) if chosen is None else chosen).strip()
    if chosen in _NONE:
        return []
    with contextlib.suppress(ValueError):
        return shlex.split(chosen)
    return []


def page(command: list[str], lines: Iterable[str], environ: Mapping[str, str]) -> bool:
    """Show lines in a pager until it ends; False if it cannot be started, and then no line was taken.

    Quitting it early ends the lines, and an interrupt is the pager's to handle: neither is a failure of ours.
    """
    own = {"LESS": "FRX", "LESSCHARSET": "utf-8", **environ}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, text=True, encoding="utf-8", errors="backslashreplace", env=own
        )
    except OSError:
        return False
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
            process.stdin.writelines(f"{line}\n" for line in lines)
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        _wait(process)
    return True


def _wait(process: subprocess.Popen[str]) -> None:
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
            return
