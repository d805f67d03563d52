"""A file that is written aside and put in its place when it is whole and durable, or never."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from casckpt.errors import TargetExists
from casckpt.storage.aside import Aside, check_place
from casckpt.storage.posix import OsErrors


@contextlib.contextmanager
def written_aside(target: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """An empty file, private to its owner, that becomes `target` when the block ends without an error.

    Args:
        replace: a file that is there is replaced in one step; until then it stays as it is.

    Raises:
        TargetExists: the target is there, before or after; a folder is never replaced.
        StorageError: the disk failed or is full. Nothing is left behind.
    """
    if target.is_dir() and not target.is_symlink():
        raise TargetExists(path=str(target))
    check_place(target, is_folder=False, replace=replace)
    with (
        OsErrors("write", str(target), names_pass=False),
        Aside(target, is_folder=False) as aside,
        open(os.dup(aside.descriptor.fd), "r+b") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())
        aside.place(replace=replace)
