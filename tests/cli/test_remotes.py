"""Commands about remotes: what their options mean, what an interrupt leaves, and what no message ever shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

import casckpt
from casckpt.cli.app import root
from casckpt.cli.call import Call
from casckpt.cli.commands.push import push_command
from casckpt.cli.output import Output
from tests.cli import scenes, schemas
from tests.cli.runner import run


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes.shared(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(*words: str) -> dict[str, Any]:
    parent = root.make_context("casckpt", ["push"], obj=Call(Output({}), {}))
    return push_command.make_context("push", list(words), parent=parent).params


def test_a_lease_takes_no_word_behind_it() -> None:
    assert parsed("--force-with-lease", "nas", "gpt")["lease"] == ""
    assert parsed("--force-with-lease", "nas", "gpt")["remote"] == "nas"
    assert parsed("nas", "--force-with-lease=gpt~1")["lease"] == "gpt~1"
    assert parsed("nas", "gpt")["lease"] is None
    assert "--force-with-lease[=REV]" in push_command.get_help(click.Context(push_command, info_name="push"))


@pytest.mark.parametrize(
    "words", [["push", "nas", "wide"], ["fetch", "nas"], ["pull", "nas", "new"], ["clone", "nas", "copy"]]
)
def test_an_interrupt_says_what_it_leaves_and_the_same_command_goes_on(
    shared: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    from casckpt.storage.local_objects import FolderObjects

    calls: list[str] = []

    def interrupt(name: str) -> Any:
        original = getattr(FolderObjects, name)

        def call(self: FolderObjects, *args: Any, **settings: Any) -> Any:
            calls.append(name)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(self, *args, **settings)

        return call

    for name in ("get", "get_ranges", "create", "list"):
        monkeypatch.setattr(FolderObjects, name, interrupt(name))
    done = run(*words)
    assert (done.code, done.out) == (130, "")
    assert "the same" in done.err
    assert "goes on" in done.err
    assert run(*words).code == 0
    assert run("fsck", "--full").code == 0


def test_the_line_and_the_environment_say_it_for_one_call(shared: Path) -> None:
    config = (shared / ".casckpt" / "config.toml").read_bytes()
    listed = run("remote", "list", "--json", "-c", "remote.nas.limit_rate=1MB").envelope["data"]["remotes"]
    assert listed[0]["limit_rate"] == 10**6
    environ = {"CASCKPT_REMOTE_NAS_POLICY": "newest"}
    assert run("remote", "list", "--json", environ=environ).envelope["data"]["remotes"][0]["policy"] == "newest"
    assert run("push", "nas", "gpt").code == 5
    assert run("push", "nas", "gpt", environ=environ).code == 0
    assert run("push", "-c", "remote.nas.policy=hope").code == 2
    assert (shared / ".casckpt" / "config.toml").read_bytes() == config


def test_config_changes_remotes_and_lists_them(shared: Path) -> None:
    assert run("config", "set", "remote.nas.concurrency", "2").code == 0
    found = {one["key"]: one["value"] for one in run("config", "--json").envelope["data"]["settings"]}
    assert found["remote.nas.concurrency"] == 2
    assert run("remote", "list", "--json").envelope["data"]["remotes"][0]["concurrency"] == 2
    assert run("config", "set", "remote.nas.concurrency", "2", "--user").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["remote", "add", "x", "s3://AKIA:hunter2@bucket"],
        ["remote", "add", "x", "s3://bucket?X-Amz-Signature=hunter2"],
        ["remote", "add", "x", "s3://bucket", "--endpoint", "https://me:hunter2@host"],
        ["remote", "set", "nas", "url", "s3://me:hunter2@bucket"],
        ["config", "set", "remote.nas.url", "s3://me:hunter2@bucket"],
        ["push", "-c", "remote.nas.url=s3://me:hunter2@bucket"],
        ["clone", "https://me:hunter2@host/x", "copy"],
        ["log", "-C", "s3://me:hunter2@bucket"],
    ],
    ids=" ".join,
)
def test_a_secret_in_an_address_is_refused_and_never_said_nor_kept(shared: Path, words: list[str]) -> None:
    for more in ([], ["--json"], ["-vv"]):
        done = run(*words, *more)
        assert done.code == 2
        assert "hunter2" not in done.out + done.err.replace(" ".join(words), "")
    assert not [path for path in shared.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_secret_that_somebody_wrote_into_the_file_is_not_used_and_not_shown(shared: Path) -> None:
    with (shared / ".casckpt" / "config.toml").open("a") as file:
        file.write("[remote.evil]\nurl = 's3://me:hunter2@bucket'\n")
    for words in (["push", "nas"], ["remote", "list"], ["log"], ["config"], ["doctor"]):
        done = run(*words)
        assert "hunter2" not in done.out + done.err
    assert run("push", "nas").code == 2
    assert run("log").code == 0


def test_progress_knows_the_bytes_from_the_start(shared: Path) -> None:
    done = run("push", "nas", "wide", "--progress", "json", "--json")
    events = [json.loads(line) for line in done.err.splitlines()]
    for event in events:
        schemas.validate("progress", event)
    assert {event["total"] for event in events if event["total"]} == {events[-1]["done"]}


def test_a_confirmation_is_left_out_if_asked_for_and_a_rehearsal_is_not(shared: Path) -> None:
    assert run("push", "nas", "wide", "-q", "-n").out
    assert run("push", "nas", "wide", "-q") == run("fetch", "nas", "-q")
    assert run("drill", "nas", "-q").out


def test_a_remote_is_read_at_its_address(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    address = f"file://{shared / 'nas'}"
    found = run("log", "gpt", "-C", address, "--json").envelope
    assert found["store"] == address
    with casckpt.open(shared / "other") as other:
        assert [one["id"] for one in found["data"]["commits"]] == [one.id for one in other.log("gpt")]
    assert run("export", "gpt/best:model", "m.npz", "-C", address).code == 0
    assert run("tag", "x", "-C", address).code == 5


def test_a_mirror_that_takes_refs_away_shows_them_and_asks_first(shared: Path) -> None:
    words = ("push", "nas", "--mirror", "--on-conflict", "newest")
    before = run("remote", "log", "nas", "--json").envelope["data"]
    gone = [move["ref"] for move in run(*words, "-n", "--json").envelope["data"]["moves"] if move["new"] is None]
    assert gone == ["runs/new/last"]
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert "runs/new/last is not here, and would go from nas" in done.err
    assert "taking 1 ref from nas was not confirmed" in done.err
    assert run(*words, "--json").code == 2
    assert run("remote", "log", "nas", "--json").envelope["data"] == before
    assert run(*words, "--yes").code == 0
    assert run(*words).code == 0  # nothing is left that would go


def test_a_gc_that_lets_go_of_commits_asks_first(shared: Path) -> None:
    Path("keep.toml").write_text("keep_last = 1\nkeep_best = 0\n")
    done = run("remote", "gc", "nas", "--policy", "keep.toml")
    assert (done.code, done.out) == (2, "")
    assert "--yes confirms it" in done.err
    report = run("remote", "gc", "nas", "--policy", "keep.toml", "--yes", "--json").envelope["data"]["gc"]
    assert report["plan"]["commits"]
    assert run("remote", "gc", "nas", "--policy", "absent.toml").code == 2
