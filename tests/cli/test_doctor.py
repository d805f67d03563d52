"""`casckpt doctor`: exit codes, and what is shown where there is no store or one that does not open."""

from __future__ import annotations

from pathlib import Path

import pytest

from casckpt.ops import machine
from tests.cli import scenes
from tests.cli.runner import run


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    scenes.history(tmp_path)
    monkeypatch.setattr(machine, "memory_limit", lambda: None)
    return tmp_path


def test_it_shows_every_check_and_ends_with_0() -> None:
    done = run("doctor")
    assert done.code == 0
    assert "= ok       index of" in done.out
    assert done.err == ""


def test_strict_ends_with_12_where_something_is_to_be_mended(history: Path) -> None:
    (history / ".casckpt" / "config.toml").write_text("threads = 0")
    assert run("doctor").code == 0
    done = run("doctor", "--strict", "-q")
    assert done.code == 12
    assert "~ warning  threads cannot be 0" in done.out
    assert "ok " not in done.out
    assert run("doctor", "--strict", "--json").envelope["exit"] == 12


def test_a_wrong_file_of_the_user_is_found(history: Path) -> None:
    mine = history / "home" / ".config" / "casckpt" / "config.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text("time = 1")
    codes = [check["code"] for check in run("doctor", "--json").envelope["data"]["checks"]]
    assert codes[-1] == "user.settings"


def test_a_store_that_does_not_open_ends_with_its_error_and_the_machine_is_shown(history: Path) -> None:
    (history / ".casckpt" / "format").unlink()
    done = run("doctor")
    assert done.code == 3
    assert "CPython" in done.out
    assert "! problem  no casckpt store" in done.out


def test_it_works_where_there_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("casckpt.cli.call.STORE_FOLDER", ".none")
    done = run("doctor")
    assert done.code == 0
    assert "no store here" in done.out


def test_ascii_is_ascii(history: Path) -> None:
    assert run("doctor", "--ascii").out.isascii()
