"""The two streams: answers on stdout, everything else on stderr; when to colour, when to show progress.

Plain aligned columns serve terminals and pipes alike, see docs/decisions/0014-no-rich.md.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from time import time_ns
from typing import TextIO

import click

from casckpt.cli.progress import Bar, Json, Plain, Progress
from casckpt.errors import CasckptError, StorageError
from casckpt.view import text as t
from casckpt.view.text import Look, safe

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
    **dict(zip(t.LINES, ({"fg": color} for color in ("blue", "yellow", "magenta", "cyan", "green")), strict=True)),
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
        self.is_lost = False
        """Whether stdout could not take what was written."""
        for stream in (self.stdout, self.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def look(
        self, stream: TextIO, color: str | None, *, ascii_only: bool, time: str = "relative", full_id: bool = False
    ) -> Look:
        """How to draw on a stream: on a terminal no wider than it is."""
        terminal = _is_terminal(stream)
        coloured = wants_color(color, self.environ, terminal=terminal)
        plain = ascii_only or not (stream.encoding or "").lower().replace("-", "").startswith("utf")
        room = self.columns(stream) if terminal else None
        return Look(time_ns(), plain, paint if coloured else t.unpainted, room, time, full_id)

    def columns(self, stream: TextIO) -> int:
        """How many columns the terminal behind a stream has; 80 if it does not tell."""
        return self._size("COLUMNS", stream) or 80

    def lines(self, stream: TextIO) -> int:
        """How many lines it has; 24 if it does not tell."""
        return self._size("LINES", stream) or 24

    def _size(self, name: str, stream: TextIO) -> int:
        """COLUMNS or LINES of a terminal: what the environment says, else the terminal itself; 0 if neither does."""
        given = self.environ.get(name, "")
        if given.isdigit() and int(given):
            return int(given)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size(stream.fileno())
            return size.columns if name == "COLUMNS" else size.lines
        return 0

    def answer(self, lines: Iterable[str]) -> None:
        """Write lines to stdout."""
        with self._writing():
            self.stdout.writelines(f"{line}\n" for line in lines)

    def page(self, lines: Iterable[str], *, wanted: bool, chosen: str | None = None) -> None:
        """Write lines to stdout, through a pager (the one that was chosen) if it is a terminal that has fewer lines."""
        if not (wanted and _can_erase(self.stdout, self.environ)):
            self.answer(lines)
            return
        from casckpt.cli import pager

        rest = iter(lines)
        # One line is the prompt's. A line that wraps is more than one on the screen; less sees to that itself.
        head = list(islice(rest, self.lines(self.stdout) - 1))
        beyond = next(rest, None)
        command = [] if beyond is None else pager.pager_of(self.environ, chosen)
        every = chain(head, () if beyond is None else (beyond,), rest)
        self.stdout.flush()
        if not command or not pager.page(command, every, self.environ):
            self.answer(every)

    def raw(self, pieces: Iterable[bytes]) -> None:
        """Write bytes to stdout as they are; BrokenPipeError if its reader is gone."""
        with self._writing():
            self.stdout.flush()
            self.stdout.buffer.writelines(pieces)

    def text(self, pieces: Iterable[str]) -> None:
        """Write text that ends its lines itself to stdout."""
        with self._writing():
            self.stdout.writelines(pieces)

    def errors(self, lines: Iterable[str]) -> None:
        """Write lines to stderr, after the answer so far."""
        with contextlib.suppress(OSError):
            self.stdout.flush()
        self.stderr.writelines(f"{line}\n" for line in lines)

    def note(self, text: str) -> None:
        """A line on stderr."""
        self.errors([safe(text)])

    def ask(self, text: str) -> None:
        """The start of a line on stderr, after which somebody types."""
        with contextlib.suppress(OSError):
            self.stdout.flush()
        self.stderr.write(safe(text))
        self.stderr.flush()

    def flush(self) -> None:
        """Hand everything to the reader of stdout; BrokenPipeError if it is gone."""
        with self._writing():
            self.stdout.flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Makes what stdout cannot take, on a full disk, an error of ours; after that nothing more is written there."""
        try:
            yield
        except (BrokenPipeError, CasckptError):
            raise
        except OSError as error:
            self.is_lost = True
            self.abandon()
            facts = {"operation": "write", "path": "the answer", "problem": error.strerror, "errno": error.errno}
            raise StorageError(**facts) from error

    def abandon(self) -> None:
        """Send what is left for a reader that is gone nowhere, so that the interpreter ends without complaint."""
        for stream in (self.stdout, self.stderr):
            try:
                stream.flush()
            except OSError:
                with contextlib.suppress(OSError, ValueError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, stream.fileno())
                    os.close(nowhere)

    def progress(self, what: str, mode: str, *, ascii_only: bool = False) -> Progress:
        """Progress on stderr.

        Args:
            mode: `bar`, `plain`, `json` or `none`; `auto` is a bar on a terminal that can erase, else plain lines,
                and nothing on a terminal that cannot.
        """
        stream = self.stderr
        if mode == "auto":
            mode = "bar" if _can_erase(stream, self.environ) else "none" if _is_terminal(stream) else "plain"
        if mode == "bar":
            return Bar(what, stream, lambda: self.columns(stream), ascii_only=ascii_only)
        return {"plain": Plain, "json": Json}.get(mode, Progress)(what, stream)


def _is_terminal(stream: TextIO) -> bool:
    return bool(getattr(stream, "isatty", bool)())


def _can_erase(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return _is_terminal(stream) and environ.get("TERM") != "dumb"
