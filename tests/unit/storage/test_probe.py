"""Trials of a file system leave nothing behind, and say what does not work."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from casckpt.storage import probe


def test_a_working_file_system_passes_and_nothing_is_left(tmp_path: Path) -> None:
    found = {trial.name: trial for trial in probe.trials(str(tmp_path))}
    assert set(found) == {"flock", "clock", "flush", "direct", "mmap", "rename"}
    assert all(trial.ok for name, trial in found.items() if name != "direct")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_locks_nobody_out_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    found = {trial.name: trial for trial in probe.trials(str(tmp_path))}
    assert not found["flock"].ok
    assert "another" in found["flock"].says


def test_what_the_system_refuses_is_said_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    found = {trial.name: trial for trial in probe.trials(str(tmp_path))}
    assert (found["flush"].ok, found["flush"].says) == (False, os.strerror(errno.EIO))
    assert not found["rename"].ok
    assert not list(tmp_path.iterdir())


def test_a_clock_far_from_ours_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.utime
    monkeypatch.setattr(os, "utime", lambda path: real(path, (1, 1)))
    found = {trial.name: trial for trial in probe.trials(str(tmp_path))}
    assert "behind" in found["clock"].says
