"""Two machines and one folder, through real processes: what the pages say of conflicts is what happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casckpt
from tests.support.nursery import Child, Nursery, nursery

ROOT = Path(__file__).resolve().parents[2]
_PRELUDE = """
import numpy
import casckpt.cli.__main__, casckpt.odb.pipeline, casckpt.ops.fsck, casckpt.view.syncing
import casckpt.ops.clone, casckpt.ops.fetch, casckpt.ops.pull, casckpt.ops.push, casckpt.storage.local_objects
from casckpt.cli.commands import checkout, clone, commit, fetch, fsck, init, pull, push, remote, show, undo
"""
# The streams of the nursery are about other files than those that its children have in their place.
_COMMAND = """
import os, sys
os.environ["HOME"] = sys.argv.pop(1)
os.chdir(os.environ["HOME"])
sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
from casckpt.cli.__main__ import entry
entry()
"""
_INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started the tests may ignore interrupts
runpy.run_module("casckpt.cli", run_name="__main__", alter_sys=True)
"""


class Machine:
    """A folder in which `casckpt` is called, one process a call."""

    def __init__(self, folder: Path, processes: Nursery) -> None:
        self.folder = folder
        self._processes = processes
        folder.mkdir(exist_ok=True)

    def __call__(self, *words: str, code: int = 0) -> str:
        done = self.started(*words, "--json")
        out, err = done.communicate(60)
        assert done.returncode == code, (words, out, err)
        return out

    def data(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*words))["data"]
        return found

    def refused(self, *words: str) -> str:
        """The code of the error that a call ends with, as one that nothing is lost by."""
        return str(json.loads(self(*words, code=5))["error"]["code"])

    def started(self, *words: str) -> Child:
        return self._processes.start(_COMMAND, self.folder, *words)

    def interruptible(self, *words: str) -> subprocess.Popen[str]:
        """A call in a new interpreter, which says on the way what it does."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        command = [sys.executable, "-c", _INTERRUPTIBLE, *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def commit(self, text: str, loss: float, run: str = "gpt") -> str:
        """The id of a commit of a file that says this."""
        (self.folder / "note.txt").write_text(text)
        words = ["commit", "note.txt", "-r", run, "-m", text, "--metric", f"loss={loss}", "--best", "loss:min"]
        return str(self.data(*words)["commit"]["id"])

    def at(self, revision: str) -> str:
        return str(self.data("show", revision)["commit"]["id"])

    def reads(self, revision: str) -> str:
        (self.folder / "back").mkdir(exist_ok=True)
        target = self.folder / "back" / revision.replace("/", "-")
        self("checkout", f"{revision}:note.txt", str(target), "--replace")
        return target.read_text()


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery(_PRELUDE) as found:
        yield found


@pytest.fixture
def machines(tmp_path: Path, processes: Nursery) -> tuple[Machine, Machine]:
    """Both know the commit `base` of the run gpt, and then each made one of its own: `one`, and later `two`."""
    (tmp_path / "nas").mkdir()
    one, two = (Machine(tmp_path / name, processes) for name in ("one", "two"))
    one("init")
    one.commit("base", 1.0)
    one("remote", "add", "origin", "../nas")
    assert [move["ref"] for move in one.data("push", "origin", "gpt")["moves"]] == ["runs/gpt/best", "runs/gpt/last"]
    two("clone", "../nas")
    assert two.reads("gpt") == "base"
    one.commit("one", 0.5)
    two.commit("two", 0.25)
    return one, two


def test_without_a_conflict_both_follow(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    two("undo", str(two.data("undo", "--list")["operations"][0]["number"]))
    one("push")
    assert one.data("push")["moves"] == []
    two("fetch")
    assert (two.reads("gpt"), two.reads("origin/gpt")) == ("base", "one")
    two("pull")
    assert two.reads("gpt") == two.reads("gpt/best") == "one"
    two.commit("more", 0.125)
    two("push")
    one("pull")
    assert one.reads("gpt") == "more"
    assert one.at("gpt") == two.at("gpt")
    assert one.data("fsck", "--full")["ok"]
    assert two.data("fsck", "--full")["ok"]


def test_a_push_that_would_lose_something_is_refused_and_changes_nothing(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one("push")
    before = files(one.folder.parent / "nas", "root")
    assert two.refused("push") == "push.not-fast-forward"
    assert two.refused("pull") == "pull.diverged"
    assert files(one.folder.parent / "nas", "root") == before
    assert (two.reads("gpt"), two.reads("origin/gpt")) == ("two", "one")


@pytest.mark.parametrize("first", ["one", "two"])
def test_of_both_the_newer_wins_in_whatever_order_and_the_other_is_kept(
    machines: tuple[Machine, Machine], processes: Nursery, first: str
) -> None:
    one, two = machines
    for machine in (one, two) if first == "one" else (two, one):
        machine("push", "--on-conflict", "newest")
    for machine in (one, two):
        machine("pull", "--on-conflict", "newest")
        assert machine.reads("gpt") == machine.reads("gpt/best") == "two"
    [lost] = two.data("remote", "conflicts")["conflicts"]
    assert (lost["of"], lost["commit"]) == ("runs/gpt/last", one.at(lost["ref"]))
    assert one.reads(lost["ref"]) == "one"
    third = Machine(one.folder.parent / "third", processes)
    third("clone", "../nas")
    assert third.reads("gpt") == "two"
    assert third.reads(f"origin/{lost['ref']}") == "one"


def test_with_a_lease_ours_replaces_what_was_seen_and_nothing_else(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    base = one.at("gpt~1")
    one("push")
    assert two.refused("push", "origin", "gpt", "--force-with-lease") == "push.lease"
    assert two.refused("push", "origin", "gpt", f"--force-with-lease={base[:12]}") == "push.lease"
    two("fetch")
    two("push", "origin", "gpt", "--force-with-lease")
    assert one.refused("pull") == "pull.diverged"
    assert one.reads("origin/gpt") == "two"
    log = two.data("remote", "log")["changes"]
    [moved] = [move for move in log[0]["moves"] if move["ref"] == "runs/gpt/last"]
    assert (moved["old"], moved["new"]) == (one.at("gpt"), two.at("gpt"))


def test_different_runs_never_meet(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.commit("left", 1, "left")
    two.commit("right", 1, "right")
    pushes = [one.started("push", "origin", "left"), two.started("push", "origin", "right")]
    for push in pushes:
        push.communicate(60)
    assert [push.returncode for push in pushes] == [0, 0]
    one("pull", "origin", "right")
    two("pull", "origin", "left")
    assert one.reads("right") == two.reads("right") == "right"
    assert one.reads("left") == two.reads("left") == "left"


def test_a_part_is_cloned_and_the_rest_comes_when_it_is_asked_for(
    machines: tuple[Machine, Machine], processes: Nursery
) -> None:
    one, _ = machines
    one("push")
    small = Machine(one.folder.parent / "small", processes)
    report = small.data("clone", "../nas", "--run", "gpt", "--depth", "1")["fetched"]
    assert (report["whole"], report["absent"]) == (1, 1)
    assert small.reads("gpt") == "one"
    small("fetch", "--whole")
    small("remote", "remove", "origin")
    assert small.reads("gpt~1") == "base"


def test_an_interrupted_push_says_so_and_the_next_one_sends_only_the_rest(tmp_path: Path, processes: Nursery) -> None:
    (tmp_path / "nas").mkdir()
    one = Machine(tmp_path / "one", processes)
    with casckpt.init(one.folder / ".casckpt") as store:
        store.commit({"w": os.urandom(100 << 20)}, run="gpt", step=1, compress="off")
        store.add_remote("origin", str(tmp_path / "nas"), concurrency=1)
    push = one.interruptible("push", "--limit-rate", "20MB", "--progress", "json")
    assert push.stderr is not None
    for line in push.stderr:
        if line.startswith("{") and json.loads(line)["done"] >= 32 << 20:
            break
    push.send_signal(signal.SIGINT)
    _, err = push.communicate(timeout=60)
    assert push.returncode == 130
    assert "interrupted; nothing moved on the remote unless everything had arrived; the same push again goes on" in err
    assert not files(tmp_path / "nas", "root")
    report = one.data("push")
    assert report["resumed"] >= 1
    assert report["bytes"] < 90 << 20
    assert one.data("drill", "--all")["ok"]


def files(folder: Path, below: str) -> list[str]:
    return sorted(str(path) for path in (folder / below).rglob("*") if path.is_file())
