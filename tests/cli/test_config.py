"""`casckpt config`, aliases and `-c`: where a setting is said, what it does, and what a mistake does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import scenes
from tests.cli.runner import run

MINE = "home/.config/casckpt/config.toml"


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    scenes.history(tmp_path)
    return tmp_path


def test_a_setting_of_commits_goes_to_the_store_and_others_to_the_user(history: Path) -> None:
    assert run("config", "set", "run", "gpt").code == 0
    assert run("config", "set", "time", "iso").code == 0
    assert (history / ".casckpt" / "config.toml").read_text() == 'run = "gpt"\n'
    assert (history / MINE).read_text() == 'time = "iso"\n'
    assert run("config", "set", "threads", "2", "--user").code == 0
    assert (history / MINE).read_text() == 'time = "iso"\nthreads = 2\n'


def test_run_is_what_commits_belong_to_and_at_means() -> None:
    run("config", "set", "run", "gpt")
    assert run("show", "--json").envelope["data"]["commit"]["run"] == "gpt"
    assert run("commit", "out", "--json").envelope["data"]["commit"]["run"] == "gpt"
    other = run("commit", "out", "--json", environ={"CASCKPT_RUN": "other"})
    assert other.envelope["data"]["commit"]["run"] == "other"
    assert run("commit", "out", "-c", "run=third", "--json").envelope["data"]["commit"]["run"] == "third"
    assert run("commit", "out", "-r", "fourth", "--json").envelope["data"]["commit"]["run"] == "fourth"
    assert run("show", "--json").envelope["data"]["commit"]["run"] == "gpt"
    assert run("show", "-c", "run=third", "--json").envelope["data"]["commit"]["run"] == "third"


def test_time_and_ascii_and_color_are_looks_of_the_user() -> None:
    run("config", "set", "time", "iso")
    assert "Z" in run("log", "-n", "1", "--oneline").out
    assert (
        "ago" in run("log", "-n", "1", "--time", "relative").out or "just now" in run("log", "--time", "relative").out
    )
    assert "Z" not in run("log", "-n", "1", "--oneline", "-c", "time=relative").out
    run("config", "set", "color", "always")
    assert "\x1b[" in run("log").out
    assert "\x1b[" not in run("log", environ={"NO_COLOR": "1"}).out
    assert "\x1b[" not in run("log", "--color", "never").out
    assert "\x1b[" in run("log", "-c", "color=always", environ={"NO_COLOR": "1"}).out
    assert "\x1b[" not in run("log", environ={"CASCKPT_COLOR": "never"}).out


def test_origin_names_file_variable_and_line_of_the_call() -> None:
    run("config", "set", "run", "gpt")
    found = run("config", "list", "--json", "-c", "time=utc", environ={"CASCKPT_THREADS": "2"}).envelope["data"][
        "settings"
    ]
    by_key = {one["key"]: (one["value"], one["origin"]) for one in found}
    assert by_key["run"] == ("gpt", "store")
    assert by_key["threads"] == (2, "environment")
    assert by_key["time"] == ("utc", "call")
    assert by_key["color"] == ("auto", "built-in")
    assert "config.toml" in run("config", "get", "run", "--origin").out


def test_a_dry_run_and_unset(history: Path) -> None:
    done = run("config", "set", "run", "gpt", "-n", "--json").envelope["data"]
    assert done["dry_run"] is True
    assert not (history / ".casckpt" / "config.toml").exists()
    run("config", "set", "run", "gpt")
    assert run("config", "unset", "run").code == 0
    assert (history / ".casckpt" / "config.toml").read_text() == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("set", "colr", "x"), "config.unknown-key"),
        (("get", "colr"), "config.unknown-key"),
        (("set", "threads", "0"), "config.value"),
        (("set", "alias.log", "show"), "config.value"),
        (("set", "alias.x", "sh -c id"), "config.value"),
        (("set", "run"), "usage"),
        (("get",), "usage"),
        (("list", "run"), "usage"),
        (("list", "--user"), "usage"),
    ],
)
def test_a_wrong_call_changes_nothing(history: Path, words: tuple[str, ...], code: str) -> None:
    done = run("config", *words, "--json")
    assert (done.code, done.envelope["error"]["code"]) == (2, code)
    assert not (history / MINE).exists()


def test_outside_a_store_its_settings_have_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("casckpt.cli.call.STORE_FOLDER", ".none")
    assert run("config", "set", "run", "gpt").code == 3
    assert run("config", "set", "run", "gpt", "--user").code == 0
    assert run("config", "list").code == 0


@pytest.mark.parametrize("text", ["run gpt", "threads = 0\n", "colr = 1\n"])
def test_a_mistake_is_said_once_where_it_does_not_matter(history: Path, text: str) -> None:
    (history / MINE).parent.mkdir(parents=True)
    (history / MINE).write_text(text)
    for words in (["log"], ["show"], ["status"], ["runs"], ["config"]):
        done = run(*words)
        assert done.code == 0
        assert done.out
        assert [line for line in done.err.splitlines() if MINE in line] == done.err.splitlines()
        assert len(done.err.splitlines()) == 1
    assert run("log", "--json").envelope["warnings"][0]["code"].startswith("config.")
    assert run("log", "-q").err == ""


@pytest.mark.parametrize(("text", "code"), [("run gpt", "config.file"), ("threads = 0\n", "config.value")])
def test_a_mistake_that_decides_what_is_written_stops_a_commit(history: Path, text: str, code: str) -> None:
    (history / ".casckpt" / "config.toml").write_text(text)
    before = run("log", "--all", "--json").envelope["data"]
    done = run("commit", "out", "--json")
    assert (done.code, done.envelope["error"]["code"]) == (2, code)
    assert run("log", "--all", "--json").envelope["data"] == before


def test_an_alias_stands_for_a_command_line(history: Path) -> None:
    run("config", "set", "alias.newest", "log -n 1 --oneline")
    assert run("newest").out == run("log", "-n", "1", "--oneline").out
    assert run("newest", "gpt", "--json").envelope["schema"] == "casckpt.log/1"
    assert run("config", "list", "--json").envelope["data"]["settings"][-1]["key"] == "alias.newest"


@pytest.mark.parametrize("line", ["sh -c id", "!id", "newest", "", "log 'open"])
def test_an_alias_that_was_written_by_hand_runs_nothing_but_commands(history: Path, line: str) -> None:
    (history / MINE).parent.mkdir(parents=True)
    (history / MINE).write_text(f'[alias]\nnewest = "{line}"\nlog = "show"\n')
    done = run("newest", "--json")
    assert (done.code, done.envelope["error"]["code"]) == (2, "config.value")
    assert run("log", "-n", "1").out  # a command is itself, whatever the file says


def test_an_alias_in_the_file_of_a_store_is_none(history: Path) -> None:
    (history / ".casckpt" / "config.toml").write_text('[alias]\nnewest = "log"\n')
    assert run("newest").code == 2
