"""A file that is written aside and put in its place when it is whole and durable, or never."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from casckpt.errors import TargetExists
from casckpt.storage.aside import Aside, check_place
from casckpt.storage.posix import OsErrors

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


class _Sink(io.RawIOBase):
    """A file that keeps its length and nothing else."""

    def __init__(self) -> None:
        self._at = self._length = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        count = memoryview(data).nbytes
        self._at += count
        self._length = max(self._length, self._at)
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None, /) -> int:
        self._length = self._at if size is None else size
        return self._length


@contextlib.contextmanager
def written_aside(target: Path, *, replace: bool, dry_run: bool = False) -> Iterator[BinaryIO]:
    """An empty file, private to its owner, that becomes `target` when the block ends without an error.

    Args:
        replace: a file that is there is replaced in one step; until then it stays as it is.
        dry_run: nothing is written; the file only knows how long it would be.

    Raises:
        TargetExists: the target is there, before or after; a folder is never replaced.
        StorageError: the disk failed or is full. Nothing is left behind.
    """
    if target.is_dir() and not target.is_symlink():
        raise TargetExists(path=str(target))
    check_place(target, is_folder=False, replace=replace)
    if dry_run:
        yield cast(BinaryIO, _Sink())
        return
    with (
        OsErrors("write", str(target), names_pass=False),
        Aside(target, is_folder=False) as aside,
        open(os.dup(aside.descriptor.fd), "r+b") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())
        aside.place(replace=replace)
