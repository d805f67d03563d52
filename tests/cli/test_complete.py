"""Completion, asked for as shells ask: words and a place in the environment, values on stdout, never an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

import casckpt
from casckpt.cli.app import root
from casckpt.cli.complete import VALUES
from casckpt.cli.options import Command
from casckpt.cli.table import COMMANDS
from tests.cli import scenes
from tests.cli.runner import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    scenes.history(tmp_path)
    return tmp_path


def asked(line: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values that zsh is given behind a line, and what it is told about each."""
    words = line.split(" ")
    found = run(environ={
        "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_CASCKPT_COMPLETE": "zsh_complete", **(environ or {})
    })  # fmt: skip
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert set(lines[::3]) <= {"plain"}
    return {value.replace("\\:", ":"): about for value, about in zip(lines[1::3], lines[2::3], strict=True)}


def kinds(line: str) -> set[str]:
    """What bash is told to complete by itself."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_CASCKPT_COMPLETE": "bash_complete"}
    return {part.partition(",")[0] for part in run(environ=words).out.splitlines()}


def in_bash(line: str) -> list[str]:
    """The values that bash is given behind a line."""
    done = run(environ={"COMP_LINE": line, "_CASCKPT_COMPLETE": "bash_complete"})
    assert (done.code, done.err) == (0, "")
    return [part.partition(",")[2] for part in done.out.splitlines()]


def test_commands_come_with_their_help_lines() -> None:
    assert asked("casckpt ") == {name: entry.help for name, entry in COMMANDS.items()}
    assert asked("casckpt sh") == {"show": COMMANDS["show"].help}
    assert "--json" in asked("casckpt log --")


def test_aliases_are_commands_too() -> None:
    run("config", "set", "alias.newest", "log -n 1")
    assert asked("casckpt new") == {"newest": "log -n 1"}
    assert "--oneline" in asked("casckpt newest --one")


@pytest.mark.parametrize("line", ["show ", "log ", "checkout ", "diff gpt ", "ls ", "tag v2 ", "export "])
def test_a_revision_is_a_run_a_head_a_tag_or_a_recent_commit(line: str) -> None:
    found = asked(f"casckpt {line}")
    with casckpt.open(".casckpt") as store:
        newest = store.show("gpt")
    assert list(found)[:4] == ["wide", "gpt", "gpt/best", "v1"]
    assert found["gpt/best"] == "step 2000  val/loss 0.25"
    assert found[newest.short] == "gpt  step 3000  val/loss 0.375"


def test_what_is_typed_narrows_the_values() -> None:
    assert list(asked("casckpt show gpt/")) == ["gpt/best"]
    assert list(asked("casckpt log v1..g")) == ["v1..gpt", "v1..gpt/best"]
    assert list(asked("casckpt log v1...w")) == ["v1...wide"]
    assert asked("casckpt show zzz") == {}
    with casckpt.open(".casckpt") as store:
        first = store.show("gpt/first")
    assert list(asked(f"casckpt show {first.id[:6]}")) == [first.short]


def test_paths_come_level_by_level() -> None:
    assert asked("casckpt ls gpt:") == {"gpt:model/": "dict", "gpt:step": "int", "gpt:name": "str"}
    assert list(asked("casckpt cat gpt/best:model/w")) == ["gpt/best:model/weight"]
    assert asked("casckpt cat v1:model/")["v1:model/weight"] == "<f4 [16, 16]"
    assert asked("casckpt cat gpt:nothing/") == {}


def test_remotes_with_their_keys_and_values() -> None:
    Path("nas").mkdir()
    assert run("remote", "add", "nas", "nas").code == 0
    assert asked("casckpt push ") == asked("casckpt remote remove ") == {"nas": str(Path("nas").resolve())}
    assert asked("casckpt fetch nas ") == {}
    assert run("push", "nas", "--all").code == 0
    assert asked("casckpt fetch nas ") == {"gpt": "nas", "gpt/best": "nas", "wide": "nas", "v1": "nas"}
    assert "gpt" in asked("casckpt push nas ")
    assert "gpt" in asked("casckpt push nas gpt --force-with-lease=")
    assert asked("casckpt remote set nas pol") == {"policy": "What a push does where both sides went on."}
    assert list(asked("casckpt remote set nas policy ")) == ["ff", "newest"]
    assert list(asked("casckpt remote set nas mirror ")) == ["true", "false"]


def test_runs_tags_refs_metrics_and_filters() -> None:
    assert list(asked("casckpt log -r ")) == ["wide", "gpt"]
    assert list(asked("casckpt tag ")) == ["v1"]
    assert "gpt/best" in asked("casckpt reflog ")
    assert list(asked("casckpt commit --metric ")) == ["n=", "val/loss="]
    assert list(asked("casckpt commit --best val")) == ["val/loss:min", "val/loss:max"]
    assert list(asked("casckpt compare gpt wide -k val")) == ["val/loss"]
    assert "gpt/best" in asked("casckpt compare gpt ")
    assert {"val/loss", "step", "kind"} <= asked("casckpt log -w ").keys()


def test_settings_and_topics() -> None:
    assert list(asked("casckpt config set th")) == ["threads"]
    assert list(asked("casckpt config set color ")) == ["auto", "always", "never"]
    assert list(asked("casckpt config set run ")) == ["wide", "gpt"]
    assert list(asked("casckpt -c compress=a")) == ["compress=auto", "compress=always"]
    assert list(asked("casckpt help rev.")) == ["rev.ambiguous", "rev.not-found", "rev.syntax"]
    assert list(asked("casckpt completion z")) == ["zsh"]


def test_files_are_the_shells_own() -> None:
    assert kinds("casckpt commit ") == {"file"}
    assert kinds("casckpt checkout gpt ") == {"file"}
    assert kinds("casckpt init ") == {"dir"}
    assert kinds("casckpt -C ") == {"dir"}


def test_bash_is_given_what_follows_its_last_break() -> None:
    assert in_bash("casckpt ls gpt:mo") == ["model/"]
    assert in_bash("casckpt ls gpt/best:model/w") == ["model/weight"]
    assert in_bash("casckpt commit --best=val") == ["val/loss:min", "val/loss:max"]
    assert in_bash("casckpt show gpt/b") == ["gpt/best"]
    assert in_bash("casckpt -C .casckpt show v") == ["v1"]


def test_another_store_on_the_line_or_in_the_environment_is_the_one_that_is_read(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "other") as store:
        store.commit({"a": 1}, run="elsewhere")
    assert list(asked("casckpt -C other log -r ")) == ["elsewhere"]
    assert list(asked("casckpt log -r ", {"CASCKPT_STORE": "other"})) == ["elsewhere"]


def test_names_that_a_shell_would_take_apart_are_not_offered() -> None:
    with casckpt.open(".casckpt") as store:
        for name in ("$(id)", "`id`", "a;b", "a|b", "a&b", "a>b", "a<b", "a!b", "#a", "a,b", "ünï"):
            store.commit({"a": 1, "$(id)": 2, "a b": 3, "x\x1b": 4}, run=name, metrics={"$(id)": 1.0, "ok": 2.0})
    found = asked("casckpt log -r ")
    assert set(found) == {"a,b", "ünï", "wide", "gpt"}
    assert asked("casckpt ls ünï:") == {"ünï:a": "int"}
    assert list(asked("casckpt commit --metric o")) == ["ok="]


def test_a_description_is_harmless() -> None:
    with casckpt.open(".casckpt") as store:
        store.commit({"a": 1}, run="plain", message="a\nb\x1b[2J", metrics={})
    assert asked("casckpt log -r pl") == {"plain": "a\\nb\\x1b[2J"}


@pytest.mark.parametrize(
    "line",
    [
        *("casckpt nonsense ", "casckpt show 'gpt", "casckpt show gpt:model/weight/x/", "casckpt log --nonsense "),
        *(
            "casckpt show best(",
            "casckpt log a....b",
            "casckpt show id:",
            "casckpt config set nonsense ",
            "casckpt -c ",
        ),
        *("casckpt show " + "x" * 5000, "", "casckpt", "casckpt show \x1b", "casckpt ls " + ":" * 100),
    ],
)
def test_nonsense_is_silent(line: str) -> None:
    for shell in ("bash", "zsh", "fish", "powershell"):
        done = run(environ={
            "COMP_WORDS": line, "COMP_CWORD": "2", "COMP_LINE": line, "_CASCKPT_COMPLETE": f"{shell}_complete"
        })  # fmt: skip
        assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("instruction", ["", "bash", "tcsh_complete", "bash_nonsense", "zsh_complete"])
def test_a_wrong_question_is_silent(instruction: str) -> None:
    done = run(environ={"_CASCKPT_COMPLETE": instruction})
    assert (done.code, done.out, done.err) == (0, "", "")


def test_without_a_store_and_with_a_damaged_one_it_is_silent(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (history / ".casckpt" / "format").write_bytes(b"nonsense")
    assert asked("casckpt show ") == {}
    assert "show" in asked("casckpt ")
    monkeypatch.setattr("casckpt.cli.call.STORE_FOLDER", ".none")
    assert asked("casckpt show ") == {}
    assert asked("casckpt config set th") != {}


def test_a_damaged_settings_file_is_silent(history: Path) -> None:
    (history / ".casckpt" / "config.toml").write_text("nonsense")
    assert "gpt" in asked("casckpt show ")


def test_nothing_is_written(history: Path) -> None:
    index = history / ".casckpt" / "index"
    shutil.rmtree(index)
    assert "gpt" in asked("casckpt show ")
    assert not index.exists()


FREE = {
    "lock",
    "ttl_s",
    "wait_s",
    "parts",
    "keep_last",
    "keep_best",
    "every",
    "grace",
    "wait",
    "step",
    "epoch",
    "message",
    "tag",
    "limit",
    "top",
    "by",
    "select",
    "tsv",
    "until",
    "text",
    "new",
    "profile",
    "region",
    "endpoint",
    "limit_rate",
    "depth",
    "only",
    "commits",
    "seed",
}
"""Parameters whose values nobody can know: numbers, new names, patterns."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_completed_or_free(name: str) -> None:
    command = root.get_command(click.Context(root), name)  # type: ignore[attr-defined]
    assert isinstance(command, Command)
    actions = command.commands.values() if isinstance(command, click.Group) else ()
    for parameter in (parameter for one in (command, *actions) for parameter in one.params):
        is_flag = getattr(parameter, "is_flag", False) or getattr(parameter, "count", False)
        if not is_flag and not isinstance(parameter.type, click.Choice):
            assert parameter.name in VALUES.keys() | FREE, parameter.name


PROGRAM = "import sys\nfrom casckpt.cli import main\nmain()\nprint(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize("line", ["casckpt ", "casckpt show ", "casckpt ls gpt:model/", "casckpt commit --metric "])
def test_completion_imports_no_arrays(history: Path, line: str) -> None:
    environ = {"COMP_LINE": line, "_CASCKPT_COMPLETE": "bash_complete", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=history, env={**os.environ, **environ}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "torch", "rich", "asyncio", "importlib.metadata", "casckpt.ops.commit"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_real_bash_completes(history: Path) -> None:
    folder = history / "bin"
    folder.mkdir()
    program = folder / "casckpt"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m casckpt.cli "$@"\n')
    program.chmod(0o755)
    script = """
        compopt() { :; }  # there is no line being edited
        eval "$(casckpt completion bash)"
        COMP_LINE=$1 COMP_POINT=${#1}
        read -ra COMP_WORDS <<< "$1"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _casckpt_completion casckpt
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    def completed(line: str) -> list[str]:
        environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        words = ["bash", "--norc", "-c", script, "bash", line]
        done = subprocess.run(words, cwd=history, env=environ, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1]

    assert completed("casckpt sho") == ["show"]
    assert completed("casckpt show gpt/") == ["gpt/best"]
    assert completed("casckpt ls gpt:mo") == ["model/"]
    assert completed("casckpt show zzz") == [""]
