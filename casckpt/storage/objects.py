"""The door to remotes: a bucket of immutable objects, each created once under a key of its own and never overwritten.

Every service, folder and file that can be a remote is an `Objects`. It promises what S3 and its like promise and
nothing more: an object is there as a whole or not at all, whoever created it reads it at once, and of several who
create one key at a time one wins. What it says is not believed: whoever reads checks ids and lengths.

Keys are relative, `/`-separated, of the forms that `format.remote.check_key` lets through (and `casckpt.json`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

Buffer = bytes | bytearray | memoryview


class Outcome(Enum):
    """What became of an upload."""

    CREATED = "created"
    EXISTS = "exists"
    """The key is taken, perhaps by an earlier try of the same upload: look."""
    UNKNOWN = "unknown"
    """The answer was lost: it may be there now, or later, or never."""


class Listed(NamedTuple):
    """An object as a listing shows it: its key, its length, and when the service says it was created."""

    key: str
    nbytes: int
    time_ns: int


class Objects(Protocol):
    """A place of objects below one prefix. Thread-safe.

    Errors: `FileNotFoundError` for a key that is not there; of `casckpt.errors`, `RemoteDenied` where the credentials
    do not allow it, `RemoteUnavailable` where the service could not be reached or failed (`.transient`).
    """

    url: str
    """Where it is, for messages: never with a secret."""
    read_only: bool

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        """The bytes of an object from `start` to `stop` (its end if None); fewer only where the object ends.

        Args:
            limit: most bytes that are taken in; more is `RemoteUntrusted`, before they are in memory.
        """

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        """Several (start, stop) ranges of an object at once, each whole or `RemoteUntrusted`."""

    def create(self, key: str, data: Buffer) -> Outcome:
        """Store an object if there is none with this key. Durable when it returns CREATED.

        An error is raised only where certainly nothing was stored nor will be.
        """

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """The objects whose keys start with `prefix` (whole folders: it ends with `/`), ascending, above `after`."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""

    def size(self, key: str) -> int | None:
        """The length of an object, None if there is none. One request."""
