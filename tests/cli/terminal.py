"""A command on a terminal of its own: what it shows, what is left on the screen, and the keys it is sent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTERRUPT = b"\x03"
_PROGRAM = """
import fcntl, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started the tests may ignore interrupts
from casckpt.cli import main
{patch}
sys.exit(main(sys.argv[1:]))
"""


class Terminal:
    """`casckpt WORDS` running on a pseudo-terminal that is its controlling one. A context manager.

    Args:
        patch: code that the process runs first.
    """

    def __init__(
        self, folder: Path, *words: str, lines: int = 24, columns: int = 100, patch: str = "", **more: str
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environ: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")},
            "PYTHONPATH": str(ROOT), "TERM": "xterm", "LC_ALL": "C.UTF-8", **more,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(patch=patch), *words],
            cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.shown = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read_until(self, pattern: str, timeout_s: float = 60.0) -> None:
        """Read until what was shown has a match; fails if it ends before."""
        while re.search(pattern.encode(), self.shown) is None:
            assert self._read(timeout_s), f"no {pattern!r} in {self.shown!r}"

    def send(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def end(self, timeout_s: float = 60.0) -> int:
        """Read to the end and return the exit code."""
        while self._read(timeout_s):
            pass
        return self._process.wait(timeout_s)

    @property
    def screen(self) -> list[str]:
        """The lines that are left, colours apart: what was erased or written over is not there any more."""
        lines = [""]
        for part in re.split(r"(\r\n|\r|\x1b\[K)", re.sub(r"\x1b\[[\d;]*m", "", self.shown.decode())):
            if part == "\r\n":
                lines.append("")
            elif part == "\r":
                lines[-1] = "\0" + lines[-1].removeprefix("\0")  # the next text goes over it from its start
            elif part == "\x1b[K":
                lines[-1] = "" if lines[-1].startswith("\0") else lines[-1]
            elif part:
                old = lines[-1]
                lines[-1] = part + old[1 + len(part) :] if old.startswith("\0") else old + part
        return [line.removeprefix("\0") for line in lines if line.strip("\0")]

    def _read(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._ours], [], [], 0.1)
            if ready:
                with contextlib.suppress(OSError):  # Linux says EIO when the other side is closed
                    data = os.read(self._ours, 1 << 16)
                    self.shown += data
                    return bool(data)
                return False
            if self._process.poll() is not None and not select.select([self._ours], [], [], 0)[0]:
                return False
        raise AssertionError(f"nothing for {timeout_s} s after {self.shown!r}")
