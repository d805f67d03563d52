"""A dry run does every check, says what would be done, and changes no byte of anything."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from casckpt.cli.app import root
from casckpt.cli.table import COMMANDS
from tests.cli import scenes
from tests.cli.runner import run

LOOKING = {"status", "log", "show", "ls", "cat", "diff", "blame", "compare", "runs", "reflog", "doctor", "help", "du"}
LOOKING |= {"remote list", "remote log", "remote conflicts", "remote locks", "drill", "bundle list"}
"""Commands that change nothing anyway."""


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files below a folder but the index, which is only a view, with their content and when they were changed."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "index" not in path.parts and "lock" not in path.parts
    }


def test_every_command_that_changes_something_has_a_dry_run() -> None:
    for name in COMMANDS:
        command = root.get_command(click.Context(root), name)  # type: ignore[attr-defined]
        actions = command.commands if isinstance(command, click.Group) else {"": command}
        for action, one in actions.items():
            options = {option for parameter in one.params for option in parameter.opts}
            assert ("--dry-run" in options) == (f"{name} {action}".strip() not in LOOKING), (name, action)


CHANGES = [
    ["init", "other"],
    ["config", "set", "run", "gpt"],
    ["config", "set", "time", "utc"],
    ["completion", "fish", "--install"],
    ["checkout", "main", "back"],
    ["checkout", "main:out/sub", "back"],
    ["export", "gpt/best:model", "best.npz"],
    ["export", "main:out/weights.bin", "w.bin"],
    ["commit", "out", "-r", "new", "--tag", "v7"],
    ["import", "array.npz", "-r", "old"],
    ["tag", "v9"],
    ["tag", "-d", "v1"],
    ["pin", "gpt/best", "--until", "30d"],
    ["note", "gpt/best", "remarkable"],
    ["run", "fork", "gpt~1", "gpt-2"],
    ["run", "rename", "wide", "broad"],
    ["run", "finish", "gpt"],
    ["undo", "4"],
    ["remote", "add", "nas", "out"],
    ["bundle", "create", "gpt.bundle", "gpt"],
    ["drop", "gpt~2"],
    ["drop", "gpt~2", "--parts", "model"],
    ["retain", "--keep-last", "1"],
    ["repack"],
    ["forget", "gpt~2", "--yes"],
    ["forget", "gpt", "wide", "--force", "--yes"],
    ["gc", "--now", "--yes"],
    ["config", "set", "compress", "off"],
    ["fsck", "--repair"],
]


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_it_changes_nothing_and_then_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    import numpy as np

    scenes.history(tmp_path)
    monkeypatch.chdir(tmp_path)
    np.savez("array.npz", a=np.arange(10))
    assert run("commit", "out").code == 0
    before = everything(tmp_path)
    said = run(*words, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out
    assert everything(tmp_path) == before
    if words[0] != "fsck":
        assert run(*words, "-n", "--json").envelope["data"]["dry_run"] is True
    assert run(*words).code == 0


WITH_REMOTE = [
    ["push", "nas", "wide"],
    ["push", "nas", "--all", "--on-conflict", "newest"],
    ["push", "nas", "wide", "--force-with-lease"],
    ["push", "nas", "--mirror", "--on-conflict", "newest"],
    ["fetch", "nas"],
    ["fetch", "nas", "gpt", "--depth", "1", "--only", "model"],
    ["pull", "nas", "gpt"],
    ["pull", "nas", "--all", "--on-conflict", "newest"],
    ["clone", "nas", "copy"],
    ["remote", "set", "nas", "limit_rate", "1MB"],
    ["remote", "remove", "nas"],
    ["remote", "probe", "nas"],
    ["remote", "gc", "nas"],
    ["remote", "lock", "nas", "gpt"],
    ["remote", "unlock", "nas", "wide"],
    ["remote", "publish", "nas"],
    ["commit", "other", "--lock", "gpt"],
    ["push", "nas", "wide", "--lock", "gpt"],
    ["bundle", "apply", "other.bundle"],
]


@pytest.mark.parametrize("words", WITH_REMOTE, ids=" ".join)
def test_it_changes_neither_store_nor_remote_and_then_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    scenes.shared(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("bundle", "create", "other.bundle", "gpt", "-C", "other").code == 0
    before = {name: found for name, found in everything(tmp_path).items() if not is_memory(name)}
    said = run(*words, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out
    assert {name: found for name, found in everything(tmp_path).items() if not is_memory(name)} == before
    data = run(*words, "-n", "--json").envelope["data"]
    assert data.get("dry_run", data.get("fetched", {}).get("dry_run")) is True
    assert run(*words).code == 0


def is_memory(name: str) -> bool:
    """Whether a file is what a store remembers of a remote, which a look brings up to date."""
    return "/remotes/" in name


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["commit", "absent"], 3),
        (["drop", "gpt~2", "v1"], 5),
        (["drop", "gpt~2", "--parts", "nothing"], 3),
        (["retain", "--keep-last", "1", "-r", "nothing"], 3),
        (["gc", "--wait", "soon"], 2),
        (["repack", "-r", "nothing"], 3),
        (["repack", "--limit", "soon"], 2),
        (["forget", "gpt", "--yes"], 5),
        (["forget", "nothing", "--yes"], 3),
        (["commit", "out", "--tag", "v1"], 5),
        (["remote", "add", "nas", "s3://key:secret@bucket"], 2),
        (["remote", "set", "nas", "region", "eu"], 3),
        (["remote", "remove", "nas"], 3),
        (["remote", "add", "nas", "nowhere"], 3),
        (["push", "nas"], 3),
        (["fetch"], 3),
        (["clone", "nowhere", "copy"], 3),
        (["bundle", "apply", "nothing.bundle"], 3),
        (["bundle", "create", "out/weights.bin", "gpt"], 5),
        (["init", ".casckpt"], 5),
        (["init", "out"], 5),
        (["checkout", "main", "out"], 5),
        (["checkout", "nothing", "back"], 3),
        (["checkout", "gpt", "back"], 2),
        (["export", "gpt", "out.xyz"], 2),
        (["export", "gpt:nothing", "x.npz"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_it_fails_as_the_deed_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int
) -> None:
    scenes.history(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("commit", "out").code == 0
    said, done = run(*words, "-n"), run(*words)
    assert (said.code, said.out, said.err) == (done.code, done.out, done.err)
    assert said.code == code
