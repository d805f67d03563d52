"""What a store notes of the locks of a remote that it took: the file `locks` in its folder of that remote.

    {"gpt": {"ttl_s": 600, "tokens": ["9f86d081...", ...]}}

A token is noted before anybody else can see it. So a process that is killed, or that never hears the answer, leaves a
lock that its store still knows as its own. All tokens of a lock are good, not only the newest: they are random and
belong to nobody else, and a process that renews the lock must not take it from another one of the same store.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from casckpt.remote.folder import RemoteFolder
from casckpt.storage.memory import MemoryStorage

TTL_MAX_S = 30 * 86400
_FILE = "locks"
_MAX_BYTES = 1 << 20
_MOST_TOKENS = 16
_MAX_TOKEN_BYTES = 64


class Noted(NamedTuple):
    """For how long a lock was taken, and the tokens it has or may have, newest first."""

    ttl_s: int
    tokens: tuple[bytes, ...]


class LockNotes:
    """Notes of locks. Thread-safe, and safe to use from several processes.

    Args:
        folder: what the store remembers of the remote; None for notes that end with the process.
    """

    def __init__(self, folder: RemoteFolder | None = None) -> None:
        self._folder = folder or RemoteFolder(MemoryStorage(), "memory")

    def find(self, name: str) -> Noted | None:
        """What is noted of a lock; None if nothing is, or the file cannot be read."""
        return self._read().get(name)

    def add(self, name: str, ttl_s: int, token: bytes) -> None:
        """Note a token that a lock is about to get; durable when this returns."""
        with self._folder.locked():
            noted = self._read()
            before = noted[name].tokens if name in noted else ()
            self._write({**noted, name: Noted(ttl_s, (token, *before)[:_MOST_TOKENS])})

    def remove(self, name: str) -> None:
        """Know nothing of a lock any more."""
        with self._folder.locked():
            noted = self._read()
            if noted.pop(name, None) is not None:
                self._write(noted)

    def _read(self) -> dict[str, Noted]:
        data = self._folder.read(_FILE, _MAX_BYTES)
        try:
            return {} if data is None else {name: _noted(value) for name, value in json.loads(data).items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def _write(self, noted: dict[str, Noted]) -> None:
        plain = {
            name: {"ttl_s": one.ttl_s, "tokens": [token.hex() for token in one.tokens]} for name, one in noted.items()
        }
        self._folder.write(_FILE, json.dumps(plain).encode(), durable=True)


def _noted(value: Any) -> Noted:
    ttl_s, tokens = value["ttl_s"], tuple(map(bytes.fromhex, value["tokens"]))
    is_good = all(0 < len(token) <= _MAX_TOKEN_BYTES for token in tokens) and 0 < len(tokens) <= _MOST_TOKENS
    if type(ttl_s) is not int or not 0 < ttl_s <= TTL_MAX_S or not is_good:
        raise ValueError
    return Noted(ttl_s, tokens)
