"""Colours, encodings, pipes that break, progress lines."""

import io
import json
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Mapping
from hashlib import shake_256
from pathlib import Path

import pytest

import casckpt
from casckpt.cli.app import heard
from casckpt.cli.call import Call
from casckpt.cli.output import Output, wants_color
from casckpt.cli.progress import ERASE, Bar, Json, Plain, Progress
from casckpt.errors import RevisionWarning
from tests.cli import scenes
from tests.cli.runner import run

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "casckpt.cli"]


def environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **more}


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes.history(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "variables", "terminal", "coloured"),
    [
        (None, {}, True, True),
        (None, {}, False, False),
        (None, {"TERM": "dumb"}, True, False),
        (None, {"NO_COLOR": "1"}, True, False),
        (None, {"NO_COLOR": ""}, True, True),
        (None, {"FORCE_COLOR": "1"}, False, True),
        (None, {"FORCE_COLOR": "0"}, True, False),
        (None, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        (None, {"CASCKPT_COLOR": "always", "FORCE_COLOR": "0"}, False, True),
        (None, {"CASCKPT_COLOR": "never"}, True, False),
        (None, {"CASCKPT_COLOR": "pink"}, True, True),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
    ],
)
def test_the_first_of_option_and_variables_decides_on_colour(
    choice: str | None, variables: Mapping[str, str], terminal: bool, coloured: bool
) -> None:
    assert wants_color(choice, variables, terminal=terminal) is coloured


def test_colour_changes_no_text(history: Path) -> None:
    for words in (
        ["log"],
        ["show", "v1", "--tree"],
        ["diff", "gpt~1", "gpt"],
        ["status"],
        ["fsck"],
        ["runs"],
        ["ls", "gpt"],
    ):
        plain, coloured = run(*words), run(*words, "--color", "always")
        assert "\x1b" not in plain.out
        assert "\x1b[" in coloured.out
        import click

        assert click.unstyle(coloured.out) == plain.out
    assert "\x1b[" in run("show", "nothing", environ={"FORCE_COLOR": "1"}).err


def test_a_terminal_gets_colour_and_no_color_takes_it_away(history: Path) -> None:
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        done = subprocess.run([*COMMAND, "log"], env=environ(**more), stdout=theirs, check=True)
        os.close(theirs)
        shown = os.read(ours, 1 << 16)
        os.close(ours)
        assert done.returncode == 0
        assert (b"\x1b[" in shown) is coloured


def test_a_reader_that_went_away_is_exit_141_without_a_word(history: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [*COMMAND, "log", "--all"], env=environ(), stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "words", [["log"], ["log", "--json"], ["log", "--ndjson"], ["log", "--tsv", "id"], ["cat", "gpt:name"]]
)
def test_an_answer_that_cannot_be_written_is_exit_9(history: Path, words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, *words], env=environ(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 9
    assert done.stderr.startswith(b"error: cannot write the answer\n  why: No space left on device")


def test_a_narrow_encoding_gets_ascii_and_never_fails(history: Path) -> None:
    assert run("commit", "out", "-m", "naïve 検証").code == 0
    done = subprocess.run(
        [*COMMAND, "show"], env=environ(PYTHONIOENCODING="ascii"), capture_output=True, text=True, check=True
    )
    assert "na\\xefve" in done.stdout
    assert " -> " in run("diff", "gpt~1", "gpt", "--ascii").out
    assert run("diff", "gpt~1", "gpt", "--ascii").out.isascii()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(progress: Progress, clock: Clock, times: tuple[float, ...], total: int | None = 1 << 20) -> None:
    with progress:
        for clock.now in times:
            progress(int(clock.now / times[-1] * (total or 1 << 20)), total)


def bar(terminal: io.StringIO, clock: Clock, columns: int = 100, *, ascii_only: bool = False) -> Bar:
    made = Bar("commit", terminal, lambda: columns, ascii_only=ascii_only)
    made._clock, made._started = clock, 0.0
    return made


def test_a_bar_waits_half_a_second_is_drawn_ten_times_a_second_and_erased() -> None:
    terminal, clock = Terminal(), Clock()
    drawn(bar(terminal, clock), clock, (0.2, 0.4, 0.6, 0.61, 0.65, 0.8))
    first, second, last = terminal.getvalue().split(ERASE)[1:]
    assert first.startswith("commit ━")
    assert first.endswith("768.0 KiB of 1.0 MiB  74 %  1.2 MiB/s  0:01 left")
    assert "100 %" in second
    assert last == ""


@pytest.mark.parametrize("columns", [1, 10, 40, 80, 300])
@pytest.mark.parametrize("total", [None, 0, 1 << 20])
def test_a_bar_never_fills_the_terminal_and_keeps_to_ascii_where_asked(columns: int, total: int | None) -> None:
    terminal, clock = Terminal(), Clock()
    drawn(bar(terminal, clock, columns, ascii_only=True), clock, (1.0, 2.0, 3.0), total)
    lines = terminal.getvalue().split(ERASE)
    assert all(len(line) < columns for line in lines)
    assert terminal.getvalue().isascii()
    assert lines[-1] == ""


def test_quick_work_shows_no_progress() -> None:
    for made in (bar(terminal := Terminal(), clock := Clock()), Plain("commit", terminal, clock)):
        drawn(made, clock, (0.1, 0.3))
    assert terminal.getvalue() == ""


def test_a_log_gets_a_line_a_quarter_and_one_each_half_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    drawn(Plain("push", stream, clock), clock, (1.0, 6.0, 7.0, 9.0, 39.0, 40.0, 95.0, 96.0, 100.0), 100_000)
    shown = [line.split("  ")[1] for line in stream.getvalue().splitlines()]
    assert shown == ["39 %", "95 %", "100 %"]
    assert "\x1b" not in stream.getvalue()


def test_progress_as_json_is_an_object_a_line_and_ends_with_where_it_ended() -> None:
    stream, clock = io.StringIO(), Clock()
    drawn(Json("push", stream, clock), clock, (0.5, 0.6, 0.7, 2.0))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["done"] for event in events] == [1 << 18, 1 << 20, 1 << 20]
    assert events[-1] == {"type": "progress", "phase": "push", "done": 1 << 20, "total": 1 << 20, "rate": 1 << 19}


@pytest.mark.parametrize(
    ("stream", "term", "mode", "expected"),
    [
        (Terminal(), "xterm", "auto", Bar),
        (Terminal(), "dumb", "auto", Progress),
        (io.StringIO(), "xterm", "auto", Plain),
        (Terminal(), "xterm", "plain", Plain),
        (Terminal(), "xterm", "json", Json),
        (Terminal(), "xterm", "none", Progress),
        (io.StringIO(), "xterm", "bar", Bar),
    ],
)
def test_progress_goes_by_the_stream_unless_asked_for(
    stream: io.StringIO, term: str, mode: str, expected: type[Progress]
) -> None:
    output = Output({"TERM": term})
    output.stderr = stream
    assert type(output.progress("commit", mode)) is expected


def test_quiet_and_json_show_no_progress_unless_it_is_asked_for() -> None:
    for settings, expected in (
        ({"quiet": True}, Progress),
        ({"json": True}, Progress),
        ({"ndjson": True}, Progress),
        ({"json": True, "progress_mode": "json"}, Json),
        ({}, Plain),
    ):
        output = Output({})
        output.stderr = io.StringIO()
        assert type(Call(output, {}, **settings).progress("commit")) is expected  # type: ignore[arg-type]


def test_a_stream_that_is_gone_does_not_stop_the_work() -> None:
    class Gone(Terminal):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    for made in (bar(gone := Gone(), clock := Clock()), Plain("commit", gone, clock), Json("commit", gone, clock)):
        drawn(made, clock, (10.0, 50.0))
        assert made.done == 1 << 20


def committed_file(folder: Path) -> tuple[Path, bytes]:
    """A store with a file of 4 MiB in a pack of its own; the pack and the content."""
    content = shake_256(b"file").digest(4 << 20)
    (folder / "large.bin").write_bytes(content)
    with casckpt.init(folder / scenes.STORE) as store:
        store.commit_path(folder / "large.bin", compress="off")
    [pack] = (folder / scenes.STORE / "packs").rglob("*.pack")
    return pack, content


def test_a_file_is_printed_byte_for_byte(tmp_path: Path) -> None:
    _, content = committed_file(tmp_path)
    done = subprocess.run(
        [*COMMAND, "cat", "main:large.bin"], cwd=tmp_path, env=environ(), capture_output=True, check=True
    )
    assert done.stdout == content
    assert done.stderr == b""
    found = run("cat", "main", "--json", "-C", str(tmp_path)).envelope
    assert found["data"]["base64"] is None
    assert [warning["code"] for warning in found["warnings"]] == ["cat.too-large"]


def test_a_reader_of_a_file_that_went_away_is_exit_141(tmp_path: Path) -> None:
    committed_file(tmp_path)
    with subprocess.Popen(
        [*COMMAND, "cat", "main"], cwd=tmp_path, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(1000)) == 1000
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_of_a_damaged_file_only_what_is_right_is_printed(tmp_path: Path) -> None:
    pack, content = committed_file(tmp_path)
    data = bytearray(pack.read_bytes())
    data[data.index(content[-1000:])] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    done = subprocess.run([*COMMAND, "cat", "main"], cwd=tmp_path, env=environ(), capture_output=True, check=False)
    assert done.returncode == 4
    assert 0 < len(done.stdout) < len(content)
    assert content.startswith(done.stdout)
    assert done.stderr.startswith(b"error: large.bin of commit ")


def test_only_warnings_of_revisions_are_said_in_our_form_and_each_once() -> None:
    call = Call(Output({}), {}, json=True)
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with heard(call):
            for _ in range(2):
                warnings.warn("clash", RevisionWarning, stacklevel=1)
            warnings.warn("other", UserWarning, stacklevel=1)
    assert call.warnings == [{"code": "rev.clash", "message": "clash"}]
    assert [str(one.message) for one in others] == ["other"]
