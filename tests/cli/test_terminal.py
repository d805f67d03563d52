"""Commands on a real terminal: progress that goes away, ctrl-C, pagers, long rows."""

from __future__ import annotations

import shutil
from hashlib import shake_256
from pathlib import Path

import pytest

import casckpt
from tests.cli import scenes
from tests.cli.terminal import INTERRUPT, Terminal

AT_ONCE = "import casckpt.cli.progress as p; p.SHOWN_AFTER_S = p.BAR_EVERY_S = 0"
STUCK = """
import time
import casckpt.cli.progress as p
p.SHOWN_AFTER_S = 0
show = p.Bar._show
def stuck(self, elapsed_s):
    show(self, elapsed_s)
    self._stream.flush()
    time.sleep(60)
p.Bar._show = stuck
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    (tmp_path / "large.bin").write_bytes(shake_256(b"large").digest(24 << 20))
    casckpt.init(tmp_path / scenes.STORE).close()
    return tmp_path


@pytest.fixture
def long(tmp_path: Path) -> Path:
    with casckpt.init(tmp_path / scenes.STORE) as store:
        for step in range(60):
            store.commit({"step": step}, run="gpt", step=step)
    return tmp_path


def test_progress_is_drawn_and_nothing_of_it_is_left(large: Path) -> None:
    with Terminal(large, "commit", "large.bin", patch=AT_ONCE) as terminal:
        assert terminal.end() == 0
        assert terminal.shown.count(b"commit \xe2\x94\x81") >= 1
        [line] = terminal.screen
        assert "main" in line
        assert "24.0 MiB" in line
        assert "of" not in line.split()


@pytest.mark.parametrize("words", [("-q",), ("--progress", "none"), ("--json",)])
def test_progress_is_not_drawn_where_it_is_not_wanted(large: Path, words: tuple[str, ...]) -> None:
    with Terminal(large, "commit", "large.bin", *words, patch=AT_ONCE) as terminal:
        assert terminal.end() == 0
        assert b"\x1b[K" not in terminal.shown


def test_ctrl_c_ends_a_commit_with_a_line_and_leaves_the_store_as_it_was(large: Path) -> None:
    with Terminal(large, "commit", "large.bin", patch=STUCK) as terminal:
        terminal.read_until("commit .* of 24.0 MiB")
        terminal.send(INTERRUPT)
        assert terminal.end() == 130
        shown = [line.replace("^C", "") for line in terminal.screen]
        assert shown == ["interrupted; nothing was committed"]
    assert not list((large / scenes.STORE / "packs").iterdir())
    with Terminal(large, "commit", "large.bin") as terminal:
        assert terminal.end() == 0


def test_a_long_answer_goes_through_the_pager_and_a_short_one_does_not(long: Path) -> None:
    words = {"CASCKPT_PAGER": "tee paged", "PAGER": "false"}
    with Terminal(long, "log", "-n", "20", lines=24, **words) as terminal:
        assert terminal.end() == 0
        assert len(terminal.screen) == 20
        assert not (long / "paged").exists()
    with Terminal(long, "log", lines=24, **words) as terminal:
        assert terminal.end() == 0
        assert len(terminal.screen) == 60
    paged = (long / "paged").read_text()
    assert len(paged.splitlines()) == 60
    assert "\x1b[" in paged


@pytest.mark.parametrize(
    ("pager", "words"), [("tee paged", ("--no-pager",)), ("", ()), ("cat", ()), ("/no/such/pager", ()), ("'", ())]
)
def test_without_a_pager_all_is_printed(long: Path, pager: str, words: tuple[str, ...]) -> None:
    with Terminal(long, "log", *words, CASCKPT_PAGER=pager) as terminal:
        assert terminal.end() == 0
        assert len(terminal.screen) == 60
    assert not (long / "paged").exists()


def test_a_pager_of_the_settings_is_used_and_one_that_a_store_names_never(long: Path) -> None:
    (long / scenes.STORE / "config.toml").write_text('pager = "touch started"\n')
    mine = long / "mine" / "casckpt" / "config.toml"
    mine.parent.mkdir(parents=True)
    for text, words, name in (
        ("", (), None),
        ('pager = "tee file"', (), "file"),
        ('pager = "tee file"', ("-c", "pager=tee call"), "call"),
    ):
        mine.write_text(text)
        with Terminal(long, "log", *words, XDG_CONFIG_HOME=str(long / "mine"), PAGER="cat") as terminal:
            assert terminal.end() == 0
        assert name is None or (long / name).is_file()
    assert not (long / "started").exists()


def test_a_pager_that_is_quit_early_is_no_failure(long: Path) -> None:
    with Terminal(long, "log", PAGER="head -n 3", lines=10) as terminal:
        assert terminal.end() == 0
        assert len(terminal.screen) == 3


def test_an_error_after_the_pager_is_still_told(long: Path) -> None:
    patch = """
import casckpt.store as store
from casckpt.errors import StorageError
def broken(self, *_, **__):
    found = log(self, "gpt")
    yield from (next(found) for _ in range(30))
    raise StorageError(operation="read", path="journal/0.log", problem="Input/output error")
log, store.Store.log = store.Store.log, broken
"""
    with Terminal(long, "log", CASCKPT_PAGER="tee paged", lines=10, patch=patch) as terminal:
        assert terminal.end() == 9
        assert terminal.screen[-1].startswith(("error: ", "  why:", "  try:"))


def test_ctrl_c_belongs_to_the_pager(long: Path) -> None:
    pager = (
        """sh -c 'trap "echo interrupted by key; exit 0" INT; head -n 1; echo waiting; while :; do sleep 0.1; done'"""
    )
    with Terminal(long, "log", CASCKPT_PAGER=pager, lines=10) as terminal:
        terminal.read_until("waiting")
        terminal.send(INTERRUPT)
        assert terminal.end() == 0
        assert "interrupted by key" in terminal.screen[-1]


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_less_is_the_pager_unless_another_is_named(long: Path) -> None:
    with Terminal(long, "log", lines=10, PAGER="less") as terminal:
        terminal.read_until("step 52")
        terminal.send(b"q")
        assert terminal.end() == 0


def test_rows_are_cut_to_the_terminal_and_whole_in_a_pipe(tmp_path: Path) -> None:
    name = "a-run-with-a-very-long-name-that-nobody-would-want-to-type-twice-in-a-row"
    with casckpt.init(tmp_path / scenes.STORE) as store:
        store.commit({"x": 1}, run=name, step=1)
    for columns, whole in ((60, False), (200, True)):
        with Terminal(tmp_path, "log", columns=columns) as terminal:
            assert terminal.end() == 0
            [line] = terminal.screen
            assert len(line) <= columns
            assert (name in line) is whole
            assert ("…" in line) is not whole


@pytest.mark.parametrize(("answer", "code"), [(b"1\n", 0), (b"yes\n", 2), (b"\n", 2), (b"11\n", 2)])
def test_what_cannot_be_taken_back_is_asked_for_and_done_for_the_very_answer(
    tmp_path: Path, answer: bytes, code: int
) -> None:
    scenes.freeable(tmp_path)
    with casckpt.open(tmp_path / scenes.STORE) as store:
        dropped = next(commit.id for commit in store.log() if commit.step == 2)
        with Terminal(tmp_path, "gc", "--now") as terminal:
            terminal.read_until("type 1 to go on: ")
            assert store.plan_gc(now=True).packs == 2
            terminal.send(answer)
            assert terminal.end() == code
        assert store.plan_gc(now=True).packs == (0 if code == 0 else 2)
        if code:
            store.undo()
            assert store.checkout(dropped)


def test_a_mirror_takes_away_what_was_shown_for_the_very_answer(tmp_path: Path) -> None:
    scenes.shared(tmp_path)
    for answer, code in ((b"y\n", 2), (b"1\n", 0)):
        with Terminal(tmp_path, "push", "nas", "--mirror", "--on-conflict", "newest") as terminal:
            terminal.read_until("type 1 to go on: ")
            terminal.send(answer)
            assert terminal.end() == code
            assert "is not here, and would go from nas" in "\n".join(terminal.screen)
