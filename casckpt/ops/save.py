"""From a flat state to a tree: chunks, pages, structures, components and the tree object, in a write session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from casckpt.errors import StateChanged
from casckpt.format import chunking
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, ObjectId, TreeId
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.pack import PACK_BYTES
from casckpt.odb.pipeline import Coder, Piece, Pipeline, RawCoder
from casckpt.odb.session import Session
from casckpt.ops.values import Progress, counted
from casckpt.state.flat import Blob, FlatComponent, FlatState, Schema
from casckpt.state.join import join

THREADED_FROM = 16 << 20
"""Plain bytes of large blobs from which on threads are worth starting."""


def save_state(
    session: Session,
    flat: FlatState,
    threads: int = 1,
    coder: Callable[[], Coder] = RawCoder,
    progress: Progress | None = None,
) -> tuple[TreeId, int]:
    """Put a whole state; returns the id of its tree and its plain bytes.

    Args:
        threads: most threads that read, hash, stage and encode large blobs.
        coder: makes what encodes their new chunks, once for each thread.
        progress: called by this thread; what it raises ends the work.

    Memory: the id column and the staging buffers of the pipeline, whatever the size of the state.
    """
    parts = []
    nbytes = plain_bytes(flat)
    advance = counted(progress, nbytes)
    with Pipeline(session, threads if nbytes >= THREADED_FROM else 1, coder, advance) as pipeline:
        save = _Save(session, pipeline, coder(), advance)
        for component in flat.components:
            session.begin_part()
            parts.append((component.name, save.component(component)))
            session.end_part()
        root = save.component(flat.root)
    tree = session.put(Kind.TREE, Tree(root, tuple(parts), flat.links).encode())
    return TreeId(tree), nbytes


def plain_bytes(flat: FlatState) -> int:
    """Plain bytes of a state; memory that components share counts once."""
    components = (flat.root, *flat.components)
    total = sum(sum(component.schema.sizes) for component in components)
    return total - sum(components[part].schema.sizes[blob] for group in flat.links for part, blob in group[1:])


@dataclass(frozen=True, slots=True)
class _Plan:
    """What follows from the look of a component alone: element codes, division of its blobs, encoded structure."""

    codes: bytes
    division: chunking.Division
    structure: bytes


_plans: WeakKeyDictionary[Schema, _Plan] = WeakKeyDictionary()
"""Kept as long as `flatten` keeps the schemas: a training commits states that look alike over and over."""


def _plan(schema: Schema) -> _Plan:
    found = _plans.get(schema)
    if found is None:
        codes = bytes(map(element_code, schema.elements))
        division = chunking.divide(schema.sizes, codes, schema.paths)
        structure = Structure(schema.node, schema.sizes, codes, division.groups).encode()
        found = _plans[schema] = _Plan(codes, division, structure)
    return found


class _Save:
    """Saves component after component. Remembers what memory they share, so that it is hashed once."""

    def __init__(self, session: Session, pipeline: Pipeline, coder: Coder, advance: Callable[[int], None]) -> None:
        self._session = session
        self._pipeline = pipeline
        self._coder = coder
        self._advance = advance
        self._entries: dict[int, bytes] = {}
        """Id column entries of large blobs by the identity of their source."""

    def component(self, component: FlatComponent) -> ObjectId:
        """Put one component."""
        session, plan = self._session, _plan(component.schema)
        digests = bytearray()
        for group in plan.division.groups:
            joined = _joined(component, group)
            digests += session.put_chunk(joined, plan.codes[group[0]], self._coder)
            session.end_leaf()
            self._advance(len(joined))
        large = [(component.blobs[number], plan.codes[number]) for number in plan.division.large]
        self._large(large)
        digests += b"".join([self._entries[id(blob.source)] for blob, _ in large])
        tiny = bytes(_joined(component, plan.division.tiny))
        self._advance(len(tiny))
        structure = session.put(Kind.STRUCTURE, plan.structure)
        return session.put(Kind.COMPONENT, Component(structure, component.values, tiny, bytes(digests)).encode())

    def _large(self, blobs: list[tuple[Blob, int]]) -> None:
        """Put the chunks of large blobs, and the pages of those that have many."""
        fresh: dict[int, Blob] = {}
        for blob, code in blobs:
            key = id(blob.source)
            if key not in self._entries and key not in fresh:
                fresh[key] = blob
                for piece in _pieces(blob, code):
                    self._pipeline.add(piece)
        ids, at = self._pipeline.drain(), 0
        for key, blob in fresh.items():
            stop = at + chunking.chunk_count(blob.nbytes) * 32
            self._entries[key] = self._paged(ids[at:stop])
            at = stop

    def _paged(self, ids: bytes) -> bytes:
        """Entries of the id column for the chunk ids of one blob: the ids themselves, or those of their pages."""
        if not chunking.page_count(len(ids) // 32):
            return ids
        step = chunking.PAGE_IDS * 32
        return b"".join([self._session.put(Kind.PAGE, ids[at : at + step]) for at in range(0, len(ids), step)])


def _joined(component: FlatComponent, numbers: Sequence[int]) -> memoryview:
    """A private copy of some blobs of a component, back to back."""
    joined = join(component.blobs, numbers)
    if len(joined) != sum([component.schema.sizes[number] for number in numbers]):  # a bytearray that was cut short
        raise StateChanged(path=component.schema.paths[numbers[0]])
    return joined


def _pieces(blob: Blob, code: int) -> Iterator[Piece]:
    for start in range(0, blob.nbytes, chunking.CHUNK):
        stop = min(start + chunking.CHUNK, blob.nbytes)
        ends_leaf = stop == blob.nbytes or stop % PACK_BYTES == 0
        yield Piece(blob.read, start, stop, code, blob.path, blob.private, ends_leaf)
