"""From a tree back to bytes: components with their places, and verified reads of single blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from casckpt.errors import DamagedLeaf, DamagedObject, FormatError, IntegrityError
from casckpt.format import chunking
from casckpt.format.commit import Commit
from casckpt.format.ids import ChunkId, CommitId, Kind, ObjectId, short_id
from casckpt.format.layout import Grouped, Large, Place, Tiny, places
from casckpt.format.objects import Component, Structure, Tree
from casckpt.odb.database import Database
from casckpt.odb.elsewhere import Elsewhere
from casckpt.odb.fetch import THREADED_FROM, ChunkLost, Want, fetch
from casckpt.ops.slabs import PAGE
from casckpt.state.walk import LeafInfo, walk
from casckpt.storage.pages import pages

MAPPED_FROM = 1 << 20
NEEDED_AT_ONCE = 1 << 14
"""Chunks that are asked for elsewhere at a time."""
_Data = bytes | bytearray | memoryview


class Span(NamedTuple):
    """A run of a blob's bytes and the chunk that holds it: bytes [offset, offset + length) of the blob."""

    chunk: ChunkId
    chunk_length: int
    start: int
    """Where the run begins in the chunk."""
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class LoadedComponent:
    """A component with everything but its chunks. Its column, tiny bytes and places agree (checked when loaded)."""

    name: str
    identity: ObjectId
    structure: Structure
    component: Component
    places: list[Place]

    def leaves(self) -> Iterator[LeafInfo]:
        """Its leaves in walk order."""
        return walk(self.name, self.structure.node, self.component.values)

    def paths_of(self, blobs: set[int]) -> list[str]:
        """Paths of the leaves whose bytes lie in any of these blobs."""
        return [leaf.path for leaf in self.leaves() if leaf.blob in blobs]

    def entry(self, number: int) -> ObjectId:
        """An id of the column."""
        return ObjectId(self.component.digests[number * 32 : number * 32 + 32])


class Target(NamedTuple):
    """A blob, and writable memory that gets it: as long as the blob, or with slack up to the next 4 KiB."""

    loaded: LoadedComponent
    blob: int
    memory: memoryview

    @property
    def nbytes(self) -> int:
        """Plain bytes of the blob."""
        return self.loaded.structure.sizes[self.blob]


class GroupTarget(NamedTuple):
    """A whole group of small blobs, and writable memory of exactly its length."""

    loaded: LoadedComponent
    entry: int
    memory: memoryview

    @property
    def nbytes(self) -> int:
        """Plain bytes of the group."""
        return len(self.memory)


class TreeReader:
    """Reads the tree of one commit down to the ids of its chunks. Damage names the commit and the leaves that it hits.

    Args:
        read: gives the plain bytes of an object of a kind, compared with its id.
        structures: those decoded so far, which several commits share; gains what is read.
    """

    def __init__(
        self,
        read: Callable[[ObjectId, Kind], bytes | bytearray | memoryview],
        commit_id: CommitId,
        commit: Commit,
        structures: dict[ObjectId, Structure] | None = None,
    ) -> None:
        self._read_object = read
        self._structures = structures
        self.commit = short_id(commit_id)
        self._tree_id = commit.tree

    def tree(self) -> Tree:
        """The tree object."""
        return Tree.decode(self._object(self._tree_id, Kind.TREE, "the whole state"))

    def components(self, tree: Tree) -> list[LoadedComponent]:
        """All components, the root first."""
        return [self.component(name, identity) for name, identity in tree.components]

    def component(self, name: str, identity: ObjectId) -> LoadedComponent:
        """One component, checked against its structure.

        Raises:
            FormatError: it holds a sharded tensor, which this release cannot put together.
        """
        where = name or "the root of the state"
        component = Component.decode(self._object(identity, Kind.COMPONENT, where))
        structure = None if self._structures is None else self._structures.get(component.structure)
        if structure is None:
            structure = Structure.decode(self._object(component.structure, Kind.STRUCTURE, where))
            if self._structures is not None:
                self._structures[component.structure] = structure
        if any("boxes" in layout for layout in structure.layouts.values()):
            raise FormatError(object=f"{where} of commit {self.commit}", problem="it holds tensors saved in shards")
        return LoadedComponent(name, identity, structure, component, places(structure, component))

    def _object(self, identity: ObjectId, kind: Kind, where: str) -> bytes:
        try:
            return bytes(self._read_object(identity, kind))
        except DamagedObject as error:
            raise self._damage(where, error) from error

    def _damage(self, path: str, error: IntegrityError) -> DamagedLeaf:
        return DamagedLeaf(object=path, path=path, commit=self.commit, problem=f"{error.summary}: {error.reason}")

    def spans(self, loaded: LoadedComponent, blob: int) -> Iterator[Span]:
        """The chunks of a blob in order; nothing for a tiny one. Reads its pages if it has any."""
        place, size = loaded.places[blob], loaded.structure.sizes[blob]
        if isinstance(place, Grouped):
            yield Span(ChunkId(loaded.entry(place.entry)), place.length, place.offset, 0, size)
        elif isinstance(place, Large):
            offset = 0
            for identity, length in self._chunks(loaded, blob, place):
                yield Span(ChunkId(identity), length, 0, offset, length)
                offset += length
            if offset != size:
                raise IntegrityError(object=f"blob {blob} of {loaded.name!r}", problem="its chunks do not add up")

    def _chunks(self, loaded: LoadedComponent, blob: int, place: Large) -> Iterator[tuple[ObjectId, int]]:
        size = loaded.structure.sizes[blob]
        number = 0
        for position in range(place.entries):
            identity = loaded.entry(place.entry + position)
            lengths: list[int] | None = None
            if place.explicit is not None:
                at = (place.explicit + position) * 8
                lengths = [int.from_bytes(loaded.component.spans[at : at + 8], "little")]
            ids = [identity]
            if place.paged:
                where = ", ".join(loaded.paths_of({blob})) or loaded.name
                page = self._object(identity, Kind.PAGE, where)
                ids, lengths = page_of(page, place.explicit is not None)
            for index, chunk in enumerate(ids):
                length = chunking.chunk_length(size, number) if lengths is None else lengths[index]
                if not 0 < length <= chunking.CHUNK:
                    raise IntegrityError(object=f"blob {blob} of {loaded.name!r}", problem="a chunk length is wrong")
                yield chunk, length
                number += 1


class Loader(TreeReader):
    """Reads the state of one commit of a store. Damage names the commit and the leaves that it hits.

    Args:
        structures: as of `TreeReader`.
        elsewhere: is asked for objects before they are read; None if all of them are to be here.
    """

    def __init__(
        self,
        database: Database,
        commit_id: CommitId,
        commit: Commit,
        structures: dict[ObjectId, Structure] | None = None,
        *,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        super().__init__(database.read if elsewhere is None else self._read, commit_id, commit, structures)
        self._database = database
        self._elsewhere = elsewhere
        self._group: tuple[ObjectId, bytes] | None = None

    def fetch(
        self,
        targets: Sequence[Target | GroupTarget],
        threads: int,
        progress: Callable[[int], None] | None = None,
        *,
        begin: Callable[[Target], None] | None = None,
        keep: bool = True,
    ) -> None:
        """Read blobs and groups into memory, every chunk compared with its id.

        Args:
            targets: those of one component lie together, in the order of their numbers.
            threads: most workers.
            progress: called with the plain bytes that were done since the last call.
            begin: called with every target before its memory is written to for the first time.
            keep: False only verifies; the memory stays as it is.

        Raises:
            DamagedLeaf: names the leaves hit; the memory is then undefined.
        """
        if self._elsewhere is not None:
            self._need(chunk for target in targets for chunk in self._chunks_of(target))
        groups: dict[tuple[int, int], Want] = {}
        large: list[Target] = []
        for target in targets:
            if isinstance(target, GroupTarget):
                chunk = ChunkId(target.loaded.entry(target.entry))
                groups[id(target.loaded), target.entry] = Want(chunk, len(target.memory), target.memory, 0, target)
                continue
            place = target.loaded.places[target.blob]
            size = target.loaded.structure.sizes[target.blob]
            if begin is not None and not isinstance(place, Large):
                begin(target)
            if isinstance(place, Tiny) and keep:
                target.memory[:size] = target.loaded.component.tiny[place.offset : place.offset + size]
            elif isinstance(place, Large):
                large.append(target)
            elif isinstance(place, Grouped):
                key = id(target.loaded), place.entry
                if key not in groups:
                    chunk = ChunkId(target.loaded.entry(place.entry))
                    groups[key] = Want(chunk, place.length, None, 0, target, parts=[])
                if keep:
                    groups[key].parts.append((place.offset, target.memory[:size]))

        # Small blobs stay with this thread: spread over several they would only wait for each other.
        self.read(list(groups.values()), 1, progress)
        nbytes = sum(target.loaded.structure.sizes[target.blob] for target in large)
        wants = (want for target in large for want in self.wants(target, begin if keep else None))
        if not keep:
            wants = (want._replace(memory=None) for want in wants)
        self.read(wants, threads if nbytes >= THREADED_FROM else 1, progress)

    def read(self, wants: Iterable[Want], threads: int, progress: Callable[[int], None] | None = None) -> None:
        """Read chunks that `wants` or `fetch` made, with the same errors and progress as `fetch`."""

        def done(task: Sequence[Want]) -> None:
            if progress is not None:
                progress(sum(want.length for want in task))

        if self._elsewhere is not None:
            wants = list(wants)
            self._need([want.chunk for want in wants])
        try:
            fetch(self._database, wants, threads, done)
        except ChunkLost as lost:
            owner = lost.owner
            assert isinstance(owner, Target | GroupTarget)
            blobs = {owner.blob} if isinstance(owner, Target) else set(owner.loaded.structure.groups[owner.entry])
            paths = owner.loaded.paths_of(blobs)
            raise self._damage(", ".join(paths[:3]) or owner.loaded.name, lost.error) from lost.error

    def wants(self, target: Target, begin: Callable[[Target], None] | None = None) -> Iterator[Want]:
        """The chunks of a large blob and where in the target's memory they go."""
        if begin is not None:
            begin(target)
        size = target.loaded.structure.sizes[target.blob]
        slack = len(target.memory) >= size + -size % PAGE
        for span in self.spans(target.loaded, target.blob):
            end = span.offset + span.length
            yield Want(span.chunk, span.length, target.memory, span.offset, target, slack and end == size)

    def pieces(self, loaded: LoadedComponent, blob: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop` of a blob, in pieces of at most 1 MiB; every chunk is compared with its id before.

        Raises:
            DamagedLeaf: names the leaves of the blob.
        """
        place, stop = loaded.places[blob], loaded.structure.sizes[blob] if stop is None else stop
        if isinstance(place, Tiny):
            yield loaded.component.tiny[place.offset + start : place.offset + stop]
            return
        if self._elsewhere is not None:
            spans = list(self.spans(loaded, blob))
            self._need(span.chunk for span in spans if start < span.offset + span.length and span.offset < stop)
        try:
            for span in self.spans(loaded, blob):
                low, high = max(start - span.offset, 0), min(stop - span.offset, span.length)
                if low >= high:
                    continue
                if span.length == span.chunk_length:
                    yield bytes(self._read(span.chunk, Kind.CHUNK)[low:high])
                else:
                    yield self._grouped(span)[span.start + low : span.start + high]
        except DamagedObject as error:
            raise self._damage(", ".join(loaded.paths_of({blob})[:3]) or loaded.name, error) from error

    def chunk(self, loaded: LoadedComponent, blob: int, chunk: ChunkId, target: memoryview | None = None) -> memoryview:
        """A chunk of a blob, or of the group it lies in, compared with its id; safe to call from several threads.

        Args:
            target: where it goes, exactly as long as it is.

        Raises:
            DamagedLeaf: names the leaves of the blob.
        """
        try:
            return memoryview(self._read(chunk, Kind.CHUNK, target))
        except DamagedObject as error:
            raise self._damage(", ".join(loaded.paths_of({blob})[:3]) or loaded.name, error) from error

    def _grouped(self, span: Span) -> bytes:
        """The chunk of a group; the last one is kept, since its blobs are asked for one after the other."""
        if self._group is None or self._group[0] != span.chunk:
            self._group = (span.chunk, bytes(self._read(span.chunk, Kind.CHUNK)))
        if len(self._group[1]) != span.chunk_length:
            raise IntegrityError(object="a group", problem="its chunk has another length than its blobs")
        return self._group[1]

    def _read(self, identity: ObjectId, kind: Kind, target: memoryview | None = None) -> _Data:
        if self._elsewhere is not None:
            self._need((identity,), kind)
        return self._database.read(identity, kind, target)

    def _need(self, ids: Iterable[ObjectId], kind: Kind = Kind.CHUNK) -> None:
        """See that objects are here, many at a time: then nothing is missing once memory is written to."""
        left = iter(ids)
        while batch := list(islice(left, NEEDED_AT_ONCE)):
            missing = [identity for identity in batch if self._database.row(identity) is None]
            if missing and self._elsewhere is not None:
                self._elsewhere.need(missing, kind)
                self._database.refresh()

    def _chunks_of(self, target: Target | GroupTarget) -> Iterator[ChunkId]:
        if isinstance(target, GroupTarget):
            yield ChunkId(target.loaded.entry(target.entry))
        else:
            yield from (span.chunk for span in self.spans(target.loaded, target.blob))

    def memory(self, loaded: LoadedComponent, blob: int) -> memoryview:
        """A blob in fresh memory of its own, writable and aligned to 16 bytes (to pages from 1 MiB on)."""
        size = loaded.structure.sizes[blob]
        room = size + -size % PAGE
        target = memoryview(pages(room) if size >= MAPPED_FROM else bytearray(size))
        self.fetch([Target(loaded, blob, target)], 1)
        return target[:size]


def page_of(page: bytes, explicit: bool) -> tuple[list[ObjectId], list[int] | None]:
    """Ids and, where the layout is explicit, lengths of the chunks of one page."""
    width = 36 if explicit else 32
    count = len(page) // width
    if len(page) % width or not 0 < count <= chunking.PAGE_IDS:
        raise IntegrityError(object="a page", problem="its length does not fit its ids")
    ids = [ObjectId(page[at : at + 32]) for at in range(0, count * 32, 32)]
    if not explicit:
        return ids, None
    return ids, [int.from_bytes(page[at : at + 4], "little") for at in range(count * 32, len(page), 4)]
