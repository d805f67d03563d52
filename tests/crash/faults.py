"""A storage that kills its process or fails at a chosen durable call.

A plan is asked before every call that changes something: `plan(n, call, name)` with n from 1 gives None or one of

    kill            the process is dead: neither this call nor a later one reaches the disk, locks are free again
    kill-mid-write  the first half of a write reaches the disk, then the process is dead; elsewhere like kill
    eio, enospc     the call fails and does nothing
    eio-after       the call takes effect and yet fails
    eio-lost        like eio; of a sync, what was to be flushed is clean in the cache and never reaches the disk
    short           a write stops half way without an error; elsewhere nothing happens
    skip            the call does nothing and says it did: a disk that lies, or a step that a program leaves out
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from casckpt.errors import StorageError, StoreFull
from casckpt.storage.base import Buffer, ReadFile, Space, Storage, WriteFile
from casckpt.storage.mapping import Mapping
from casckpt.storage.memory import MemoryStorage

Action = Literal["kill", "kill-mid-write", "eio", "enospc", "eio-after", "eio-lost", "short", "skip"]
Plan = Callable[[int, str, str], Action | None]
ACTIONS: tuple[Action, ...] = get_args(Action)

T = TypeVar("T")


class Killed(BaseException):
    """The process died here. Not an Exception: no `except Exception` of the code under test may survive its death."""


def never(n: int, call: str, name: str) -> Action | None:
    """Nothing fails."""
    return None


def at(number: int, action: Action) -> Plan:
    """`action` at one call, counted from 1."""
    return lambda n, call, name: action if n == number else None


def since(number: int, action: Action) -> Plan:
    """`action` at one call and at every later one, as on a full or broken disk."""
    return lambda n, call, name: action if n >= number else None


def on(call: str, action: Action, *, prefix: str = "") -> Plan:
    """`action` at every call of one kind whose name begins with `prefix`."""
    return lambda n, called, name: action if called == call and name.startswith(prefix) else None


def count_calls(run: Callable[[Storage], object], inner: Storage | None = None) -> list[str]:
    """The changing calls that `run` makes, as `sync tmp/a`; one plan `at(n, ...)` for each covers them all.

    Args:
        run: the operation, given the storage to work on.
        inner: where it works, an empty `MemoryStorage` if None.
    """
    storage = FaultyStorage(MemoryStorage() if inner is None else inner)
    run(storage)
    return storage.calls


class FaultyStorage:
    """Passes every call on to `inner`, except where `plan` says otherwise.

    A file of which a sync failed never syncs again, as `storage.base` demands; who goes on must open it anew.

    After a kill every call raises `Killed`, reads too, in every thread; only closing a file or leaving a lock stays
    silent, so that the exception can unwind the code under test. What it held in `inner` is released, as the kernel
    does for the dead.
    """

    def __init__(self, inner: Storage, plan: Plan = never) -> None:
        self.inner = inner
        self.path: Path | None = inner.path
        self.read_only = inner.read_only
        self.plan = plan
        self.calls: list[str] = []
        self.dead = False
        self._mutex = threading.RLock()
        self._open: list[WriteFile] = []
        self._locks: list[ExitStack] = []

    def check_alive(self) -> None:
        """Raise `Killed` if the process is dead."""
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """Let the process die here; always raises."""
        self.dead = True
        while self._open:
            self._open.pop().close()
        while self._locks:
            self._locks.pop().close()
        raise Killed

    def perform(
        self,
        call: str,
        name: str,
        effect: Callable[[], T],
        part: Callable[[], T] | None = None,
        lose: Callable[[], object] | None = None,
    ) -> T:
        """One changing call: count it, ask the plan, then do what it says.

        Args:
            effect: the call itself.
            part: the call done half, for a write of at least two bytes.
            lose: what a failed flush does to the pages it should have flushed.
        """
        with self._mutex:
            self.check_alive()
            self.calls.append(f"{call} {name}")
            action = self.plan(len(self.calls), call, name)
            if action == "kill-mid-write" and part:
                part()
            if action in {"kill", "kill-mid-write"}:
                self.kill()
            if action == "eio-lost" and lose is not None:
                lose()
            if action in {"eio", "eio-lost"}:
                raise StorageError(operation=call, path=name, problem=os.strerror(errno.EIO), errno=errno.EIO)
            if action == "enospc":
                raise StoreFull(operation=call, path=name, problem=os.strerror(errno.ENOSPC), errno=errno.ENOSPC)
            if action == "skip" and call in {"sync", "sync_dir", "truncate", "unlink"}:
                return cast(T, None)
            result = part() if action == "short" and part else effect()
            if action == "eio-after":
                if isinstance(result, _FaultyWriteFile):
                    result.close()
                raise StorageError(operation=call, path=name, problem=os.strerror(errno.EIO), errno=errno.EIO)
            return result

    def make_root(self) -> None:
        self.perform("make_root", "", self.inner.make_root)

    def make_dir(self, name: str) -> None:
        self.perform("make_dir", name, lambda: self.inner.make_dir(name))

    def create(self, name: str, *, direct: bool = False) -> WriteFile:
        return self.perform("create", name, lambda: self._wrap(name, self.inner.create(name, direct=direct)))

    def open_write(self, name: str) -> WriteFile:
        return self.perform("open_write", name, lambda: self._wrap(name, self.inner.open_write(name)))

    def _wrap(self, name: str, file: WriteFile) -> WriteFile:
        self._open.append(file)
        return _FaultyWriteFile(self, name, file)

    def close(self, file: WriteFile) -> None:
        """Close a file of `inner` opened for writing; also after death."""
        with self._mutex:
            if file in self._open:
                self._open.remove(file)
            file.close()

    def open_read(self, name: str) -> ReadFile:
        self.check_alive()
        return _FaultyReadFile(self, self.inner.open_read(name))

    def rename(self, source: str, target: str) -> None:
        self.perform("rename", source, lambda: self.inner.rename(source, target))

    def unlink(self, name: str) -> None:
        self.perform("unlink", name, lambda: self.inner.unlink(name))

    def space(self) -> Space | None:
        return self.inner.space()

    def unlink_abandoned(self, name: str) -> bool:
        return self.perform("unlink_abandoned", name, lambda: self.inner.unlink_abandoned(name))

    def sync_dir(self, name: str) -> None:
        self.perform("sync_dir", name, lambda: self.inner.sync_dir(name))

    def list(self, name: str) -> list[str]:
        self.check_alive()
        return self.inner.list(name)

    def size(self, name: str) -> int | None:
        self.check_alive()
        return self.inner.size(name)

    @contextmanager
    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> Iterator[None]:
        self.check_alive()
        with ExitStack() as held:
            held.enter_context(self.inner.lock(name, exclusive=exclusive, wait_s=wait_s))
            self.check_alive()  # it may have died while this thread waited
            self._locks.append(held)
            try:
                yield
            finally:
                if held in self._locks:
                    self._locks.remove(held)


class _FaultyWriteFile:
    def __init__(self, storage: FaultyStorage, name: str, inner: WriteFile) -> None:
        self._storage = storage
        self._name = name
        self._inner = inner
        self._sync_failed = False

    def size(self) -> int:
        self._storage.check_alive()
        return self._inner.size()

    def write_at(self, data: Buffer, offset: int) -> int:
        view = memoryview(data).cast("B")
        half = view[: max(1, len(view) // 2)]
        return self._storage.perform(
            "write_at",
            self._name,
            lambda: self._inner.write_at(view, offset),
            (lambda: self._inner.write_at(half, offset)) if len(view) else None,
        )

    def truncate(self, size: int) -> None:
        self._storage.perform("truncate", self._name, lambda: self._inner.truncate(size))

    def sync(self) -> None:
        if self._sync_failed:
            raise StorageError(operation="sync", path=self._name, problem=os.strerror(errno.EIO), errno=errno.EIO)
        try:
            self._storage.perform("sync", self._name, self._inner.sync, lose=getattr(self._inner, "lose", None))
        except StorageError:
            self._sync_failed = True
            raise

    def close(self) -> None:
        self._storage.close(self._inner)


class _FaultyReadFile:
    def __init__(self, storage: FaultyStorage, inner: ReadFile) -> None:
        self._storage = storage
        self._inner = inner

    def size(self) -> int:
        self._storage.check_alive()
        return self._inner.size()

    def read_into(self, target: memoryview, offset: int) -> int:
        self._storage.check_alive()
        return self._inner.read_into(target, offset)

    def expect_scattered(self, on: bool) -> None:
        self._inner.expect_scattered(on)

    def map_into(self, mapping: Mapping, offset: int, nbytes: int, at: int) -> bool:
        self._storage.check_alive()
        return self._inner.map_into(mapping, offset, nbytes, at)

    def close(self) -> None:
        self._inner.close()
