"""Running `casckpt` in this process, its output made the same on every run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import click
from click.testing import CliRunner

from casckpt.cli import main
from casckpt.remote.roots import pusher
from tests.cli import schemas


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The one object on stdout; fails if there is anything else."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


class _Entry(click.Command):
    def main(self, args: Any = None, prog_name: str | None = None, **_: Any) -> Any:  # type: ignore[override]
        raise SystemExit(main(args))


COLUMNS = 100
LATE_NS = 4_102_444_800 * 10**9
"""When a terminal of the tests looks: 2100, so that every time is shown as a date, in the same number of columns."""
_COLOURS = {
    "0": "/", "1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "34": "blue", "35": "magenta",
    "36": "cyan",
}  # fmt: skip


def on_terminal(*words: str) -> Result:
    """The same on terminals of 100 columns, with colours in words: `<yellow>75beb7660a1b</>`."""
    more = {"COLUMNS": str(COLUMNS), "LINES": "1000"}
    with (
        mock.patch("casckpt.cli.output._is_terminal", return_value=True),
        mock.patch("casckpt.cli.output.time_ns", return_value=LATE_NS),
    ):
        done = run(*words, environ=more)
    return Result(done.code, _named(done.out), _named(done.err))


def _named(text: str) -> str:
    """Colours in words; any other sequence for the terminal stays, and would be seen."""
    text = re.sub(r"\x1b\[31m\x1b\[1m", "<red bold>", text)
    return re.sub(r"\x1b\[(\d+)m", lambda match: f"<{_COLOURS[match[1]]}>", text)


def run(*words: str, environ: Mapping[str, str | None] | None = None) -> Result:
    """`casckpt WORDS`, its streams caught apart; neither is a terminal. What it prints for programs has its form."""
    clean: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("CASCKPT_"))
    clean |= {"NO_COLOR": None, "FORCE_COLOR": None, "PAGER": None, "COLUMNS": "80", "TERM": "xterm"}
    # Nobody's own settings are read or changed.
    clean |= {"HOME": os.path.join(os.getcwd(), "home"), "XDG_CONFIG_HOME": None, "XDG_DATA_HOME": None}
    clean |= environ or {}
    done = CliRunner().invoke(_Entry("casckpt"), list(words), env=clean)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    result = Result(done.exit_code, done.stdout, done.stderr)
    _check_form(result, words)
    return result


def _check_form(result: Result, words: tuple[str, ...]) -> None:
    if "--json" in words and "--help" not in words:
        schemas.validate_envelope(result.envelope)
        assert result.envelope["exit"] == result.code
    if "--ndjson" in words:
        lines = [json.loads(line) for line in result.out.splitlines()]
        for line in lines:
            schemas.validate_record(line)
        assert lines[-1]["type"] == "end"
        assert lines[-1]["exit"] == result.code


class Normal:
    """Replaces what differs from run to run: ids in order of appearance, ages, times, sizes, folders."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        text = text.replace(os.path.realpath(os.getcwd()), "TMP").replace(pusher(), "USER@HOST")
        if text.startswith("{"):
            return json.dumps(self._json(json.loads(text)), indent=1, ensure_ascii=True) + "\n"
        text = re.sub(rf"\b{re.escape(os.uname().nodename)}:\d+", "HOST:PID", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", text)
        text = re.sub(r"packs/[0-9a-f]{2}/[0-9a-f]{64}\.[0-9a-f]{8}", "packs/KEY", text)
        text = re.sub(r"\b[0-9a-f]{12,64}\b", self._identity, text)
        text = re.sub(r"'[0-9a-f]{4}'", "'HEX4'", text)
        text = re.sub(r" *\+?\b\d[\d,.]* (B|KiB|MiB|GiB|TiB)\b", " SIZE", text)
        text = re.sub(r"\(\d+\.\dx\)", "(RATIO)", text)
        text = re.sub(r"(?:just now|\d+ (?:s|min|h|d) ago)( {2,})?", lambda match: "AGE" + (match[1] or "")[:2], text)
        text = re.sub(r"\d+ s from now", "N s from now", text)
        text = re.sub(r"the first for -?\d+ (?:s|min|h|d)", "the first for AGE", text)
        return re.sub(r"offset \d+|at \d+\)", lambda match: re.sub(r"\d+", "N", match[0]), text)

    def _identity(self, match: re.Match[str]) -> str:
        number = self._ids.setdefault(match[0][:12], len(self._ids) + 1)
        return f"ID{number}".ljust(12, "_") + ("" if len(match[0]) == 12 else f"/{len(match[0])}")

    def _json(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            # A bundle says by which process and when it was made, and its length is that of the words.
            own = {"bytes": 0} if str(value.get("path")).endswith(".bundle") else {}
            return {name: own.get(name, self._json(item, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self._json(item, key) for item in value]
        if key in ("elapsed_s", "interval_s", "seconds", "up", "down") or (
            key.startswith("bytes_") and isinstance(value, int)
        ):
            return 0
        fixed = (
            {"version": "VERSION", "by": "BY", "host": "HOST", "user": "USER", "text": self(f"'{value}'")[1:-1]}
            if isinstance(value, str)
            else {}
        )
        return fixed.get(key, self(value) if isinstance(value, str) else value)
