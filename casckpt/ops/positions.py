"""What every place of a state held over the commits of a run, for packing its versions as deltas.

A *place* is a chunk of a leaf, or of a group of small leaves, named by the component, the path of the (first) leaf and
a number. So places stay what they are when other leaves come, go or grow. What a place holds may change its length or
element type; versions of different ones are never deltas of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class Slot(NamedTuple):
    """An entry of an id column: one chunk, or a page of chunks."""

    path: str
    """Of the leaf, or of the first one of a group."""
    first: int
    """Number of its first chunk in the leaf."""
    element: int
    length: int
    """Plain bytes of its chunks."""
    paged: bool
    explicit: bool
    """Whether its page, if it has one, says how long its chunks are."""


class Held(NamedTuple):
    """What a place held in one of the commits."""

    commit: int
    """Number of the commit."""
    chunk: ObjectId
    length: int
    element: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """The slots that some commits have in common for a component, and the numbers and id columns of these commits."""

    slots: tuple[Slot, ...]
    columns: list[tuple[int, bytes]]


def histories(
    database: Database, commits: Sequence[tuple[CommitId, Commit]]
) -> Iterator[tuple[tuple[str, str], list[Held]]]:
    """(leaf, what it held) for every place of some commits; the places of a leaf come one after another.

    Components that were dropped from a commit, and those that this release cannot cut, are left out.

    Args:
        commits: in the order in which they are numbered and versions are given.

    Raises:
        DamagedLeaf, DamagedObject, IntegrityError: an object between a tree and its chunks cannot be read.

    Memory: the id columns of all commits.
    """
    for name, shapes in _shapes(database, commits).items():
        places: dict[tuple[str, int], list[tuple[_Shape, int, Slot]]] = {}
        for shape in shapes:
            for number, slot in enumerate(shape.slots):
                places.setdefault((slot.path, slot.first), []).append((shape, number, slot))
        for (path, _), found in places.items():
            listed = [
                (commit, slot, _chunks(database, slot, ids[number * 32 : number * 32 + 32]))
                for shape, number, slot in found
                for commit, ids in shape.columns
            ]
            listed.sort(key=lambda one: one[0])
            for index in range(max(len(chunks) for _, _, chunks in listed)):
                versions = [
                    Held(commit, *chunks[index], slot.element) for commit, slot, chunks in listed if index < len(chunks)
                ]
                yield (name, path), versions


def _shapes(database: Database, commits: Sequence[tuple[CommitId, Commit]]) -> dict[str, list[_Shape]]:
    """The shapes of every component, by its name."""
    structures: dict[ObjectId, Structure] = {}
    shapes: dict[tuple[str, ObjectId, bytes], _Shape] = {}
    found: dict[str, list[_Shape]] = {}
    for number, (identity, commit) in enumerate(commits):
        loader = Loader(database, identity, commit, structures)
        drop = database.drop(identity)
        lost = () if drop is None or drop.parts is None else drop.parts
        for name, component in loader.tree().components:
            if name in lost:
                continue
            try:
                loaded = loader.component(name, component)
            except FormatError:  # it holds tensors in shards: its chunks stay as they are
                continue
            key = name, loaded.component.structure, loaded.component.spans
            if key not in shapes:
                shapes[key] = _Shape(tuple(_slots(loaded)), [])
                found.setdefault(name, []).append(shapes[key])
            shapes[key].columns.append((number, loaded.component.digests))
    return found


def _chunks(database: Database, slot: Slot, identity: bytes) -> list[tuple[ObjectId, int]]:
    """Ids and lengths of the chunks of a slot; reads its page if it is one."""
    if not slot.paged:
        return [(ObjectId(identity), slot.length)]
    ids, lengths = page_of(bytes(database.read(ObjectId(identity), Kind.PAGE)), slot.explicit)
    if lengths is None:
        size = slot.first * chunking.CHUNK + slot.length
        lengths = [chunking.chunk_length(size, slot.first + index) for index in range(len(ids))]
    return list(zip(ids, lengths, strict=True))


def _slots(loaded: LoadedComponent) -> Iterator[Slot]:
    """The slots of a component, in the order of its column."""
    structure, spans = loaded.structure, loaded.component.spans
    paths: dict[int, str] = {}
    for leaf in loaded.leaves():
        if leaf.blob is not None:
            paths.setdefault(leaf.blob, leaf.path)
    lengths = {place.entry: place.length for place in loaded.places if isinstance(place, Grouped)}
    for number, group in enumerate(structure.groups):
        path, element = paths.get(group[0], ""), structure.elements[group[0]]
        yield Slot(path, 0, element, lengths[number], paged=False, explicit=False)
    for blob, place in enumerate(loaded.places):
        if not isinstance(place, Large):
            continue
        path, size, element = paths.get(blob, ""), structure.sizes[blob], structure.elements[blob]
        step = chunking.PAGE_IDS if place.paged else 1
        for index in range(place.entries):
            if place.explicit is None:
                length = min(step * chunking.CHUNK, size - index * step * chunking.CHUNK)
            else:
                at = (place.explicit + index) * 8
                length = int.from_bytes(spans[at : at + 8], "little")
            yield Slot(path, index * step, element, length, place.paged, place.explicit is not None)
