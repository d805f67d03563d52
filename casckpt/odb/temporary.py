"""Unfinished files: everything that is written grows in tmp/ and gets its name when it is whole and durable."""

from __future__ import annotations

import os

from casckpt.storage.base import Storage, WriteFile

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


def _fresh(what: str) -> str:
    return f"tmp/{what}-{os.getpid()}-{os.urandom(6).hex()}"
