"""How far something is, on stderr: a line that redraws itself, plain lines for logs, or JSON for programs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import TextIO

from casckpt.view import text as t

SHOWN_AFTER_S = 0.5
BAR_EVERY_S = 0.1
PLAIN_AFTER_S = 5.0
PLAIN_EVERY_S = 30.0
JSON_EVERY_S = 0.5
ERASE = "\r\x1b[K"
_QUARTER = 0.25


class Progress:
    """A context manager; calling it with bytes done and in total reports progress. This one only remembers them."""

    def __init__(self, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = 0
        self.total: int | None = None
        self._what = what
        self._stream = stream
        self._clock = clock
        self._started = clock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._end()

    def __call__(self, done: int, total: int | None = None) -> None:
        self.done, self.total = done, total
        elapsed_s = self._clock() - self._started
        if self._is_due(elapsed_s):
            # Progress that nobody can see any more is no reason to stop the work.
            with contextlib.suppress(OSError, ValueError):
                self._show(elapsed_s)
                self._stream.flush()

    def _is_due(self, elapsed_s: float) -> bool:
        return False

    def _show(self, elapsed_s: float) -> None:
        """Say how far it is."""

    def _end(self) -> None:
        """Say or undo what is left at the end."""


class Bar(Progress):
    """A line on a terminal: shown after half a second, redrawn ten times a second, then erased."""

    def __init__(self, what: str, stream: TextIO, columns: Callable[[], int], *, ascii_only: bool = False) -> None:
        super().__init__(what, stream)
        self._columns = columns
        self._ascii = ascii_only
        self._next_s = SHOWN_AFTER_S
        self._is_shown = False

    def _is_due(self, elapsed_s: float) -> bool:
        return elapsed_s >= self._next_s

    def _show(self, elapsed_s: float) -> None:
        self._next_s = elapsed_s + BAR_EVERY_S
        self._is_shown = True
        width = self._columns() - 1  # a line that fills the last column would wrap on some terminals
        line = t.progress_bar(self._what, self.done, self.total, elapsed_s, width, ascii_only=self._ascii)
        self._stream.write(ERASE + line)

    def _end(self) -> None:
        if self._is_shown:
            self._stream.write(ERASE)
            self._stream.flush()


class Plain(Progress):
    """Lines in a log: after five seconds at every quarter, and at least every half minute."""

    def __init__(self, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(what, stream, clock)
        self._last_s = 0.0
        self._quarter = 0

    def _is_due(self, elapsed_s: float) -> bool:
        quarter = int(self.done / self.total / _QUARTER) if self.total else 0
        is_due = elapsed_s - self._last_s >= PLAIN_EVERY_S or (elapsed_s >= PLAIN_AFTER_S and quarter > self._quarter)
        if is_due:
            self._quarter = quarter
        return is_due

    def _show(self, elapsed_s: float) -> None:
        self._last_s = elapsed_s
        self._stream.write(t.progress(self._what, self.done, self.total, elapsed_s) + "\n")


class Json(Progress):
    """A JSON object a line, twice a second and at the end: `{"type": "progress", "phase", "done", "total", "rate"}`."""

    def __init__(self, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(what, stream, clock)
        self._next_s = 0.0

    def _is_due(self, elapsed_s: float) -> bool:
        return elapsed_s >= self._next_s

    def _show(self, elapsed_s: float) -> None:
        self._next_s = elapsed_s + JSON_EVERY_S
        rate = int(self.done / elapsed_s) if elapsed_s > 0 else None
        event = {"type": "progress", "phase": self._what, "done": self.done, "total": self.total, "rate": rate}
        self._stream.write(json.dumps(event) + "\n")

    def _end(self) -> None:
        self._show(self._clock() - self._started)
        self._stream.flush()
