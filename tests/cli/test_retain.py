"""casckpt retain: policies come from files and options, and what cannot be read is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from casckpt.cli.commands.retain import MAX_POLICY_BYTES
from tests.cli import scenes
from tests.cli.runner import run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes.trainings(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(*words: str) -> dict[str, int]:
    data = run("retain", "-n", "--json", *words).envelope["data"]
    found: dict[str, int] = {}
    for commit in data["commits"]:
        found[commit["run"]] = found.get(commit["run"], 0) + (commit["outcome"] == "keep")
    return found


def test_options_go_before_what_a_file_says(store: Path) -> None:
    (store / "policy.toml").write_text('[retention]\nkeep_last = 2\n[retention.runs."w*"]\nkeep_last = 4\n')
    assert kept("--policy", "policy.toml") == {"base": 2, "odd": 2, "wide": 4}
    assert kept("--policy", "policy.toml", "--every", "1000 steps", "-r", "base") == {"base": 6}
    assert kept("--policy", "policy.toml", "--keep-last", "1") == {"base": 1, "odd": 1, "wide": 1}
    assert kept("--keep-best", "2", "--metric", "val/loss:max", "-r", "odd") == {"odd": 3}
    assert kept("--keep-best", "2", "--metric", "val/loss", "-r", "odd") == {"odd": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"keep_last = ", "no TOML"),
        (b"\xff", "no UTF-8"),
        (b"keep_lst = 1", "did you mean keep_last"),
        (b"#" * (MAX_POLICY_BYTES + 1), "more than"),
        (None, "cannot read"),
    ],
    ids=["toml", "text", "key", "length", "absent"],
)
def test_a_file_that_says_no_policy_is_refused(store: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (store / "policy.toml").write_bytes(content)
    done = run("retain", "--policy", "policy.toml")
    assert done.code == 2
    assert words in done.err
    assert run("undo", "--list", "--json").envelope["data"]["operations"][0]["op"] == "commit"


def test_a_metric_without_a_best_value_is_refused(store: Path) -> None:
    done = run("retain", "--keep-best", "1", "--metric", "acc")
    assert (done.code, "say min or max" in done.err) == (2, True)


def test_a_kept_policy_needs_no_words_and_a_call_goes_before_it(store: Path) -> None:
    assert run("retain", "--save", "--keep-last", "2").code == 0
    assert kept() == {"base": 2, "odd": 2, "wide": 2}
    assert kept("--keep-last", "4", "-r", "wide") == {"wide": 4}
    assert run("retain", "--save", "--keep-last", "3", "-r", "wide").code == 0
    assert kept() == {"base": 2, "odd": 2, "wide": 3}
    (store / "policy.toml").write_text('keep_last = 1\n[runs."o*"]\nkeep_last = 3\n')
    assert run("retain", "--save", "--policy", "policy.toml").code == 0
    assert kept() == {"base": 1, "odd": 3, "wide": 3}
    assert run("retain", "--save", "--policy", "policy.toml", "--keep-last", "1").code == 2


def test_a_mistake_in_the_kept_policy_is_a_warning_until_it_is_needed(store: Path) -> None:
    (store / ".casckpt" / "config.toml").write_text("[retention]\nkeep_lst = 3\n")
    for words in (["log"], ["commit", "policy.toml"], ["drop", "base~2"], ["config", "list"]):
        (store / "policy.toml").write_text("")
        done = run(*words)
        assert (done.code, "config.toml, line 2" in done.err) == (0, True)
    for words in (["retain"], ["retain", "--keep-last", "1"], ["retain", "--show"]):
        assert run(*words, "--json").envelope["error"]["code"] == "config.unknown-key"
    assert run("retain", "--save", "--keep-last", "1").code == 0
    assert run("retain", "--show").err == ""
