"""Since when a lock of a remote was seen unchanged: the file `watched` in what a store remembers of that remote.

    {"boot": "7c1ae9...", "locks": {"gpt": {"token": "9f86d081...", "since": 5123.4}}}

A dead holder's lock is free for whoever has watched it for as long as it lives. Commands that ask once and end would
never have; so what one has seen counts for the next, as long as the clock is the same one: that of this start of this
machine. What cannot be read, or is of another machine that shares the folder, was not seen.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from casckpt.errors import CasckptError
from casckpt.format.remote import Lock, RemoteRoot
from casckpt.remote.folder import RemoteFolder

_FILE = "watched"
_MAX_BYTES = 1 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """What tells this start of this machine from all others; empty where no system says it."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


class LockWatch:
    """Watches one lock. One thread.

    Args:
        folder: what the store remembers of the remote; None to forget all when the process ends.
        clock: in seconds; of the machine, where there is a folder.
    """

    def __init__(self, folder: RemoteFolder | None, name: str, clock: Callable[[], float]) -> None:
        self._boot = boot()
        self._folder = folder if self._boot else None
        self._name = name
        self._clock = clock
        self._token: bytes | None = None
        self._since = 0.0

    def left_s(self, root: RemoteRoot | None) -> float:
        """How long the lock lives by a root that was just read, if nobody renews it; 0 if anybody may have it."""
        lock = None if root is None else root.locks.get(self._name)
        if root is None or lock is None:
            self._token = None
            return 0.0
        if lock.token != self._token:
            self._token, self._since = lock.token, self._seen(root, lock)
        return max(0.0, lock.ttl_s - (self._clock() - self._since))

    def _seen(self, root: RemoteRoot, lock: Lock) -> float:
        """Since when a lock has its token, as far as this machine knows; from now on it knows."""
        now, known = self._clock(), self._read()
        token, since = known.get(self._name, ("", now))
        if token == lock.token.hex() and since <= now:
            return since
        others = {name: one for name, one in known.items() if name in root.locks}
        self._write({**others, self._name: (lock.token.hex(), now)})
        return now

    def _read(self) -> dict[str, tuple[str, float]]:
        try:
            data = None if self._folder is None else self._folder.read(_FILE, _MAX_BYTES)
            found = {} if data is None else json.loads(data)
            if found.get("boot") != self._boot:
                return {}
            return {name: _watched(value) for name, value in found["locks"].items()}
        except (CasckptError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            return {}

    def _write(self, known: dict[str, tuple[str, float]]) -> None:
        locks = {name: {"token": token, "since": since} for name, (token, since) in known.items()}
        if self._folder is not None:
            with contextlib.suppress(CasckptError):  # who cannot remember it watches anew
                self._folder.write(_FILE, json.dumps({"boot": self._boot, "locks": locks}).encode())


def _watched(value: Any) -> tuple[str, float]:
    token, since = value["token"], float(value["since"])
    if type(token) is not str:
        raise ValueError
    return token, since
