"""A file that appears under its name when it is whole and durable, or never does."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from casckpt.errors import TargetExists, UsageError
from casckpt.storage.posix import OsErrors

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def written_aside(target: Path, *, replace: bool) -> Iterator[Path]:
    """The path of an empty file, private to its owner, that becomes `target` when the block ends without an error.

    Args:
        replace: a file that is there is replaced; until then it stays as it is.

    Raises:
        TargetExists: the target is there, before or after; a folder is never replaced.
        StorageError: the disk failed or is full. Nothing is left behind.
    """
    _refuse_taken(target, replace)
    if not target.absolute().parent.is_dir():
        raise UsageError(problem=f"the folder {target.absolute().parent} does not exist")
    # A fixed length, since the target's own name may be as long as a name can be.
    aside = target.with_name(f".casckpt-{os.getpid()}-{os.urandom(8).hex()}.part")
    with OsErrors("write", str(target), names_pass=False):
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            yield aside
            _sync(aside, os.O_RDONLY)
            _refuse_taken(target, replace)
            _name(aside, target, replace)
            _sync(target.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            aside.unlink(missing_ok=True)


def _refuse_taken(target: Path, replace: bool) -> None:
    if os.path.lexists(target) and (not replace or (target.is_dir() and not target.is_symlink())):
        raise TargetExists(path=str(target))


def _name(aside: Path, target: Path, replace: bool) -> None:
    if replace:
        os.replace(aside, target)
        return
    try:
        os.link(aside, target)  # a rename would replace what somebody else has just put there
    except FileExistsError as error:
        raise TargetExists(path=str(target)) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(aside, target)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
