"""One value of a settings file is changed, or its policy: comments, order and everything else stay as they are.

The new text is written aside, flushed and renamed, so the file is the old one or the new one, whole, at any moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from casckpt.errors import CasckptError, DamagedSettings, StorageError
from casckpt.odb.temporary import write_whole
from casckpt.ops.settings import FILE, decoded
from casckpt.plan.policy import ALIASES, Retention
from casckpt.plan.policy_table import items
from casckpt.plan.remote_settings import REMOTE
from casckpt.plan.settings import MAX_FILE_BYTES, RETENTION, Value, parts_of
from casckpt.storage.base import Storage, read_exact

WAIT_S = 10.0


def edited(path: str, text: str, key: str, value: Value) -> str:
    """A settings file with one key changed, or without it if the value is None.

    Raises:
        DamagedSettings: the text is no TOML.
    """
    parts = parts_of(key)
    return _changed(path, text, lambda document: _set(document, parts, value))


def with_policy(path: str, text: str, policy: Retention | None) -> str:
    """A settings file with another retention policy, or without one.

    Raises:
        DamagedSettings: the text is no TOML.
    """

    def change(document: Any) -> None:
        document.pop(RETENTION, None)
        for key, value in items({} if policy is None else policy.to_dict()):
            _set(document, (RETENTION, *key), value)

    return _changed(path, text, change)


def with_remote(path: str, text: str, name: str, values: Mapping[str, Value] | None) -> str:
    """A settings file with another table for a remote, or without one. What others say of it goes.

    Raises:
        DamagedSettings: the text is no TOML.
    """

    def change(document: Any) -> None:
        if REMOTE in document:
            document[REMOTE].pop(name, None)
            if not document[REMOTE]:
                del document[REMOTE]
        for key, value in (values or {}).items():
            _set(document, (REMOTE, name, *key.split(".")), value)

    return _changed(path, text, change)


def _changed(path: str, text: str, change: Callable[[Any], None]) -> str:
    try:
        document = tomlkit.parse(text)
        change(document)
        changed = tomlkit.dumps(document)
    except (TOMLKitError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise DamagedSettings(file=path, problem=str(error) or type(error).__name__) from error
    decoded(path, changed.encode())  # a file that nobody reads any more would be as good as none
    return changed


def _set(document: Any, parts: tuple[str, ...], value: Value) -> None:
    """Set one key of a document, or take it away, and with it tables that say nothing any more."""
    *sections, name = parts
    tables = [document]
    for section in sections:
        if section not in tables[-1]:
            if value is None:
                return
            # A table of tables alone needs no line of its own.
            tables[-1][section] = tomlkit.table(is_super_table=section != sections[-1])
        tables.append(tables[-1][section])
        if not isinstance(tables[-1], dict):
            raise TypeError(f"{section} is no table")
    # Another name for the same key would say it a second time.
    for other in [known for known in tables[-1] if ALIASES.get(known) == name and sections[:1] == [RETENTION]]:
        del tables[-1][other]
    if value is not None:
        tables[-1][name] = _item(value)
    elif name in tables[-1]:
        del tables[-1][name]
    for table, section in zip(reversed(tables[:-1]), reversed(sections), strict=True):
        if not table[section]:
            del table[section]


def _item(value: Any) -> Any:
    """A value in one line."""
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def edit_store(storage: Storage, key: str, value: Value, *, dry_run: bool = False) -> None:
    """Change one key in the settings file of a store; `dry_run` only says whether that is possible.

    Raises:
        DamagedSettings: the file there is no TOML.
        ReadOnlyStore, BusyError, StorageError: it cannot be written, and is as it was; only if the very last flush
            failed may the new content be there.
    """
    _edit_store(storage, lambda path, text: edited(path, text, key, value), dry_run)


def edit_policy(storage: Storage, policy: Retention | None, *, dry_run: bool = False) -> bool:
    """Change the retention policy in the settings file of a store, or take it away; whether the file changes.

    Raises:
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: as `edit_store`.
    """
    return _edit_store(storage, lambda path, text: with_policy(path, text, policy), dry_run)


def edit_remote(storage: Storage, name: str, values: Mapping[str, Value] | None, *, dry_run: bool = False) -> bool:
    """Change the table of a remote in the settings file of a store, or take it away; whether the file changes.

    Raises:
        DamagedSettings, ReadOnlyStore, BusyError, StorageError: as `edit_store`.
    """
    return _edit_store(storage, lambda path, text: with_remote(path, text, name, values), dry_run)


def _edit_store(storage: Storage, change: Callable[[str, str], str], dry_run: bool) -> bool:
    """Change the settings file of a store; whether it changes."""
    path = FILE if storage.path is None else os.path.join(storage.path, FILE)
    if dry_run:
        before = _stored(storage, path)
        return change(path, before) != before
    # Two changes at once would each keep what the other replaced.
    with storage.lock("settings", exclusive=True, wait_s=WAIT_S):
        before = _stored(storage, path)
        text = change(path, before)
        if text == before:
            return False
        storage.make_dir("tmp")
        write_whole(storage, FILE, text.encode())
    return True


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
