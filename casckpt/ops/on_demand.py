"""What commits lost here, or what never came, fetched from remotes at the moment somebody reads it.

Only what is read comes: the tree, and the chunks of the leaves that are asked for. It stays in the store as objects
that no commit needs, until a collection frees it; the records of what was lost stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from casckpt.errors import CasckptError, NotOnRemote
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.odb.repository import Repository

if TYPE_CHECKING:
    from casckpt.remote.view import RemoteView
    from casckpt.storage.objects import Objects

NEAR_BYTES = 1 << 20
"""Who reads one tensor is not to wait for the metadata of a whole history."""


class Place(NamedTuple):
    """A remote that may be asked."""

    name: str
    connect: Callable[[], Objects]
    concurrency: int


@dataclass
class _Known:
    """A remote as it was when it was asked first."""

    place: Place
    view: RemoteView
    drops: dict[CommitId, Drop]


class OnDemand:
    """The remotes of a store, asked for objects. Thread-safe.

    Args:
        repository: gets what comes; it must be writable.
        places: the remotes in the order in which they are asked; called when the first question comes.
        make_room: called before more is asked for.
    """

    def __init__(
        self,
        repository: Repository,
        places: Callable[[], Iterable[Place]],
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository = repository
        self._places = places
        self._make_room = make_room
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._known: list[_Known] | None = None
        self._failed: CasckptError | None = None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One thread at a time; a child of fork begins anew, since no connection and no lock can be trusted there."""
        if self._pid != os.getpid():
            self._begin()
        with self._mutex:
            yield

    def lacking(self, identity: CommitId, commit: Commit, parts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """What of a commit no remote has either.

        Raises:
            RemoteUnavailable, RemoteDenied: one could not be asked, and the others have it not.
        """
        if self._repository.storage.read_only:
            return parts
        with self._turn():
            self._make_room()
            left = self._left(identity, commit, parts)
            if left == parts and self._has_moved_on():
                left = self._left(identity, commit, parts)
            if left == parts and self._failed is not None:
                raise self._failed
            return left

    def _left(self, identity: CommitId, commit: Commit, parts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        left = parts
        for known in self._asked():
            if known.view.find(commit.tree) is not None:
                there = known.drops.get(identity)
                lost = () if there is None else there.parts
                if lost is not None:
                    left = lost if left is None else tuple(part for part in left if part in lost)
        return left

    def _has_moved_on(self) -> bool:
        """Whether a remote has changed since it was looked at, which may be long ago."""
        moved = False
        for known in self._asked():
            before = known.view.root
            with contextlib.suppress(CasckptError):  # what was known of it still holds
                if known.view.refresh() is not before:
                    known.drops = _drops_of(known.view)
                    moved = True
        return moved

    def need(self, ids: Sequence[ObjectId], kind: Kind) -> None:
        """Make objects part of the store that are not, as far as a remote has them.

        Raises:
            RemoteUntrusted, RemoteUnavailable, RemoteDenied: one has them, and they could not be read.
        """
        with self._turn():
            database = self._repository.database
            database.refresh()
            for known in self._asked():
                ids = [identity for identity in ids if database.row(identity) is None]
                there = [identity for identity in ids if known.view.find(identity) is not None]
                if there:
                    self._bring(known, there, kind)

    def _bring(self, known: _Known, ids: Sequence[ObjectId], kind: Kind) -> None:
        """Take objects from a remote, those that a collection there has not removed meanwhile."""
        from casckpt.ops.incoming import Incoming
        from casckpt.remote.reading import RemoteReader

        repository = self._repository
        with repository.session() as session:
            reader = RemoteReader(known.view, concurrency=known.place.concurrency)
            incoming = Incoming(repository.database, session, known.view, reader, near_bytes=NEAR_BYTES)
            try:
                if kind == Kind.CHUNK:
                    incoming.bring(ids, kind)
                else:
                    incoming.metadata(ids, kind)
                    incoming.take_neighbours()
            except NotOnRemote:
                pass  # another remote may have it; who reads it says what is missing
            finally:
                session.keep(least=1)

    def _asked(self) -> Iterator[_Known]:
        """The remotes that answer."""
        if self._known is None:
            # Most stores open and close without a question.
            from casckpt.remote.folder import RemoteFolder
            from casckpt.remote.view import RemoteView

            self._known = []
            for place in self._places():
                try:
                    view = RemoteView(place.connect(), RemoteFolder(self._repository.storage, place.name))
                    view.refresh()
                except CasckptError as error:
                    self._failed = self._failed or error
                    continue
                self._known.append(_Known(place, view, _drops_of(view)))
        yield from self._known


def _drops_of(view: RemoteView) -> dict[CommitId, Drop]:
    return {} if view.root is None else {drop.commit: drop for drop in view.root.drops}
