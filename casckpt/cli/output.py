"""The two streams: answers on stdout, everything else on stderr; when to colour, when to show progress.

Plain aligned columns serve terminals and pipes alike, so `rich` is not needed here; were it, it would be imported in
this module alone, late, and for terminals only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

import click

from casckpt.view import text as t
from casckpt.view.text import Look, safe

PROGRESS_AFTER_S = 0.5
PROGRESS_EVERY_S = 0.1
ERASE = "\r\x1b[K"

_STYLES: dict[str, dict[str, bool | str]] = {
    t.ID: {"fg": "yellow"},
    t.REF: {"fg": "cyan"},
    t.LABEL: {"bold": True},
    t.MUTED: {"dim": True},
    t.GOOD: {"fg": "green"},
    t.BAD: {"fg": "red", "bold": True},
    t.ADDED: {"fg": "green"},
    t.REMOVED: {"fg": "red"},
    t.CHANGED: {"fg": "yellow"},
}


def wants_color(choice: str | None, environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to colour: --color, then NO_COLOR, CASCKPT_COLOR, FORCE_COLOR, then whether it is a terminal.

    Click's own rule knows none of the variables.
    """
    if choice in ("always", "never"):
        return choice == "always"
    if choice is None:
        if environ.get("NO_COLOR"):
            return False
        if environ.get("CASCKPT_COLOR") in ("always", "never"):
            return environ["CASCKPT_COLOR"] == "always"
        if environ.get("FORCE_COLOR"):
            return environ["FORCE_COLOR"] != "0"
    return terminal and environ.get("TERM") != "dumb"


def paint(role: str, text: str) -> str:
    """A piece of text in the colour of its role; one of the 8 of every terminal's own theme."""
    return click.style(text, **_STYLES[role]) if text and role in _STYLES else text  # type: ignore[arg-type]


class Output:
    """The streams of one call. What cannot be encoded is written escaped, so that no text makes a command fail."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.stdout, self.stderr = sys.stdout, sys.stderr
        for stream in (self.stdout, self.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def look(self, stream: TextIO, color: str | None, *, ascii_only: bool) -> Look:
        """How to draw on a stream."""
        coloured = wants_color(color, self.environ, terminal=_is_terminal(stream))
        plain = ascii_only or not (stream.encoding or "").lower().replace("-", "").startswith("utf")
        now_ns = time.time_ns()
        return Look(now_ns, plain, paint) if coloured else Look(now_ns, plain)

    def answer(self, lines: Iterable[str]) -> None:
        """Write lines to stdout."""
        self.stdout.writelines(f"{line}\n" for line in lines)

    def raw(self, pieces: Iterable[bytes]) -> None:
        """Write bytes to stdout as they are; BrokenPipeError if its reader is gone."""
        self.stdout.flush()
        self.stdout.buffer.writelines(pieces)

    def text(self, pieces: Iterable[str]) -> None:
        """Write text that ends its lines itself to stdout."""
        self.stdout.writelines(pieces)

    def errors(self, lines: Iterable[str]) -> None:
        """Write lines to stderr, after the answer so far."""
        with contextlib.suppress(OSError):
            self.stdout.flush()
        self.stderr.writelines(f"{line}\n" for line in lines)

    def note(self, text: str) -> None:
        """A line on stderr."""
        self.errors([safe(text)])

    def flush(self) -> None:
        """Hand everything to the reader of stdout; BrokenPipeError if it is gone."""
        self.stdout.flush()

    def abandon(self) -> None:
        """Send what is left for a reader that is gone nowhere, so that the interpreter ends without complaint."""
        for stream in (self.stdout, self.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                with contextlib.suppress(OSError, ValueError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, stream.fileno())
                    os.close(nowhere)

    def progress(self, what: str, *, wanted: bool) -> Progress:
        """A progress line on stderr, silent unless it is wanted and stderr a terminal that can erase."""
        return Progress(what, self.stderr if wanted and _can_erase(self.stderr, self.environ) else None)


def _is_terminal(stream: TextIO) -> bool:
    return bool(getattr(stream, "isatty", bool)())


def _can_erase(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return _is_terminal(stream) and environ.get("TERM") != "dumb"


class Progress:
    """A line that says how far something is: shown after half a second, redrawn ten times a second, then erased.

    A context manager; calling it with bytes done and in total reports progress.
    """

    def __init__(self, what: str, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = 0
        self.total: int | None = None
        self._what = what
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._next = self._started + PROGRESS_AFTER_S
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._stream is not None:
            self._stream.write(ERASE)
            self._stream.flush()

    def __call__(self, done: int, total: int | None = None) -> None:
        self.done, self.total = done, total
        now = self._clock()
        if self._stream is None or now < self._next:
            return
        self._next = now + PROGRESS_EVERY_S
        self._shown = True
        self._stream.write(ERASE + t.progress(self._what, done, total, now - self._started))
        self._stream.flush()
