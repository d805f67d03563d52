"""Upkeep after commits: within its share of the time, in nobody's way, and never an error of whoever commits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import LostFrames
from casckpt.ops import maintain
from casckpt.ops.settings import StoreSettings

POLICY = '[retention]\nkeep_last = 2\ngrace = "0s"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    casckpt.init(tmp_path / "s").close()
    (tmp_path / "s" / "config.toml").write_text(POLICY)
    return tmp_path / "s"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn after every commit, if none is under way."""
    monkeypatch.setattr(maintain, "PAUSE_S", 0.0)
    monkeypatch.setattr(maintain, "SHARE", 0)


def state(number: int) -> dict[str, bytes]:
    """More than rides in a frame, so that it gets a pack."""
    return {"w": random.Random(number).randbytes(100_000)}


def packs(folder: Path) -> int:
    return len(list((folder / "packs").iterdir()))


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.usefixtures("hurried")
def test_a_kept_policy_is_applied_and_space_is_freed_while_commits_go_on(folder: Path) -> None:
    with casckpt.open(folder) as store:
        for step in range(12):
            store.commit(state(step), run="gpt", step=step)
            eventually(lambda: not _is_running())
            assert packs(folder) <= 4
        assert [bool(commit.dropped) for commit in store.log("gpt")].count(False) <= 4
        assert store.checkout("gpt") == state(11)


@pytest.mark.usefixtures("hurried")
def test_without_upkeep_nothing_happens_by_itself(folder: Path) -> None:
    with casckpt.open(folder, settings=StoreSettings(upkeep=False)) as store:
        for step in range(5):
            store.commit(state(step))
    assert packs(folder) == 5


def test_turns_are_a_minute_apart(folder: Path) -> None:
    with casckpt.open(folder) as store:
        for step in range(5):
            store.commit(state(step))
    assert packs(folder) == 5


def test_after_a_turn_that_took_long_the_next_comes_late(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintain, "PAUSE_S", 0.0)
    turns: list[float] = []

    def slow(*_: object) -> int:
        turns.append(time.monotonic())
        time.sleep(0.2)
        return 0

    monkeypatch.setattr(maintain, "_maintain", slow)
    with casckpt.open(folder) as store:
        for step in range(3):
            store.commit({"a": step})
            eventually(lambda: bool(turns) and not _is_running())
    assert len(turns) == 1  # the next one is due four seconds later


def _is_running() -> bool:
    return any(thread.name == "casckpt-upkeep" for thread in threading.enumerate())


@pytest.mark.usefixtures("hurried")
def test_what_upkeep_stumbles_over_is_logged_and_no_error_of_the_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise LostFrames

    monkeypatch.setattr(maintain, "_maintain", fail)
    with casckpt.open(folder) as store:
        store.commit(state(1))
        eventually(lambda: "frames of the journal are lost" in caplog.text)
        store.commit(state(2))


@pytest.mark.usefixtures("hurried")
def test_processes_that_live_for_a_moment_look_after_the_store_when_they_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintain.Maintainer, "after_commit", lambda self, run: setattr(self, "_has_commits", True))
    monkeypatch.setattr(maintain, "WORTH_PACKS", 4)
    # The fourth finds that the store is worth it, and the fifth that it is time.
    for step in range(5):
        with casckpt.open(folder) as store:
            store.commit(state(step))
    left = packs(folder)
    assert left < 4
    with casckpt.open(folder) as store:
        store.log()
    assert packs(folder) == left


@pytest.mark.usefixtures("hurried")
def test_closing_ends_a_turn_that_is_under_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def wait(_: object, __: float, is_over: Callable[[], bool], ___: int) -> int:
        asked.append(True)
        eventually(is_over)
        return 0

    monkeypatch.setattr(maintain, "_maintain", wait)
    with casckpt.open(folder) as store:
        store.commit(state(1))
        eventually(lambda: bool(asked))
    assert not _is_running()
