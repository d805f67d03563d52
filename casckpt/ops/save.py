"""From a flat state to a tree: chunks, pages, structures, components and the tree object, in a write session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from casckpt.errors import StateChanged
from casckpt.format import chunking
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, ObjectId, TreeId
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.pack import PACK_BYTES
from casckpt.odb.pipeline import Coder, Piece, Pipeline, RawCoder
from casckpt.odb.session import Session
from casckpt.ops.values import Progress
from casckpt.state.flat import Blob, FlatComponent, FlatState

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
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, nbytes)

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
    total = sum(blob.nbytes for component in (flat.root, *flat.components) for blob in component.blobs)
    components = (flat.root, *flat.components)
    for group in flat.links:
        total -= sum(components[part].blobs[blob].nbytes for part, blob in group[1:])
    return total


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
        session, blobs = self._session, component.blobs
        sizes = [blob.nbytes for blob in blobs]
        codes = [element_code(blob.element) for blob in blobs]
        groups = chunking.group_blobs(sizes, codes, (blob.path for blob in blobs))
        digests = bytearray()
        for group in groups:
            joined = _joined([blobs[number] for number in group])
            digests += session.put_chunk(joined, codes[group[0]], self._coder)
            session.end_leaf()
            self._advance(len(joined))
        large = [
            (blob, code)
            for blob, code in zip(blobs, codes, strict=True)
            if not chunking.is_tiny(blob.nbytes) and not chunking.is_small(blob.nbytes)
        ]
        self._large(large)
        digests += b"".join([self._entries[id(blob.source)] for blob, _ in large])
        tiny = _joined([blob for blob in blobs if chunking.is_tiny(blob.nbytes)])
        self._advance(len(tiny))
        structure = Structure(component.node, tuple(sizes), bytes(codes), tuple(map(tuple, groups)))
        identity = session.put(Kind.STRUCTURE, structure.encode())
        return session.put(Kind.COMPONENT, Component(identity, component.values, tiny, bytes(digests)).encode())

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


def _joined(blobs: list[Blob]) -> bytes:
    """A private copy of whole blobs, back to back."""
    joined = b"".join([blob.read(0, blob.nbytes) for blob in blobs])
    if len(joined) != sum(blob.nbytes for blob in blobs):  # a bytearray that was cut short
        raise StateChanged(path=blobs[0].path)
    return joined


def _pieces(blob: Blob, code: int) -> Iterator[Piece]:
    for start in range(0, blob.nbytes, chunking.CHUNK):
        stop = min(start + chunking.CHUNK, blob.nbytes)
        ends_leaf = stop == blob.nbytes or stop % PACK_BYTES == 0
        yield Piece(blob.read, start, stop, code, blob.path, False, ends_leaf)
