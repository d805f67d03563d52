"""One value of a settings file is changed: comments, order and everything else stay as they are.

The new text is written aside, flushed and renamed, so the file is the old one or the new one, whole, at any moment.
"""

from __future__ import annotations

import contextlib
import os

import tomlkit
from tomlkit.exceptions import TOMLKitError

from casckpt.errors import CasckptError, DamagedSettings, StorageError
from casckpt.odb.temporary import write_whole
from casckpt.ops.settings import FILE, decoded
from casckpt.plan.settings import MAX_FILE_BYTES, Value
from casckpt.storage.base import Storage, read_exact

WAIT_S = 10.0


def edited(path: str, text: str, key: str, value: Value) -> str:
    """A settings file with one key changed, or without it if the value is None.

    Raises:
        DamagedSettings: the text is no TOML.
    """
    section, _, name = key.rpartition(".")
    try:
        document = tomlkit.parse(text)
        table = document
        if section:
            if section not in document and value is not None:
                document[section] = tomlkit.table()
            table = document.get(section, {})
        if value is not None:
            table[name] = value
        elif name in table:
            del table[name]
        return tomlkit.dumps(document)
    except (TOMLKitError, TypeError, ValueError, RecursionError) as error:
        raise DamagedSettings(file=path, problem=str(error) or type(error).__name__) from error


def edit_store(storage: Storage, key: str, value: Value, *, dry_run: bool = False) -> None:
    """Change the settings file of a store; `dry_run` only says whether that is possible.

    Raises:
        DamagedSettings: the file there is no TOML.
        ReadOnlyStore, BusyError, StorageError: it cannot be written, and is as it was; only if the very last flush
            failed may the new content be there.
    """
    path = FILE if storage.path is None else os.path.join(storage.path, FILE)
    if dry_run:
        edited(path, _stored(storage, path), key, value)
        return
    # Two changes at once would each keep what the other replaced.
    with storage.lock("settings", exclusive=True, wait_s=WAIT_S):
        text = edited(path, _stored(storage, path), key, value)
        storage.make_dir("tmp")
        write_whole(storage, FILE, text.encode())


def _stored(storage: Storage, path: str) -> str:
    try:
        file = storage.open_read(FILE)
    except FileNotFoundError:
        return ""
    try:
        return decoded(path, read_exact(file, 0, MAX_FILE_BYTES + 1))
    finally:
        file.close()


def edit_user(path: str, key: str, value: Value, *, dry_run: bool = False) -> None:
    """Change the settings file of a user. A link that people put in its place stays one.

    Raises:
        DamagedSettings: the file there is no TOML.
        StorageError: it cannot be written.
    """
    target = os.path.realpath(path)
    try:
        try:
            with open(target, "rb") as file:
                text = decoded(path, file.read(MAX_FILE_BYTES + 1))
        except FileNotFoundError:
            text = ""
        text = edited(path, text, key, value)
        if not dry_run:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            _replace(target, text.encode())
    except OSError as error:
        if isinstance(error, CasckptError):
            raise
        problem = os.strerror(error.errno or 0)
        raise StorageError(operation="write", path=path, problem=problem, errno=error.errno) from error


def _replace(path: str, data: bytes) -> None:
    fresh = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with open(fresh, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(fresh, os.stat(path).st_mode & 0o777)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
