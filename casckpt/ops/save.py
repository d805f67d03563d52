"""From a flat state to a tree: chunks, pages, structures, components and the tree object, in a write session."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, repeat
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from casckpt.errors import StateChanged
from casckpt.format import chunking
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, ObjectId, TreeId, object_id
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.pack import PACK_BYTES
from casckpt.odb.pipeline import Coder, Piece, Pipeline, RawCoder
from casckpt.odb.session import Session
from casckpt.ops.unsound import TinyFloats, tiny_floats, unsound_leaves, unsound_members, unsound_tiny
from casckpt.ops.values import Progress, counted
from casckpt.state.flat import Blob, FlatComponent, FlatState, Schema
from casckpt.state.join import join

THREADED_FROM = 16 << 20
"""Plain bytes of large blobs from which on threads are worth starting."""


class Saved(NamedTuple):
    """A state that was put: the id of its tree, its plain bytes, paths of the leaves that hold NaN or infinities."""

    tree: TreeId
    nbytes: int
    unsound: tuple[str, ...]


def save_state(
    session: Session,
    flat: FlatState,
    threads: int = 1,
    coder: Callable[[], Coder] = RawCoder,
    progress: Progress | None = None,
) -> Saved:
    """Put a whole state.

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
    return Saved(TreeId(tree), nbytes, tuple(sorted(save.unsound)))


def plain_bytes(flat: FlatState) -> int:
    """Plain bytes of a state; memory that components share counts once."""
    components = (flat.root, *flat.components)
    total = sum(sum(component.schema.sizes) for component in components)
    return total - sum(components[part].schema.sizes[blob] for group in flat.links for part, blob in group[1:])


@dataclass(frozen=True, slots=True)
class _Plan:
    """What follows from the look of a component alone.

    Element codes and division of its blobs, its structure encoded, where among its tiny bytes floats lie.
    """

    codes: bytes
    division: chunking.Division
    structure: bytes
    tiny: tuple[TinyFloats, ...]


_plans: WeakKeyDictionary[Schema, _Plan] = WeakKeyDictionary()
"""Kept as long as `flatten` keeps the schemas: a training commits states that look alike over and over."""


def _plan(schema: Schema) -> _Plan:
    found = _plans.get(schema)
    if found is None:
        codes = bytes(map(element_code, schema.elements))
        division = chunking.divide(schema.sizes, codes, schema.paths)
        layouts: dict[int, dict[str, Any]] = {number: {"cut": "content"} for number in schema.cut}
        structure = Structure(schema.node, schema.sizes, codes, division.groups, layouts).encode()
        found = _plans[schema] = _Plan(codes, division, structure, tiny_floats(division.tiny, codes, schema.sizes))
    return found


class _Entries(NamedTuple):
    """A large blob in the id column: ids of its chunks or of their pages, and how many chunks it has.

    `spans` are the plain bytes of each entry if the blob says its cuts itself, else empty.
    """

    ids: bytes
    chunks: int
    spans: bytes = b""
    is_sound: bool = True
    """Whether none of its chunks holds NaN or infinities."""


_ZEROS = bytes(chunking.CHUNK)


class _Save:
    """Saves component after component. Remembers what memory they share, so that it is hashed once."""

    def __init__(self, session: Session, pipeline: Pipeline, coder: Coder, advance: Callable[[int], None]) -> None:
        self._session = session
        self._pipeline = pipeline
        self._coder = coder
        self._advance = advance
        self._entries: dict[int, _Entries] = {}
        """Of large blobs, by the identity of their source."""
        self._has_zeros = False
        self.unsound: list[str] = []
        """Paths of the leaves that hold NaN or infinities, of all components put so far."""

    def component(self, component: FlatComponent) -> ObjectId:
        """Put one component."""
        session, plan = self._session, _plan(component.schema)
        digests, unsound = bytearray(), set[int]()
        for group in plan.division.groups:
            joined = _joined(component, group)
            code = plan.codes[group[0]]
            identity, is_sound = session.put_chunk(joined, code, self._coder)
            digests += identity
            if not is_sound:
                unsound.update(unsound_members(joined, group, component.schema.sizes, code))
            session.end_leaf()
            self._advance(len(joined))
        large = [(component.blobs[number], plan.codes[number]) for number in plan.division.large]
        self._large(large)
        entries = [self._entries[id(blob.source)] for blob, _ in large]
        digests += b"".join([entry.ids for entry in entries])
        unsound.update(
            [number for number, entry in zip(plan.division.large, entries, strict=True) if not entry.is_sound]
        )
        tiny = bytes(_joined(component, plan.division.tiny))
        unsound.update(unsound_tiny(tiny, plan.tiny, plan.division.tiny, plan.codes, component.schema.sizes))
        if unsound:
            self.unsound += unsound_leaves(component, plan.codes, unsound)
        self._advance(len(tiny))
        cut = [entry for entry in entries if entry.spans]
        counts = tuple([(entry.chunks, len(entry.ids) // 32) for entry in cut])
        spans = b"".join([entry.spans for entry in cut])
        structure = session.put(Kind.STRUCTURE, plan.structure)
        found = Component(structure, component.values, tiny, bytes(digests), counts, spans)
        return session.put(Kind.COMPONENT, found.encode())

    def _large(self, blobs: list[tuple[Blob, int]]) -> None:
        """Put the chunks of large blobs, and the pages of those that have many."""
        fresh: dict[int, tuple[Blob, array[int] | None]] = {}
        for blob, code in blobs:
            key = id(blob.source)
            if key not in self._entries and key not in fresh:
                fresh[key] = blob, self._feed(blob, code)
        (ids, unsound), at = self._pipeline.drain(), 0
        for key, (blob, lengths) in fresh.items():
            fed = chunking.chunk_count(blob.nbytes) if lengths is None else sum([length > 0 for length in lengths])
            stop = at + fed * 32
            own = ids[at:stop]
            entries = _Entries(self._paged(own), fed) if lengths is None else self._listed(own, lengths)
            is_sound = not unsound or bisect_left(unsound, at // 32) == bisect_left(unsound, stop // 32)
            self._entries[key] = entries._replace(is_sound=is_sound)
            at = stop

    def _feed(self, blob: Blob, code: int) -> array[int] | None:
        """Give the pieces of a blob to the pipeline; returns the lengths of its chunks if it says its cuts itself.

        A negative length -n stands for n chunks of zeros that were not given to it: a large hole costs nothing.
        """
        if blob.cuts is None:
            for piece in _pieces(blob, code):
                self._pipeline.add(piece)
            return None
        lengths, start = array("q"), 0
        for cut in blob.cuts():
            read, private = blob.read, blob.private
            crosses = cut.stop // PACK_BYTES != start // PACK_BYTES
            if cut.is_zero:
                # Of all zeros one chunk is stored, and one wherever a piece must say that a leaf ends. It is not read
                # from the file, which may have changed: the id of zeros must not stand for what is not there.
                read, private = _zeros, True
                given = int(cut.ends or not self._has_zeros)
                kept = (cut.stop - start) // chunking.CHUNK - given
                if kept:
                    lengths.append(-kept)
                    self._advance(kept * chunking.CHUNK)
                start += kept * chunking.CHUNK
                self._has_zeros = True
            if start < cut.stop:
                ends = cut.ends or crosses
                self._pipeline.add(Piece(read, start, cut.stop, element_code(cut.element), blob.path, private, ends))
                lengths.append(cut.stop - start)
            start = cut.stop
        return lengths

    def _paged(self, ids: bytes) -> bytes:
        """Entries of the id column for the chunk ids of one blob: the ids themselves, or those of their pages."""
        if not chunking.page_count(len(ids) // 32):
            return ids
        step = chunking.PAGE_IDS * 32
        return b"".join([self._session.put(Kind.PAGE, ids[at : at + step]) for at in range(0, len(ids), step)])

    def _listed(self, ids: bytes, lengths: array[int]) -> _Entries:
        """Entries of a blob that says its cuts itself, with the lengths of its chunks."""
        chunks = sum([max(1, -length) for length in lengths])
        pairs = _chunks(ids, lengths)
        if not chunking.page_count(chunks):
            listed = list(pairs)
            return _Entries(b"".join([one for one, _ in listed]), chunks, _packed("Q", [size for _, size in listed]))
        pages, spans = bytearray(), []
        while page := list(islice(pairs, chunking.PAGE_IDS)):
            sizes = [size for _, size in page]
            pages += self._session.put(Kind.PAGE, b"".join([one for one, _ in page]) + _packed("I", sizes))
            spans.append(sum(sizes))
        return _Entries(bytes(pages), chunks, _packed("Q", spans))


def _chunks(ids: bytes, lengths: array[int]) -> Iterator[tuple[bytes, int]]:
    """(id, length) of every chunk of a blob, the chunks of zeros that `_feed` kept back among them."""
    at = 0
    for length in lengths:
        if length < 0:
            yield from repeat((_zeros_id(), chunking.CHUNK), -length)
        else:
            yield ids[at : at + 32], length
            at += 32


def _packed(code: str, numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


@cache
def _zeros_id() -> ObjectId:
    return object_id(Kind.CHUNK, _ZEROS)


def _zeros(start: int, stop: int) -> memoryview:
    return memoryview(_ZEROS)[: stop - start]


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
