"""Unfinished files: everything that is written grows in tmp/ and gets its name when it is whole and durable."""

from __future__ import annotations

import contextlib
import os

from casckpt.errors import CasckptError
from casckpt.storage.base import Storage, WriteFile, write_all

_TRIES = 16


def create_temporary(storage: Storage, what: str, *, direct: bool = False) -> tuple[str, WriteFile]:
    """A new file in tmp/ under a fresh name, and that name.

    Between the making of a file and its lock, another process that removes what the dead left may take it for such;
    then the next name is tried.
    """
    for _ in range(_TRIES - 1):
        try:
            name = _fresh(what)
            return name, storage.create(name, direct=direct)
        except FileExistsError:
            continue
    name = _fresh(what)
    return name, storage.create(name, direct=direct)


def write_whole(storage: Storage, name: str, data: bytes) -> None:
    """Make `data` the content of a file at the top of a store: durable when this returns, else as it was before.

    Raises:
        StorageError: the disk failed or is full. Only if the very last flush failed may the new content be there.
    """
    unfinished, file = create_temporary(storage, name)
    try:
        write_all(file, data, 0)
        file.sync()
        storage.rename(unfinished, name)
    except BaseException:
        with contextlib.suppress(CasckptError, FileNotFoundError):
            storage.unlink(unfinished)
        raise
    finally:
        file.close()
    storage.sync_dir("")


def _fresh(what: str) -> str:
    return f"tmp/{what}-{os.getpid()}-{os.urandom(6).hex()}"
