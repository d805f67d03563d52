"""A storage in RAM with the behaviour of a folder on disk: for tests, throw-away stores and crash states.

Made from bytes without copying them: a file's content stays the given `bytes` object until it is first written.
Thousands of storages a second can thus be built over the same contents, one for each state a power loss may leave.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casckpt.errors import BusyError, ReadOnlyStore, StorageError
from casckpt.storage.base import Buffer, Space, check_name

if TYPE_CHECKING:
    from casckpt.storage.mapping import Mapping as FileMapping


class _Inode:
    """A file's content, apart from its name: it lives on while somebody has it open."""

    __slots__ = ("content", "held")

    def __init__(self, content: bytes | bytearray = b"", *, held: bool = False) -> None:
        self.content = content
        self.held = held

    def writable(self) -> bytearray:
        if not isinstance(self.content, bytearray):
            self.content = bytearray(self.content)
        return self.content


class _Holder:
    """One taken lock; compared by identity."""

    __slots__ = ("exclusive", "thread")

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.thread = threading.current_thread().name


def _failed(operation: str, name: str, code: int) -> StorageError:
    return StorageError(operation=operation, path=name, problem=os.strerror(code), errno=code)


class _MemoryFile:
    def __init__(self, inode: _Inode, mutex: threading.Condition, name: str, *, creator: bool = False) -> None:
        self._inode = inode
        self._mutex = mutex
        self._name = name
        self._creator = creator
        self._open = True

    def _check_open(self, operation: str) -> None:
        if not self._open:
            raise _failed(operation, self._name, errno.EBADF)

    def size(self) -> int:
        self._check_open("measure")
        return len(self._inode.content)

    def close(self) -> None:
        if self._open and self._creator:
            self._inode.held = False
        self._open = False


class MemoryReadFile(_MemoryFile):
    """A file open for reading."""

    def read_into(self, target: memoryview, offset: int) -> int:
        self._check_open("read")
        with self._mutex:
            part = self._inode.content[offset : offset + len(target)]
        target[: len(part)] = part
        return len(part)

    def expect_scattered(self, on: bool) -> None:
        pass

    def map_into(self, mapping: FileMapping, offset: int, nbytes: int, at: int) -> bool:
        self._check_open("map")
        return False


class MemoryWriteFile(_MemoryFile):
    """A file open for writing; held against `unlink_abandoned` until closed if it was created by this object."""

    def write_at(self, data: Buffer, offset: int) -> int:
        self._check_open("write")
        view = memoryview(data).cast("B")
        with self._mutex:
            content = self._inode.writable()
            if len(view) and len(content) < offset:
                content.extend(bytes(offset - len(content)))
            content[offset : offset + len(view)] = view
        return len(view)

    def truncate(self, size: int) -> None:
        self._check_open("truncate")
        with self._mutex:
            content = self._inode.writable()
            del content[size:]
            content.extend(bytes(size - len(content)))

    def sync(self) -> None:
        self._check_open("flush")


class MemoryStorage:
    """Files and folders in RAM. Thread-safe; a forked child has a copy of its own, locks included.

    Args:
        entries: contents by file name, None for a folder; the folders of a name are made as needed. Not copied
            and not changed.
        read_only: refuse every change.
    """

    def __init__(self, entries: Mapping[str, bytes | None] | None = None, *, read_only: bool = False) -> None:
        self.path: str | None = None
        self.read_only = read_only
        self._entries: dict[str, _Inode | bytes | None] = dict(entries or {})
        for name in entries or ():
            folder = name.rpartition("/")[0]
            while folder and folder not in self._entries:
                self._entries[folder] = None
                folder = folder.rpartition("/")[0]
        self._mutex = threading.Condition()
        self._locks: dict[str, list[_Holder]] = {}

    def snapshot(self) -> dict[str, bytes | None]:
        """Every file's content and every folder (as None), sorted by name; made for the constructor."""
        with self._mutex:
            entries = sorted(self._entries.items(), key=lambda item: item[0])
            return {name: bytes(entry.content) if isinstance(entry, _Inode) else entry for name, entry in entries}

    def _refuse_if_read_only(self, operation: str, name: str) -> None:
        if self.read_only:
            raise ReadOnlyStore(operation=operation, path=name, problem="it was opened read-only")

    def _require_folder_of(self, operation: str, name: str) -> None:
        """FileNotFoundError or a StorageError unless the parent folder of `name` exists."""
        folder = name.rpartition("/")[0]
        if not folder:
            return
        if folder in self._entries:
            if self._entries[folder] is not None:
                raise _failed(operation, name, errno.ENOTDIR)
            return
        self._require_folder_of(operation, folder)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _file(self, operation: str, name: str) -> _Inode:
        check_name(name)
        if name not in self._entries:
            self._require_folder_of(operation, name)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        entry = self._entries[name]
        if entry is None:
            raise _failed(operation, name, errno.EISDIR)
        if isinstance(entry, bytes):
            entry = self._entries[name] = _Inode(entry)
        return entry

    def make_root(self) -> None:
        self._refuse_if_read_only("create", "")

    def make_dir(self, name: str) -> None:
        check_name(name)
        self._refuse_if_read_only("create", name)
        with self._mutex:
            self._require_folder_of("create", name)
            if self._entries.setdefault(name, None) is not None:
                raise _failed("create", name, errno.ENOTDIR)

    def create(self, name: str, *, direct: bool = False) -> MemoryWriteFile:
        check_name(name)
        self._refuse_if_read_only("create", name)
        with self._mutex:
            self._require_folder_of("create", name)
            if name in self._entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            inode = self._entries[name] = _Inode(held=True)
        return MemoryWriteFile(inode, self._mutex, name, creator=True)

    def open_write(self, name: str) -> MemoryWriteFile:
        self._refuse_if_read_only("write", name)
        with self._mutex:
            return MemoryWriteFile(self._file("write", name), self._mutex, name)

    def open_read(self, name: str) -> MemoryReadFile:
        with self._mutex:
            return MemoryReadFile(self._file("open", name), self._mutex, name)

    def rename(self, source: str, target: str) -> None:
        check_name(target)
        self._refuse_if_read_only("rename", source)
        with self._mutex:
            inode = self._file("rename", source)
            self._require_folder_of("rename", target)
            if target in self._entries and self._entries[target] is None:
                raise _failed("rename", source, errno.EISDIR)
            del self._entries[source]
            self._entries[target] = inode

    def unlink(self, name: str) -> None:
        self._refuse_if_read_only("remove", name)
        with self._mutex:
            self._file("remove", name)
            del self._entries[name]

    def sync_dir(self, name: str) -> None:
        self._refuse_if_read_only("flush", name)
        with self._mutex:
            self._require_folder_of("flush", f"{name}/" if name else "")

    def list(self, name: str) -> list[str]:
        prefix = f"{check_name(name)}/" if name else ""
        with self._mutex:
            if name and self._entries.get(name) is not None:
                raise _failed("list", name, errno.ENOTDIR)
            start = len(prefix)
            inside = (entry for entry in self._entries if entry.startswith(prefix))
            return sorted(entry[start:] for entry in inside if "/" not in entry[start:])

    def size(self, name: str) -> int | None:
        with self._mutex:
            entry = self._entries.get(check_name(name))
        if entry is None:
            return None
        return len(entry.content if isinstance(entry, _Inode) else entry)

    def space(self) -> Space | None:
        return None

    def unlink_abandoned(self, name: str) -> bool:
        self._refuse_if_read_only("remove", name)
        with self._mutex:
            try:
                inode = self._file("remove", name)
            except FileNotFoundError:
                return True
            if not inode.held:
                del self._entries[name]
            return not inode.held

    @contextmanager
    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> Iterator[None]:
        check_name(f"lock/{name}")
        if exclusive:
            self._refuse_if_read_only("lock", f"lock/{name}")
        mine = _Holder(exclusive)
        with self._mutex:
            holders = self._locks.setdefault(name, [])
            if not self._mutex.wait_for(lambda: not holders or not (exclusive or holders[0].exclusive), wait_s):
                raise BusyError(lock=name, wait_s=wait_s, holder=f"thread {holders[0].thread}")
            holders.append(mine)
        try:
            yield
        finally:
            with self._mutex:
                holders.remove(mine)
                self._mutex.notify_all()
