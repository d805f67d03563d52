"""A remote behind plain HTTP: read only, and without listings.

Whoever keeps the remote publishes one small file beside it, `casckpt-published.json`, that names the roots. It is the
only file of a remote that is replaced, it is not needed for anything else, and an old one only hides newer roots:

    {"casckpt": "published", "version": 1, "roots": [["root/00000000000000000007", 812, 1700000000000000000], ...]}

Each entry is a key, its length in bytes and its time in nanoseconds, ascending by key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from casckpt.errors import RemoteDenied, RemoteNotFound, RemoteUnavailable, RemoteUntrusted
from casckpt.storage.around import Around
from casckpt.storage.objects import Listed, Objects, Outcome

KEY = "casckpt-published.json"
_MAX_BYTES = 1 << 20
_ROOTS = "root/"
_MOST = 1000


class Published(Around):
    """Objects read over HTTP, with the published list in place of a listing; the backend refuses to write."""

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        if prefix != _ROOTS:
            raise RemoteDenied(remote=self.url, operation=f"list {prefix}", problem="plain HTTP has no listings")
        try:
            data = self.objects.get(KEY, limit=_MAX_BYTES)
        except FileNotFoundError:
            problem = f"there is no {KEY}: who keeps it has not published it"
            raise RemoteNotFound(remote=self.url, problem=problem) from None
        yield from (one for one in _roots(data, self.url) if one.key > after)


def _roots(data: bytes, url: str) -> list[Listed]:
    try:
        said: Any = json.loads(data)
        found = [Listed(*one) for one in said["roots"]] if said["version"] == 1 else None
        if found is None or any(not _is_root(one) for one in found) or found != sorted({*found}):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RemoteUntrusted(remote=url, problem=f"{KEY} is not a list of roots") from None
    return found


def _is_root(one: Listed) -> bool:
    return (
        type(one.key) is str
        and one.key.startswith(_ROOTS)
        and type(one.nbytes) is int
        and type(one.time_ns) is int
        and min(one.nbytes, one.time_ns) >= 0
    )


def publish(objects: Objects, *, dry_run: bool = False) -> int:
    """Write anew which roots there are, for readers over HTTP; their number.

    For a moment there is no list: objects are created, never replaced. A reader who looks then is told to try again.

    Raises:
        RemoteDenied: deleting is not allowed here.
    """
    roots = list(objects.list(_ROOTS))[-_MOST:]
    if dry_run:
        return len(roots)
    data = json.dumps({"casckpt": "published", "version": 1, "roots": roots}).encode()
    objects.delete([KEY])
    if objects.create(KEY, data) is Outcome.UNKNOWN:
        raise RemoteUnavailable(remote=objects.url, operation=f"store {KEY}", problem="no answer came")
    return len(roots)
