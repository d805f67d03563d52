"""Commands under a lock of a remote: what is kept between them, who is refused, and what an end of any kind leaves."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from casckpt.errors import RemoteUnavailable
from casckpt.ops import commit as committing
from casckpt.remote.locks import lock_remote
from casckpt.remote.view import RemoteView
from casckpt.storage.local_objects import FolderObjects
from tests.cli import scenes
from tests.cli.runner import run
from tests.cli.terminal import Terminal
from tests.cli.test_exit_codes import code_of
from tests.support.buckets import newest
from tests.support.clocks import Clock

COMMIT = ["commit", "out", "-r", "gpt", "--lock", "gpt"]
OTHER = ["-C", "other"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store and `other`, which share the folder `nas`."""
    scenes.shared(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("pull", "nas", "gpt").code == 0
    return tmp_path


def holders(folder: Path) -> dict[str, str]:
    return {name: lock.token.hex() for name, lock in newest(FolderObjects(folder / "nas")).locks.items()}


def test_a_kept_lock_is_renewed_by_commits_and_pushes_and_stays(shared: Path) -> None:
    assert run("remote", "lock", "nas", "gpt", "--ttl", "1h").code == 0
    tokens = [holders(shared)["gpt"]]
    for words in (COMMIT, ["push", "nas", "gpt", "--lock", "gpt"], ["remote", "lock", "nas", "gpt"]):
        assert run(*words).code == 0
        tokens.append(holders(shared)["gpt"])
    assert len({*tokens}) == 4
    [listed] = run("remote", "locks", "--json").envelope["data"]["locks"]
    assert (listed["name"], listed["ttl_s"], listed["kept"]) == ("gpt", 600, True)
    assert run("remote", "locks", "--tsv", "name,kept").out == "gpt\ttrue\n"
    assert run("remote", "unlock", "nas", "gpt").code == 0
    assert holders(shared) == {}
    assert run("remote", "unlock", "nas", "gpt").out == "nobody holds lock gpt of nas\n"


def test_another_machine_is_refused_and_nothing_of_it_is_changed(shared: Path) -> None:
    assert run("remote", "lock", "nas", "gpt").code == 0
    before = holders(shared)
    for words in (
        COMMIT,
        [*COMMIT, "-n"],
        ["push", "origin", "gpt", "--lock", "gpt"],
        ["remote", "lock", "origin", "gpt"],
        ["remote", "lock", "origin", "gpt", "-n"],
    ):
        done = run(*words, *OTHER)
        assert (done.code, done.out) == (6, "")
        assert "is held by" in done.err
        assert "--break" in done.err
    assert run(*COMMIT, *OTHER, "--json").envelope["error"]["code"] == "lock.held"
    assert run("remote", "unlock", "origin", "gpt", *OTHER).code == 6
    assert holders(shared) == before


def test_a_lock_that_nobody_keeps_is_held_for_the_command_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    publish = committing._publish

    def look(*args: Any) -> Any:
        seen.append(holders(shared))
        return publish(*args)

    monkeypatch.setattr(committing, "_publish", look)
    assert run(*COMMIT, "--remote", "nas", "--wait", "5s").code == 0
    assert seen[0].keys() == {"gpt"}
    assert holders(shared) == {}
    assert run("push", "nas", "gpt", "--lock", "gpt").code == 0
    assert holders(shared) == {}


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "no space"), 9)])
def test_a_failed_commit_lets_go_of_its_lock(
    shared: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object) -> None:
        assert holders(shared).keys() == {"gpt"}
        raise error

    monkeypatch.setattr(committing, "save_state", fail)
    assert run(*COMMIT).code == code
    assert holders(shared) == {}


def test_a_lock_that_cannot_be_let_go_of_is_said_and_the_commit_counts(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish = committing._publish

    def and_lose_the_remote(*args: Any) -> Any:
        def gone(self: FolderObjects, *_: object, **__: object) -> Any:
            raise RemoteUnavailable(remote=self.url, operation="answer", problem="it is gone")

        monkeypatch.setattr(FolderObjects, "list", gone)
        return publish(*args)

    monkeypatch.setattr("casckpt.storage.retrying._FIRST_S", 0.0)
    monkeypatch.setattr(committing, "_publish", and_lose_the_remote)
    assert run(*COMMIT).code == 0
    assert "the lock gpt stays for up to 600 s" in caplog.text


def test_a_killed_commit_keeps_its_lock_until_its_time_is_over(shared: Path) -> None:
    kill = "import casckpt.ops.commit as c, os\ndef end(*_): os.kill(os.getpid(), 9)\nc.save_state = end"
    assert code_of(shared, *COMMIT, before=kill) == -signal.SIGKILL
    assert run(*COMMIT, *OTHER).code == 6
    clock = Clock()
    view = RemoteView(FolderObjects(shared / "nas"))
    lock_remote(view, "gpt", ttl_s=60, wait_s=602, clock=clock, sleep=clock.sleep).release()
    assert run(*COMMIT, *OTHER).code == 0


def test_who_lost_a_kept_lock_commits_and_pushes_no_more(shared: Path) -> None:
    assert run("remote", "lock", "nas", "gpt").code == 0
    assert run("remote", "unlock", "origin", "gpt", "--break", "--yes", *OTHER).code == 0
    assert run("remote", "lock", "origin", "gpt", *OTHER).code == 0
    last = run("log", "gpt", "-n", "1", "--json").envelope["data"]
    for words in (COMMIT, ["push", "nas", "gpt", "--lock", "gpt"]):
        done = run(*words, "--json").envelope
        assert (done["exit"], done["error"]["code"]) == (5, "lock.lost")
    assert run("log", "gpt", "-n", "1", "--json").envelope["data"] == last
    assert run("remote", "unlock", "origin", "gpt", *OTHER).code == 0
    assert run("remote", "lock", "nas", "gpt").code == 0
    assert run(*COMMIT).code == 0


def test_taking_a_lock_away_asks_first_and_says_whose_it_was(shared: Path) -> None:
    assert run("remote", "lock", "nas", "gpt").code == 0
    done = run("remote", "unlock", "origin", "gpt", "--break", *OTHER)
    assert (done.code, done.out) == (2, "")
    assert holders(shared)
    words = ("remote", "unlock", "origin", "gpt", "--break", *OTHER)
    with Terminal(shared, *words) as terminal:
        terminal.read_until("type gpt to go on")
        terminal.send(b"gpt\n")
        assert terminal.end() == 0
        assert "took lock gpt of origin from" in " ".join(terminal.screen)
    assert holders(shared) == {}


@pytest.mark.parametrize(
    "words",
    [
        ["commit", "out", "--wait", "5s"],
        ["commit", "out", "--remote", "nas"],
        ["push", "nas", "--wait", "5s"],
        ["commit", "out", "--lock", "gpt", "--wait", "soon"],
        ["commit", "out", "--lock", "a b"],
        ["remote", "lock", "nas", "gpt", "--ttl", "0s"],
        ["remote", "lock", "nas", "gpt", "--ttl", "90d"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(shared: Path, words: list[str]) -> None:
    before = newest(FolderObjects(shared / "nas"))
    assert run(*words).code == 2
    assert newest(FolderObjects(shared / "nas")) == before


def test_the_roots_that_were_published_are_counted(shared: Path) -> None:
    count = len(list((shared / "nas" / "root").iterdir()))
    assert run("remote", "publish", "-n", "--json").envelope["data"]["roots"] == count
    assert not (shared / "nas" / "casckpt-published.json").exists()
    assert run("remote", "publish").out == f"published {count} roots\n"
    assert (shared / "nas" / "casckpt-published.json").exists()
