"""What every place of a state held over the commits of a run, for packing its versions as deltas.

A *place* is a chunk of a component: an entry of its id column, or one of the chunks that a page there lists. Two
commits have the same place if their components have one name, one structure and, for blobs with a layout of their
own, the same lengths. So a place never changes its length or element type, and a tensor that changes its shape begins
new places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from casckpt.errors import FormatError
from casckpt.format import chunking
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.layout import Grouped, Large
from casckpt.format.objects import Structure
from casckpt.odb.database import Database
from casckpt.ops.load import LoadedComponent, Loader, page_of

PREFIX_BYTES = 8
"""Of an id, in tables of many: two ids that begin alike are only taken for one where that is harmless."""


class Entry(NamedTuple):
    """An entry of an id column: one chunk, or a page of chunks."""

    leaf: int
    """Number of the leaf, or of the group of small leaves, that it belongs to."""
    element: int
    first: int
    """Number of its first chunk in its leaf."""
    length: int
    """Plain bytes of its chunks."""
    paged: bool
    explicit: bool
    """Whether its page, if it has one, says how long its chunks are."""


@dataclass(frozen=True, slots=True)
class Column:
    """The id column of a component of one commit."""

    component: ObjectId
    structure: ObjectId
    place: tuple[str, ObjectId, bytes]
    """What it shares with the columns of other commits that have the same places."""
    entries: tuple[Entry, ...]
    ids: bytes

    def id(self, number: int) -> ObjectId:
        """An id of the column."""
        return ObjectId(self.ids[number * 32 : number * 32 + 32])


class Chunk(NamedTuple):
    """A chunk as a column lists it."""

    id: ObjectId
    length: int


class Columns:
    """Reads the columns of many commits; what they share is decoded once. Not thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._structures: dict[ObjectId, Structure] = {}
        self._entries: dict[tuple[str, ObjectId, bytes], tuple[Entry, ...]] = {}

    def of(self, identity: CommitId, commit: Commit) -> list[Column]:
        """The columns of a commit, but for components that were dropped from it or that this release cannot cut.

        Raises:
            DamagedLeaf: the tree or a component cannot be read.
        """
        loader = Loader(self._database, identity, commit, self._structures)
        drop = self._database.drop(identity)
        lost = () if drop is None or drop.parts is None else drop.parts
        found = []
        for name, component in loader.tree().components:
            if name in lost:
                continue
            try:
                found.append(self._column(loader.component(name, component)))
            except FormatError:  # a sharded tensor: what it holds stays as it is
                continue
        return found

    def _column(self, loaded: LoadedComponent) -> Column:
        component = loaded.component
        place = loaded.name, component.structure, component.spans
        if place not in self._entries:
            self._entries[place] = tuple(_entries(loaded))
        return Column(loaded.identity, component.structure, place, self._entries[place], component.digests)

    def chunks(self, column: Column, number: int) -> list[Chunk]:
        """The chunks of an entry; reads its page if it is one.

        Raises:
            DamagedObject, IntegrityError: the page cannot be read, or does not fit its leaf.
        """
        entry, identity = column.entries[number], column.id(number)
        if not entry.paged:
            return [Chunk(identity, entry.length)]
        ids, lengths = page_of(bytes(self._database.read(identity, Kind.PAGE)), entry.explicit)
        if lengths is None:
            size = entry.first * chunking.CHUNK + entry.length
            lengths = [chunking.chunk_length(size, entry.first + index) for index in range(len(ids))]
        return [Chunk(*pair) for pair in zip(ids, lengths, strict=True)]

    def all_chunks(self, column: Column) -> Iterator[Chunk]:
        """All chunks of a column, in order."""
        for number in range(len(column.entries)):
            yield from self.chunks(column, number)

    def objects(self, column: Column) -> Iterator[ObjectId]:
        """The objects between the tree and the chunks of a column."""
        yield column.component
        yield column.structure
        yield from (column.id(number) for number, entry in enumerate(column.entries) if entry.paged)


def _entries(loaded: LoadedComponent) -> Iterator[Entry]:
    """The entries of a column, in order."""
    structure, spans = loaded.structure, loaded.component.spans
    groups = {place.entry: place.length for place in loaded.places if isinstance(place, Grouped)}
    for number, group in enumerate(structure.groups):
        yield Entry(number, structure.elements[group[0]], 0, groups[number], paged=False, explicit=False)
    for blob, place in enumerate(loaded.places):
        if not isinstance(place, Large):
            continue
        size, element = structure.sizes[blob], structure.elements[blob]
        step = chunking.PAGE_IDS * chunking.CHUNK if place.paged else chunking.CHUNK
        first = 0
        for index in range(place.entries):
            if place.explicit is None:
                length = min(step, size - index * step)
            else:
                at = (place.explicit + index) * 8
                length = int.from_bytes(spans[at : at + 8], "little")
            leaf = len(structure.groups) + blob
            yield Entry(leaf, element, first, length, place.paged, place.explicit is not None)
            first += chunking.PAGE_IDS if place.paged else 1
