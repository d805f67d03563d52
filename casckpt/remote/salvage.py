"""As much as can be had of a remote that is not whole: what cannot be read costs no more than itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from casckpt.errors import CasckptError, FormatError, IntegrityError, NotOnRemote, RolledBack
from casckpt.format.ids import ObjectId
from casckpt.remote.reading import Fetched, RemoteReader

UNREADABLE = (IntegrityError, FormatError, NotOnRemote)
"""What says that an object is damaged or missing there; that the remote cannot be reached is another matter."""


def readable(
    reader: RemoteReader, ids: Iterable[ObjectId], failed: Callable[[ObjectId, CasckptError], None]
) -> Iterator[Fetched]:
    """The objects with these ids that can be read, each once and verified.

    Args:
        ids: all are kept in memory, so give some at a time.
        failed: called with each of the others and what is wrong with it.

    Raises:
        RemoteUnavailable, RemoteDenied: the remote could not be read.
        RolledBack: it was set back meanwhile, which is no matter of single objects.

    Cost: as `RemoteReader.read`; where something is wrong, what was asked for with it is asked for again by halves,
    so the bytes at most twice for each such place.
    """
    waiting = [list(dict.fromkeys(ids))]
    while waiting:
        part = waiting.pop()
        left = dict.fromkeys(part)
        try:
            for found in reader.read(part):
                del left[found.record.id]
                yield found
        except RolledBack:
            raise
        except UNREADABLE as error:
            rest = list(left)
            if len(rest) == 1:
                failed(rest[0], error)
            else:
                middle = len(rest) // 2
                waiting += [rest[middle:], rest[:middle]]
