"""Pushes behind a training: they come unasked, nobody waits for them, and no failure of one is the training's."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import casckpt
from casckpt.errors import RemoteUnavailable
from casckpt.ops import connecting, mirroring
from casckpt.storage.local_objects import FolderObjects
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Outcome
from tests.support.buckets import newest, store_of
from tests.support.remotes import Wrapping


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a remote that is mirrored to."""
    monkeypatch.setattr(mirroring, "PAUSE_S", 0.0)
    (tmp_path / "remote").mkdir()
    casckpt.init(tmp_path / "s").close()
    (tmp_path / "s" / "config.toml").write_text(f'[remote.origin]\nurl = "{tmp_path}/remote"\nmirror = true\n')
    return tmp_path


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def pushed(folder: Path, run: str) -> str | None:
    objects = FolderObjects(folder / "remote")
    if not list(objects.list("root/")):
        return None
    ref = newest(objects).refs.get(f"runs/{run}/last")
    return None if ref is None else ref.commit.hex()


def put_in_place(monkeypatch: pytest.MonkeyPatch, objects: Wrapping) -> None:
    """Let every connection lead to these objects."""
    connect = connecting.connect

    def found(remote, **words):
        at = connect(remote, **words)
        return connecting.Connection(remote, objects, at.traffic)

    monkeypatch.setattr(connecting, "connect", found)


def test_what_is_committed_comes_to_be_on_the_remote_while_the_training_goes_on(folder: Path) -> None:
    with casckpt.open(folder / "s") as store:
        for step in range(3):
            made = store.commit({"x": step}, run="gpt", step=step)
            eventually(lambda made=made: pushed(folder, "gpt") == made.id)
        other = store.commit({"x": 5}, run="other")
        eventually(lambda: pushed(folder, "other") == other.id)
        assert store.show("origin/gpt").id == made.id


def test_closing_pushes_what_was_handed_over_last(folder: Path) -> None:
    with casckpt.open(folder / "s") as store:
        for step in range(5):
            store.commit({"x": step}, run="gpt", step=step, wait=False)
    with casckpt.open(folder / "s") as store:
        assert pushed(folder, "gpt") == store.show("gpt").id
    assert store_of(FolderObjects(folder / "remote")).checkout("gpt") == {"x": 4}


def test_a_remote_that_is_not_mirrored_to_is_left_alone(folder: Path) -> None:
    path = folder / "s" / "config.toml"
    path.write_text(path.read_text().replace("mirror = true", ""))
    with casckpt.open(folder / "s") as store:
        store.commit({"x": 1}, run="gpt")
    assert pushed(folder, "gpt") is None


def test_a_failure_is_a_warning_and_the_next_turn_tries_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Wrapping):
        failures = 2

        def before(self, request: str) -> None:
            if request.startswith("list") and self.failures:
                self.failures -= 1
                raise RemoteUnavailable(remote=self.url, operation=request, problem="no route")

    objects = Failing(MemoryObjects())
    put_in_place(monkeypatch, objects)
    with caplog.at_level(logging.WARNING, "casckpt"), casckpt.open(folder / "s") as store:
        made = store.commit({"x": 1}, run="gpt")
        eventually(lambda: bool(list(objects.inner.list("root/"))))
    assert newest(objects.inner).refs["runs/gpt/last"].commit.hex() == made.id
    assert sum("no route" in record.message for record in caplog.records) == 2


def test_a_remote_that_hangs_delays_nobody_but_the_end_of_the_store_and_that_for_a_bounded_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hung, free = threading.Event(), threading.Event()

    class Hanging(Wrapping):
        def create(self, key: str, data: Buffer) -> Outcome:
            hung.set()
            free.wait(20)
            return self.inner.create(key, data)

    objects = Hanging(MemoryObjects())
    put_in_place(monkeypatch, objects)
    monkeypatch.setattr(mirroring, "CLOSE_S", 0.05)
    monkeypatch.setattr(mirroring, "_GRACE_S", 0.05)
    with caplog.at_level(logging.WARNING, "casckpt"):
        store = casckpt.open(folder / "s")
        store.commit({"x": 1}, run="gpt")
        assert hung.wait(20)
        store.commit({"x": 2}, run="gpt")
        begin = time.monotonic()
        store.close()
        assert time.monotonic() - begin < 10
        free.set()
        eventually(lambda: not any(one.name == "casckpt-mirror" for one in threading.enumerate()))
    assert any("did not end in time" in record.message for record in caplog.records)


def test_a_mistake_in_the_settings_is_a_warning_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with casckpt.open(folder / "s") as store:
        (folder / "s" / "config.toml").write_text("[remote.origin]\nurl = 5\n")
        with caplog.at_level(logging.WARNING, "casckpt"):
            for step in range(3):
                store.commit({"x": step}, run="gpt")
    assert sum("nothing is pushed" in record.message for record in caplog.records) == 1


def test_a_child_of_fork_pushes_with_a_thread_of_its_own(folder: Path) -> None:
    with casckpt.open(folder / "s") as store:
        first = store.commit({"x": 1}, run="gpt")
        eventually(lambda: pushed(folder, "gpt") == first.id)
        eventually(lambda: not any(one.name == "casckpt-mirror" for one in threading.enumerate()))
        pid = os.fork()
        if not pid:
            code = 1
            try:
                store.commit({"x": 2}, run="child")
                store._maintainer.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert pushed(folder, "child") is not None
