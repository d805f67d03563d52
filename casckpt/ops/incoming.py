"""What comes from a remote into a store: looked for here first, read there once, and stored as it is verified.

Metadata is small and asked for in steps: a tree says which components, these which structures and pages. A push writes
what belongs together side by side, so whoever asks for one object of metadata gets its neighbours in the same request.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import closing

from casckpt.errors import RemoteUntrusted
from casckpt.format.ids import CommitId, Kind, ObjectId, short_id
from casckpt.format.remote_index import ROW_BYTES, SegmentPack
from casckpt.odb.database import Database
from casckpt.odb.session import Session
from casckpt.ops.values import Progress
from casckpt.remote.locating import find_all
from casckpt.remote.reading import Fetched, RemoteReader
from casckpt.remote.view import RemoteView

NEAR_BYTES = 9 << 20
"""Stored bytes of the metadata of one pack up to which all of it is read at once: a push ends them at 8 MiB."""
KEPT_BYTES = 24 << 20
"""Stored bytes of metadata that came along and may be asked for soon."""
KEEP_FROM = 256 << 20
"""Stored bytes after which what has come is made part of the store, so that no interruption costs more."""
KEEP_OBJECTS = 1 << 17
_KIND_AT = 48
_NO_CHUNK = re.compile(rb"[^\0]", re.DOTALL)


class Incoming:
    """Objects of one remote on their way into one session. One thread.

    Args:
        store: whether objects go into the session; else they are only looked at.
        near_bytes: of the metadata of one pack up to which all of it is read at once.
    """

    def __init__(
        self,
        database: Database,
        session: Session,
        view: RemoteView,
        reader: RemoteReader,
        progress: Progress | None = None,
        *,
        store: bool = True,
        near_bytes: int = NEAR_BYTES,
    ) -> None:
        self._database = database
        self._session = session
        self._view = view
        self._reader = reader
        self._progress = progress
        self._store = store
        self._near_bytes = near_bytes
        self._near: dict[SegmentPack, tuple[list[ObjectId], int]] | None = None
        self._kept: OrderedDict[ObjectId, Fetched] = OrderedDict()
        self._kept_bytes = 0
        self._held = 0
        """Objects since the last time that what came was made part of the store."""
        self._held_bytes = 0
        self._done = self._total = 0
        self.objects = 0
        """Objects that came, or would."""
        self.nbytes = 0
        """Their stored bytes."""

    def metadata(self, ids: Iterable[ObjectId], kind: Kind) -> dict[ObjectId, bytes]:
        """Plain bytes of metadata objects, from here or from the remote; those from there are stored.

        Raises:
            NotOnRemote, RemoteUntrusted, FormatError, RemoteUnavailable, RemoteDenied: as `RemoteReader.read`.
            DamagedObject: one that is here is damaged.
        """
        found: dict[ObjectId, bytes] = {}
        missing: list[ObjectId] = []
        for identity in dict.fromkeys(ids):
            kept = self._let_go(identity)
            if kept is not None:
                found[identity] = self._plain(kept, kind)
            elif self._database.row(identity) is not None:
                found[identity] = bytes(self._database.read(identity, kind))
            else:
                missing.append(identity)
        wanted = set(missing)
        with closing(self._reader.read(self._with_neighbours(missing))) as coming:
            for one in coming:
                if one.record.id in wanted:
                    found[one.record.id] = self._plain(one, kind)
                else:
                    self._keep(one)
        return found

    def bring(self, ids: Iterable[ObjectId], kind: Kind) -> None:
        """Store objects that are not here, without looking into them; errors as of `metadata`."""
        missing = [identity for identity in dict.fromkeys(ids) if not self._session.knows(identity, kind)]
        if not self._store:
            cost = self._reader.cost(missing)
            self._count(cost.objects, cost.nbytes)
            return
        with closing(self._reader.read(missing, self._planned)) as coming:
            for one in coming:
                self._check_kind(one, kind)
                self._take(one)
                self._done += one.record.length
                del one  # the piece that it lies in is in memory as long as any of its objects
                if self._progress is not None:
                    self._progress(self._done, self._total)

    def take_neighbours(self) -> None:
        """Store what came along with metadata that was asked for, for who asks for it later."""
        while self._kept:
            one = self._let_go(next(iter(self._kept)))
            if one is not None and one.record.kind != Kind.COMMIT:
                self._take(one)

    def look_again(self) -> None:
        """Take note that the remote has another root, by which other packs hold what was planned for."""
        self._near = None

    def length(self, identity: ObjectId) -> int:
        """Plain bytes of an object, 0 if it is nowhere."""
        row = self._database.row(identity)
        if row is not None:
            return row.length
        found = self._view.find(identity)
        return 0 if found is None else found.row.length

    def commits(self) -> Iterator[CommitId]:
        """The ids of all commits that the segments list, in no promised order."""
        listed = (identity for segment in self._view.segments() for identity in segment.ids(Kind.COMMIT))
        # Not those that lie only where they are about to be removed.
        return (CommitId(identity) for identity in find_all(self._view, listed))

    def _planned(self, nbytes: int) -> None:
        self._total += nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _plain(self, one: Fetched, kind: Kind) -> bytes:
        self._check_kind(one, kind)
        if kind != Kind.COMMIT:  # which makes known what it names, and comes last
            self._take(one)
        return one.plain()

    def _check_kind(self, one: Fetched, kind: Kind) -> None:
        if one.record.kind != kind:
            problem = f"object {short_id(one.record.id)} is not a {kind.name.lower()}"
            raise RemoteUntrusted(remote=self._view.objects.url, problem=problem)

    def _take(self, one: Fetched) -> None:
        self._count(1, one.record.stored)
        if not self._store:
            return
        self._session.take(one.record, one.stored)
        self._session.end_leaf()
        self._held += 1
        self._held_bytes += one.record.stored
        if self._held_bytes >= KEEP_FROM or self._held >= KEEP_OBJECTS:
            self._session.keep()
            self._held = self._held_bytes = 0

    def _count(self, objects: int, nbytes: int) -> None:
        self.objects += objects
        self.nbytes += nbytes

    def _with_neighbours(self, ids: list[ObjectId]) -> list[ObjectId]:
        """These objects, and what else of metadata lies in the same packs and is not here."""
        if not ids:
            return ids
        near = self._neighbours()
        packs = dict.fromkeys(found.pack for found in find_all(self._view, ids).values())
        others: list[ObjectId] = []
        nbytes = 0
        for pack in packs:
            beside, stored = near.get(pack, ((), 0))
            nbytes += stored
            if nbytes > KEPT_BYTES:  # else what is read now is read again when it is asked for
                break
            others += (one for one in beside if one not in self._kept and self._database.row(one) is None)
        return [*ids, *others]

    def _neighbours(self) -> dict[SegmentPack, tuple[list[ObjectId], int]]:
        """The metadata of every pack that has not too much of it, and its stored bytes."""
        if self._near is None:
            found: dict[SegmentPack, list[ObjectId]] = {}
            nbytes: dict[SegmentPack, int] = {}
            for segment in self._view.segments():
                for match in _NO_CHUNK.finditer(segment.table[_KIND_AT::ROW_BYTES]):
                    row = segment.row(match.start())
                    pack = segment.packs[row.pack]
                    found.setdefault(pack, []).append(row.id)
                    nbytes[pack] = nbytes.get(pack, 0) + row.stored
            self._near = {pack: (ids, nbytes[pack]) for pack, ids in found.items() if nbytes[pack] <= self._near_bytes}
        return self._near

    def _keep(self, one: Fetched) -> None:
        self._kept[one.record.id] = one
        self._kept_bytes += one.record.stored
        while self._kept_bytes > KEPT_BYTES:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, identity: ObjectId) -> Fetched | None:
        kept = self._kept.pop(identity, None)
        if kept is not None:
            self._kept_bytes -= kept.record.stored
        return kept
