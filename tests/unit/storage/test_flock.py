"""Lock descriptors and forks: no copy of a lock outlives its holder in a child."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from casckpt.storage import flock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_in_the_middle_of_a_close_leaves_the_child_no_copy_of_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    path.touch()
    holder = flock.open_lockable(lambda: os.open(path, os.O_RDWR))
    assert flock.try_lock(holder, exclusive=True)
    close, said = os.close, []

    def fork() -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            # What the parent closes meanwhile is free here too.
            os.read(go[0], 1)
            with open(path, "rb") as again:
                free = flock.try_lock(flock.Descriptor(os.dup(again.fileno())), exclusive=True)
            os.write(writer, b"free" if free else b"held")
            os._exit(0)
        close(writer)
        with open(reader, "rb") as pipe:
            said.append(pipe.read())
        os.waitpid(pid, 0)

    go = os.pipe()
    thread = threading.Thread(target=fork)

    def slow_close(fd: int) -> None:
        if fd == descriptor:
            thread.start()
            thread.join(0.1)  # it gets as far as it may
        close(fd)

    descriptor = holder.fd
    monkeypatch.setattr(flock.os, "close", slow_close)
    holder.close()
    monkeypatch.undo()
    os.write(go[1], b"!")
    thread.join(30)
    assert said == [b"free"]
    for fd in go:
        close(fd)
