"""The storage door: every durable call of casckpt goes through these small interfaces.

A `Storage` is a dumb place of named bytes with the durability rules of a POSIX file system and nothing more:
written bytes are durable after `sync` of their file, names (created, renamed, removed) after `sync_dir` of their
folder. Because nothing else touches the disk, tests can record every durable call, fail any of them, and rebuild
what a power loss could leave.

Names are relative, `/`-separated, without `.` and `..`; "" is the root folder. Failures of the world are raised as
`errors.StorageError` (`StoreFull` for ENOSPC and EDQUOT, `ReadOnlyStore` for EROFS and EACCES); a missing name is the
builtin `FileNotFoundError` and an existing one `FileExistsError`, since callers expect and handle those.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from casckpt.storage.mapping import Mapping

Buffer = bytes | bytearray | memoryview


class Space(NamedTuple):
    """Bytes that can still be written, and bytes in all."""

    free: int
    total: int


class ReadFile(Protocol):
    """An open file for reading. Safe to use from several threads; stays readable after its name is removed."""

    def size(self) -> int:
        """Current length in bytes."""

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill `target` (bytes, contiguous, writable) from `offset`; the count read, short only at the end of file.

        Large reads into whole pages (256 KiB and more, memory and offset multiples of 4 KiB) are the fast ones:
        what the page cache does not hold then comes from the disk past it.
        """

    def expect_scattered(self, on: bool) -> None:
        """Whether to expect small reads far from each other: then nothing is read ahead of any. A hint: never fails."""

    def map_into(self, mapping: Mapping, offset: int, nbytes: int, at: int) -> bool:
        """Lay `nbytes` of this file from `offset` into a mapping at `at`, without reading them; see `Mapping.lay`.

        False if this storage, this file or these places cannot be mapped: then read them into `mapping.memory`.
        """

    def close(self) -> None:
        """Release the file; closing twice is harmless."""


class WriteFile(Protocol):
    """An open file for writing; one thread at a time."""

    def size(self) -> int:
        """Current length in bytes."""

    def write_at(self, data: Buffer, offset: int) -> int:
        """Write a prefix of `data` at `offset`; the count written, which may be short. Use `write_all`."""

    def truncate(self, size: int) -> None:
        """Cut or zero-extend the file to `size` bytes."""

    def sync(self) -> None:
        """Make everything written so far durable. A failure is final for this file: never sync it again."""

    def close(self) -> None:
        """Release the file; closing twice is harmless. Durable only what was synced."""


class Storage(Protocol):
    """A folder of named bytes. Thread-safe; usable in a forked child."""

    path: str | None
    """Where the folder is on a real file system; None if it is nowhere (no LMDB index, no mmap there)."""

    read_only: bool

    def make_root(self) -> None:
        """Create the root folder if absent, durably (its parents too); an existing one is left alone."""

    def make_dir(self, name: str) -> None:
        """Create a folder, mode 0700; an existing one is left alone. Durable after `sync_dir` of its parent."""

    def create(self, name: str, *, direct: bool = False) -> WriteFile:
        """A new empty file, mode 0600, exclusively locked until it is closed; FileExistsError if the name is taken.

        Args:
            direct: bypass the page cache where the file system can (writes must then be 4 KiB-aligned in memory,
                offset and length); falls back silently where it cannot.
        """

    def open_write(self, name: str) -> WriteFile:
        """An existing file for writing in place."""

    def open_read(self, name: str) -> ReadFile:
        """An existing file for reading."""

    def rename(self, source: str, target: str) -> None:
        """Name `source` `target`, atomically replacing what had it. Durable after `sync_dir` of both folders."""

    def unlink(self, name: str) -> None:
        """Remove a file's name; FileNotFoundError if absent."""

    def sync_dir(self, name: str) -> None:
        """Make all changes of names in a folder durable."""

    def list(self, name: str) -> list[str]:
        """Sorted names in a folder; empty if the folder is absent."""

    def size(self, name: str) -> int | None:
        """Length of a file in bytes, None if absent or a folder."""

    def space(self) -> Space | None:
        """Room on the disk below, None if it is not known."""

    def unlink_abandoned(self, name: str) -> bool:
        """Remove a file made by `create` whose writer is gone, if still there; False if a live writer holds it."""

    def lock(self, name: str, *, exclusive: bool, wait_s: float) -> AbstractContextManager[None]:
        """Hold the advisory lock `lock/<name>`; released when the context ends or the process dies.

        Raises:
            BusyError: not free within `wait_s` seconds; names the holder.
        """


def check_name(name: str) -> str:
    """`name` itself, if it can name a file or folder below the root.

    Raises:
        ValueError: it is empty, absolute, or has an empty, `.` or `..` part or a NUL: a mistake of the program.
    """
    if "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError(f"{name!r} is not a storage name")
    return name


def write_all(file: WriteFile, data: Buffer, offset: int) -> None:
    """Write all of `data` at `offset`, however short the single writes are."""
    view = memoryview(data).cast("B")
    while len(view):
        count = file.write_at(view, offset)
        view = view[count:]
        offset += count


def read_exact(file: ReadFile, offset: int, count: int) -> bytes:
    """`count` bytes from `offset`; fewer only if the file ends before."""
    buffer = memoryview(bytearray(count))
    got = file.read_into(buffer, offset) if count else 0
    return bytes(buffer[:got])
