"""What commits on a remote hold: read as a restore would, to the last byte, and kept no longer than it is looked at.

commit -> tree, metadata -> components -> structures, pages -> chunks

Each level is asked for at once, so a commit takes a few requests and its bytes, however many objects it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from casckpt.errors import IntegrityError
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId, short_id
from casckpt.format.layout import Large
from casckpt.format.objects import Component, Tree
from casckpt.ops.load import LoadedComponent, Span, TreeReader
from casckpt.remote.reading import RemoteReader
from casckpt.remote.view import RemoteView

HELD_BYTES = 32 << 20
"""Plain bytes of trees, components, structures and pages that are kept of one commit; others are read one by one."""
SEEN_MAX = 200_000
"""Chunks that are remembered, so that commits which share them do not cost their bytes again; 30 MB."""


def commit_ids(view: RemoteView) -> list[CommitId]:
    """The ids of all commit objects that the live segments of a remote list, ascending."""
    found = {identity for segment in view.segments() for identity in segment.ids(Kind.COMMIT)}
    if view.root is not None and view.root.condemned:  # a pack that is about to be removed counts as gone
        found = {identity for identity in found if view.find(identity) is not None}
    return [CommitId(identity) for identity in sorted(found)]


class Checked(NamedTuple):
    """What was read of a commit."""

    objects: int
    nbytes: int
    """Plain bytes."""


class RemoteContents:
    """Checks commits of one remote. One thread.

    Args:
        advance: called with the plain bytes of chunks that were read since the last call.
    """

    def __init__(self, view: RemoteView, reader: RemoteReader, advance: Callable[[int], None]) -> None:
        self._view = view
        self._reader = reader
        self._advance = advance
        self._held: dict[ObjectId, bytes] = {}
        self._seen: dict[ObjectId, int] = {}
        self._objects = self._nbytes = 0

    def check(self, identity: CommitId, commit: Commit, lost: Collection[str] = ()) -> Checked:
        """Read a commit as a restore would.

        Args:
            lost: names of components that it was thinned by; they are passed over.

        Raises:
            IntegrityError: bytes, lengths or structure are wrong.
            NotOnRemote: something is missing.
            FormatError: this release could not restore it.
            RemoteUnavailable, RemoteDenied: the remote could not be read.
        """
        self._objects = self._nbytes = 0
        try:
            metas = [one for one in (commit.config, commit.environment, commit.code, commit.data) if one is not None]
            self._hold([commit.tree, *metas])
            for meta in metas:
                self._read(meta, Kind.META)
            loader = TreeReader(self._read, identity, commit)
            tree = loader.tree()
            self._check_chunks(
                chain.from_iterable(self._spans(loader, one) for one in self._loaded(loader, tree, lost))
            )
        finally:
            self._held.clear()
        return Checked(self._objects, self._nbytes)

    def _loaded(self, loader: TreeReader, tree: Tree, lost: Collection[str]) -> Iterator[LoadedComponent]:
        """The components of a tree, one at a time, with their pages at hand."""
        chosen = [(name, identity) for name, identity in tree.components if name not in lost]
        self._hold(identity for _, identity in chosen)
        held = (self._held.get(identity) for _, identity in chosen)
        self._hold([Component.decode(data).structure for data in held if data is not None])
        for name, identity in chosen:
            loaded = loader.component(name, identity)
            for _ in loaded.leaves():  # what the structure says of its values and blobs must make sense
                pass
            self._hold(_pages(loaded))
            yield loaded

    def _spans(self, loader: TreeReader, loaded: LoadedComponent) -> Iterator[Span]:
        for blob in range(len(loaded.structure.sizes)):
            yield from loader.spans(loaded, blob)

    def _check_chunks(self, spans: Iterable[Span]) -> None:
        waiting: dict[ObjectId, int] = {}
        for found in self._reader.read(self._unseen(spans, waiting)):
            record = found.record
            if record.length != waiting.pop(record.id):
                raise _error(record.id)
            if len(self._seen) < SEEN_MAX:
                self._seen[record.id] = record.length
            self._count(record.length)
            self._advance(record.length)

    def _unseen(self, spans: Iterable[Span], waiting: dict[ObjectId, int]) -> Iterator[ObjectId]:
        """The chunks that must be read; `waiting` gains their lengths."""
        for span in spans:
            known = self._seen.get(span.chunk)
            if known is None:
                known = waiting.get(span.chunk)
                if known is None:
                    waiting[span.chunk] = known = span.chunk_length
                    yield span.chunk
            if known != span.chunk_length:
                raise _error(span.chunk)

    def _hold(self, ids: Iterable[ObjectId]) -> None:
        """Read objects at once that are about to be asked for, as far as there is room for them."""
        room = HELD_BYTES - sum(map(len, self._held.values()))
        wanted = []
        for identity in ids:
            found = None if identity in self._held else self._view.find(identity)
            if found is not None and found.row.length <= room:
                wanted.append(identity)
                room -= found.row.length
        for one in self._reader.read(wanted):
            self._held[one.record.id] = one.plain()
            self._count(one.record.length)

    def _read(self, identity: ObjectId, kind: Kind) -> bytes:
        data = self._held.get(identity)
        if data is None:
            data = self._reader.plain(identity, kind)
            self._count(len(data))
        return data

    def _count(self, nbytes: int) -> None:
        self._objects += 1
        self._nbytes += nbytes


def _pages(loaded: LoadedComponent) -> Iterator[ObjectId]:
    for place in loaded.places:
        if isinstance(place, Large) and place.paged:
            yield from map(loaded.entry, range(place.entry, place.entry + place.entries))


def _error(chunk: ObjectId) -> IntegrityError:
    return IntegrityError(object=f"chunk {short_id(chunk)}", problem="it has another length than its blob needs")
