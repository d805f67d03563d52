"""A storage that writes down every durable call made through it, for `powerfail` to replay."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from casckpt.storage.base import Buffer, ReadFile, Space, Storage, WriteFile, read_exact

Snapshot = dict[str, bytes | None]
"""File contents by name; None for a folder. The root is not named."""


@dataclass(frozen=True, slots=True)
class Create:
    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Begin:
    """A new file that has no name, or none that means anything."""

    inode: int


@dataclass(frozen=True, slots=True)
class Link:
    """A file gets a name, whatever had that name."""

    inode: int
    name: str


@dataclass(frozen=True, slots=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    inode: int


@dataclass(frozen=True, slots=True)
class Lose:
    """A sync failed: its pages count as clean from here on, though they never reached the disk."""

    inode: int


@dataclass(frozen=True, slots=True)
class Rename:
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str


@dataclass(frozen=True, slots=True)
class MakeDir:
    name: str


@dataclass(frozen=True, slots=True)
class SyncDir:
    name: str


@dataclass(frozen=True, slots=True)
class Ack:
    """A promise was given, which must hold in every state from here on."""

    fact: Hashable


Operation = Create | Begin | Link | Write | Truncate | Sync | Lose | Rename | Unlink | MakeDir | SyncDir | Ack


def snapshot_of(storage: Storage) -> Snapshot:
    """Everything in a storage, read through its interface."""
    found: Snapshot = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        for name in storage.list(folder):
            path = f"{folder}/{name}" if folder else name
            size = storage.size(path)
            if size is None:
                found[path] = None
                folders.append(path)
                continue
            file = storage.open_read(path)
            found[path] = read_exact(file, 0, size)
            file.close()
    return found


def base_inodes(base: Mapping[str, bytes | None]) -> dict[str, int]:
    """Numbers for the files that existed before, from 1 in order of name."""
    files = sorted(name for name, content in base.items() if content is not None)
    return {name: number for number, name in enumerate(files, 1)}


class RecordingStorage:
    """Passes every call on to `inner` and appends the durable ones to `operations`, in the order they took effect.

    What is there when the recorder is made counts as durable and is kept in `base`. Nothing else may change `inner`
    meanwhile. Lock files are not recorded: nobody reads them.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.path: Path | None = inner.path
        self.read_only = inner.read_only
        self.base = snapshot_of(inner)
        self.operations: list[Operation] = []
        self._inodes = base_inodes(self.base)
        self._folders = {name for name, content in self.base.items() if content is None}
        self._last = len(self._inodes)
        # One at a time: two threads' calls must be written down in the order in which the disk saw them.
        self._mutex = threading.RLock()

    def mark(self, fact: Hashable) -> None:
        """Write down that a promise was given just now."""
        with self._mutex:
            self.operations.append(Ack(fact))

    def make_root(self) -> None:
        self.inner.make_root()

    def make_dir(self, name: str) -> None:
        with self._mutex:
            self.inner.make_dir(name)
            if name not in self._folders:
                self._folders.add(name)
                self.operations.append(MakeDir(name))

    def create(self, name: str, *, direct: bool = False) -> WriteFile:
        with self._mutex:
            file = self.inner.create(name, direct=direct)
            self._last += 1
            self._inodes[name] = self._last
            self.operations.append(Create(name, self._last))
            return _RecordingFile(file, self._last, self.operations, self._mutex)

    def open_write(self, name: str) -> WriteFile:
        with self._mutex:
            return _RecordingFile(self.inner.open_write(name), self._inodes[name], self.operations, self._mutex)

    def open_read(self, name: str) -> ReadFile:
        return self.inner.open_read(name)

    def rename(self, source: str, target: str) -> None:
        with self._mutex:
            self.inner.rename(source, target)
            self._inodes[target] = self._inodes.pop(source)
            self.operations.append(Rename(source, target))

    def unlink(self, name: str) -> None:
        with self._mutex:
            self.inner.unlink(name)
            self._forget(name)

    def space(self) -> Space | None:
        return self.inner.space()

    def unlink_abandoned(self, name: str) -> bool:
        with self._mutex:
            gone = self.inner.unlink_abandoned(name)
            if gone and name in self._inodes:
                self._forget(name)
            return gone

    def _forget(self, name: str) -> None:
        del self._inodes[name]
        self.operations.append(Unlink(name))

    def sync_dir(self, name: str) -> None:
        with self._mutex:
            self.inner.sync_dir(name)
            self.operations.append(SyncDir(name))

    def list(self, name: str) -> list[str]:
        return self.inner.list(name)

    def size(self, name: str) -> int | None:
        return self.inner.size(name)

    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> AbstractContextManager[None]:
        return self.inner.lock(name, exclusive=exclusive, wait_s=wait_s)


class _RecordingFile:
    def __init__(
        self, inner: WriteFile, inode: int, operations: list[Operation], mutex: AbstractContextManager[object]
    ) -> None:
        self._inner = inner
        self._inode = inode
        self._operations = operations
        self._mutex = mutex

    def size(self) -> int:
        return self._inner.size()

    def write_at(self, data: Buffer, offset: int) -> int:
        with self._mutex:
            count = self._inner.write_at(data, offset)
            if count:
                self._operations.append(Write(self._inode, offset, bytes(memoryview(data).cast("B")[:count])))
            return count

    def truncate(self, size: int) -> None:
        with self._mutex:
            self._inner.truncate(size)
            self._operations.append(Truncate(self._inode, size))

    def sync(self) -> None:
        with self._mutex:
            self._inner.sync()
            self._operations.append(Sync(self._inode))

    def lose(self) -> None:
        """Write down that a sync failed and lost what it should have flushed, as Linux does."""
        with self._mutex:
            self._operations.append(Lose(self._inode))

    def close(self) -> None:
        self._inner.close()
