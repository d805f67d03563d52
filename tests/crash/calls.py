"""The durable calls that code makes of the system itself on a real folder, written down for `powerfail` to replay.

What is in a file is found out when it is flushed or gets a name, however it was written. Names under which files are
built mean nothing: a file has no name until it gets another one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from casckpt.storage import aside
from tests.crash.recorder import Ack, Begin, Link, MakeDir, Operation, Snapshot, Sync, SyncDir, Unlink, Write

_CALLS = ("fsync", "link", "mkdir", "unlink")


def built(name: str) -> bool:
    """Whether a name is one under which a file is built: in the folder of a remote, or beside the place of a file."""
    return name == "tmp" or name.startswith("tmp/") or name.rpartition("/")[2].startswith(".")


def tree(folder: Path) -> Snapshot:
    """What is in a folder, but for what is being built."""
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {name: None if path.is_dir() else path.read_bytes() for name, path in names.items() if not built(name)}


class RecordedCalls:
    """What happens to a folder while `watched`; what is there when it is made counts as durable.

    `before_flush` is called before each flush of a folder: what it does happens between two calls.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = tree(folder)
        self.operations: list[Operation] = []
        self.before_flush: Callable[[], None] = lambda: None
        names = sorted(name for name, content in self.base.items() if content is not None)
        self._inodes = {os.stat(folder / name).st_ino: number for number, name in enumerate(names, 1)}
        self._last = len(names)
        self._written: dict[int, bytes] = {}

    def mark(self, fact: Hashable) -> None:
        """Write down that a promise was given."""
        self.operations.append(Ack(fact))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Write down what is done inside."""
        inner = {name: getattr(os, name) for name in _CALLS}
        rename_with = aside.rename_with

        def fsync(fd: int) -> None:
            name = self._name(os.readlink(f"/proc/self/fd/{fd}"), None)
            is_folder = os.path.isdir(f"/proc/self/fd/{fd}")
            if name is not None and is_folder:
                self.before_flush()
            inner["fsync"](fd)
            if name is not None and not is_folder:
                self.operations.append(Sync(self._file(f"/proc/self/fd/{fd}")))
            elif name is not None and not built(name):
                self.operations.append(SyncDir(name))

        def link(source: Any, target: Any, **words: Any) -> None:
            inner["link"](source, target, **words)
            self._named(target, words.get("dst_dir_fd"))

        def rename(flags: int, folder: int, source: bytes, target: bytes) -> None:
            rename_with(flags, folder, source, target)
            self._named(target, folder)

        def mkdir(path: Any, *rest: Any, **words: Any) -> None:
            inner["mkdir"](path, *rest, **words)
            name = self._name(path, words.get("dir_fd"))
            if name is not None and not built(name):
                self.operations.append(MakeDir(name))

        def unlink(path: Any, **words: Any) -> None:
            name = self._name(path, words.get("dir_fd"))
            status = os.lstat(path, **words)
            inner["unlink"](path, **words)
            if status.st_nlink == 1:  # the next file may get its number
                self._inodes.pop(status.st_ino, None)
            if name is not None and not built(name):
                self.operations.append(Unlink(name))

        calls = {"fsync": fsync, "link": link, "mkdir": mkdir, "unlink": unlink}
        with mock.patch.multiple(os, **calls), mock.patch.object(aside, "rename_with", rename):
            yield

    def _name(self, path: Any, folder: int | None) -> str | None:
        """The name of a path in the folder, None if it is elsewhere."""
        above = "" if folder is None else os.readlink(f"/proc/self/fd/{folder}")
        relative = os.path.relpath(os.path.join(above, os.fsdecode(path)), self.folder)
        return None if relative.startswith("..") else "" if relative == "." else relative

    def _named(self, target: Any, folder: int | None) -> None:
        name = self._name(target, folder)
        if name is not None and not built(name):
            self.operations.append(Link(self._file(self.folder / name), name))

    def _file(self, path: str | Path) -> int:
        """The number of a file, of which all that is in it was written until now."""
        number = self._inodes.get(os.stat(path).st_ino)
        if number is None:
            self._last += 1
            number = self._inodes[os.stat(path).st_ino] = self._last
            self.operations.append(Begin(number))
        content = Path(path).read_bytes()
        if self._written.get(number) != content:
            self.operations.append(Write(number, 0, content))
            self._written[number] = content
        return number
