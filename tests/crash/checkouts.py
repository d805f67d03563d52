"""Checkouts of files that are killed, fail or are interrupted at each of their calls; and what must hold afterwards.

The calls are counted where Python makes them: everything that makes, fills, names, flushes or removes something. The
store itself is only read. For kills, see `kill_at_every_call`: it forks, so it belongs into a process of its own.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import casckpt
from casckpt.ops import write_files
from casckpt.storage import aside

MIB = 1 << 20
CALLS = ("mkdir", "open", "pwritev", "fsync", "rename", "link", "unlink", "rmdir", "symlink", "ftruncate", "fchmod")
FILES = {
    "tiny": b"tiny",
    "sub/empty": b"",
    "sub/grouped": random.Random(1).randbytes(3000),
    "sub/large": random.Random(2).randbytes(MIB + 5000),
    "zeros": bytes(2 * MIB),
}
OLD: dict[str, bytes] = {"kept": b"old", "deep/er/file": b"x" * 5000}

Content = bytes | dict[str, bytes] | None
"""Of a path: a file's bytes, a folder's files by name, None if it is absent."""


@dataclass(frozen=True)
class Scene:
    """What is checked out to where."""

    revision: str
    before: Content
    replace: bool = True
    swaps: bool = True
    """Whether the file system can swap two names."""

    @property
    def new(self) -> Content:
        return FILES if self.revision == "@:in" else FILES["sub/large"]


SCENES = {
    "folder, absent": Scene("@:in", None, replace=False),
    "folder, empty": Scene("@:in", {}, replace=False),
    "file, absent": Scene("@:in/sub/large", None, replace=False),
    "file, absent, no swap": Scene("@:in/sub/large", None, replace=False, swaps=False),
    "folder for folder": Scene("@:in", OLD),
    "file for file": Scene("@:in/sub/large", b"old"),
    "file for folder": Scene("@:in/sub/large", OLD),
    "folder for file, no swap": Scene("@:in", b"old", swaps=False),
    "folder for folder, no swap": Scene("@:in", OLD, swaps=False),
}


def write(path: Path, content: Content) -> None:
    """Make a path what it shall be; whatever was there is gone."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
        for name, data in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)


def read(path: Path) -> Content:
    """What a path is."""
    if path.is_dir():
        return {str(below.relative_to(path)): below.read_bytes() for below in path.rglob("*") if below.is_file()}
    return path.read_bytes() if path.exists() else None


def make_store(folder: Path, threads: int) -> casckpt.Store:
    """A store whose last commit holds FILES below `in`."""
    write(folder / "in", FILES)
    store = casckpt.init(folder / "store", threads=threads)
    store.commit_path(folder / "in", compress="off")
    (folder / "out").mkdir()
    return store


def leftovers(folder: Path) -> dict[str, Content]:
    """What is beside the target."""
    return {path.name: read(path) for path in folder.iterdir() if path.name != "target"}


Hook = Callable[[int, str, Callable[[], Any], tuple[Any, ...]], Any]
"""Called with the number of a call, its name, what makes it, and its arguments; gives what the call shall give."""


@contextmanager
def hooked(hook: Hook, *, swaps: bool) -> Iterator[list[str]]:
    """Let a hook stand in for every counted call; gives the names of those that were made."""
    made: list[str] = []

    def around(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **words: Any) -> Any:
            made.append(name)
            return hook(len(made) - 1, name, lambda: inner(*arguments, **words), arguments)

        return call

    def cannot(*_: Any) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with mock.patch.multiple(os, **{name: around(name, getattr(os, name)) for name in CALLS}):
        swap = around("renameat2", aside.rename_with if swaps else cannot)
        flush = around("syncfs", write_files.flush_all)
        with mock.patch.object(aside, "rename_with", swap), mock.patch.object(write_files, "flush_all", flush):
            yield made


def check_out(store: casckpt.Store, scene: Scene, folder: Path) -> Any:
    """Make the checkout of a scene."""
    return store.checkout_path(scene.revision, folder / "target", replace=scene.replace)


def count_calls(store: casckpt.Store, scene: Scene, folder: Path) -> list[str]:
    """The calls that a checkout makes if nothing happens to it, and it is not the first, which opens packs."""
    for _ in range(2):
        write(folder / "target", scene.before)
        made = _calls(store, scene, folder)
    return made


def _calls(store: casckpt.Store, scene: Scene, folder: Path) -> list[str]:
    with hooked(lambda _number, _name, make, _arguments: make(), swaps=scene.swaps) as made:
        check_out(store, scene, folder)
    assert read(folder / "target") == scene.new and not leftovers(folder)
    return made


def kill_at_every_call(path: str, name: str) -> None:
    """Check out in forked processes that are killed: before each call, and in the middle of each write."""
    scene, folder, kills = SCENES[name], Path(path) / "out", 0
    with make_store(Path(path), threads=1) as store:
        for half in (False, True):
            for number in range(1000):
                write(folder / "target", scene.before)
                if not _killed(partial(_check_out_killed, store, scene, folder, number, half=half)):
                    break
                _check_kill(store, scene, folder)
                kills += 1
    print(kills, flush=True)


def _check_out_killed(store: casckpt.Store, scene: Scene, folder: Path, at: int, *, half: bool) -> None:
    writes = 0

    def hook(number: int, name: str, make: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        nonlocal writes
        if half and name == "pwritev":
            if writes == at:
                fd, data, offset = arguments
                os.pwrite(fd, data[0][: len(data[0]) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
        elif not half and number == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return make()

    with hooked(hook, swaps=scene.swaps):
        check_out(store, scene, folder)


def _killed(work: Callable[[], None]) -> bool:
    """Whether a forked process was killed while it did the work; False if it did all of it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def _check_kill(store: casckpt.Store, scene: Scene, folder: Path) -> None:
    """The target is the whole old or the whole new, and the next checkout leaves nothing else."""
    now, left = read(folder / "target"), leftovers(folder)
    old = {name: content for name, content in left.items() if name.endswith(".old")}
    if old and now is None:
        assert not scene.swaps and list(old.values()) == [scene.before]
        assert scene.new in left.values(), "the target is empty, and the new is not whole beside it"
    else:
        assert now in (scene.before, scene.new), now
    again = Scene(scene.revision, scene.before, replace=now != scene.before or scene.replace, swaps=scene.swaps)
    check_out(store, again, folder)
    assert read(folder / "target") == scene.new
    assert leftovers(folder) == old
    for name in old:
        write(folder / name, None)
