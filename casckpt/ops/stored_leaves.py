"""The leaves of a commit as a comparison sees them: what the tree says of each, and in which chunks its bytes lie."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from casckpt.errors import IntegrityError
from casckpt.format.ids import ChunkId, CommitId, Kind
from casckpt.format.layout import Grouped, Tiny
from casckpt.format.limits import MAX_OBJECT_BYTES
from casckpt.odb.database import Database
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.opening import loader_of
from casckpt.state.nodes import ArrayNode, TensorNode
from casckpt.state.walk import LeafInfo
from casckpt.storage.pages import pages

Run = tuple[ChunkId, int, int]
"""(chunk, start in it, length)"""

KEPT_CHUNKS = 8


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """A leaf, what it says inside the tree, and where its blob's bytes are."""

    info: LeafInfo
    inside: tuple[Any, ...]
    runs: tuple[Run, ...]
    nbytes: int
    """Plain bytes of the blob."""
    loader: Loader
    loaded: LoadedComponent

    @property
    def is_grouped(self) -> bool:
        return self.info.blob is not None and isinstance(self.loaded.places[self.info.blob], Grouped)

    @property
    def tiny(self) -> bytes | None:
        """The bytes of a blob that lies in the tree, None of any other."""
        place = None if self.info.blob is None else self.loaded.places[self.info.blob]
        if not isinstance(place, Tiny):
            return None
        return self.loaded.component.tiny[place.offset : place.offset + self.nbytes]

    def equals(self, other: StoredLeaf, chunks: Chunks) -> bool:
        """Whether the two are the same by type, layout and bytes; reads small leaves that changed or moved."""
        if self.inside != other.inside or self.nbytes != other.nbytes:
            return False
        if self.runs == other.runs:
            return True
        small = self.is_grouped and other.is_grouped
        return small and chunks.read(self, self.runs[0]) == chunks.read(other, other.runs[0])


class Chunks:
    """Reads verified chunks and counts them. Safe to use from several threads.

    Chunks of small leaves, and those of which a part was asked for, are kept for a while: a small leaf is read twice,
    once to see whether it changed, and neighbours are asked for next.
    """

    def __init__(self) -> None:
        self.read_bytes = 0
        """Plain bytes of all chunks read, those read twice counted twice."""
        self._kept: OrderedDict[ChunkId, memoryview] = OrderedDict()
        self._lock = threading.Lock()
        self._scratch = threading.local()

    def read(self, leaf: StoredLeaf, run: Run) -> memoryview:
        """Bytes of a leaf's blob.

        Raises:
            DamagedLeaf: names the leaves of the blob.
        """
        identity, start, length = run
        with self._lock:
            chunk = self._kept.get(identity)
            if chunk is not None:
                self._kept.move_to_end(identity)
        if chunk is None:
            assert leaf.info.blob is not None
            chunk = leaf.loader.chunk(leaf.loaded, leaf.info.blob, identity)
            self._count(identity, chunk, keep=leaf.is_grouped or length < len(chunk))
        if start + length > len(chunk):
            raise IntegrityError(object=leaf.info.path, problem="a chunk is shorter than the leaf says")
        return chunk[start : start + length]

    def read_aside(self, leaf: StoredLeaf, run: Run, side: int) -> memoryview:
        """A chunk that belongs to a leaf alone, whole: in memory that the next such call on that side uses again.

        Fresh memory for every chunk would take as long as reading it.

        Args:
            run: all of a chunk.
            side: 0 or 1.

        Raises:
            DamagedLeaf: names the leaves of the blob.
        """
        identity, _, length = run
        with self._lock:
            kept = self._kept.get(identity)
        if kept is not None:
            return self.read(leaf, run)
        assert leaf.info.blob is not None
        if not hasattr(self._scratch, "sides"):
            self._scratch.sides = tuple(memoryview(pages(MAX_OBJECT_BYTES[Kind.CHUNK])) for _ in range(2))
        chunk = leaf.loader.chunk(leaf.loaded, leaf.info.blob, identity, self._scratch.sides[side][:length])
        self._count(identity, chunk, keep=False)
        return chunk

    def _count(self, identity: ChunkId, chunk: memoryview, *, keep: bool) -> None:
        with self._lock:
            self.read_bytes += len(chunk)
            if keep:
                self._kept[identity] = chunk
                if len(self._kept) > KEPT_CHUNKS:
                    self._kept.popitem(last=False)


def stored_leaves(database: Database, identity: CommitId, but: Collection[str] = ()) -> dict[str, StoredLeaf]:
    """The leaves of a commit by path. Reads its tree and the pages of large leaves.

    Args:
        but: components that are left out, which the commit may have lost.

    Raises:
        CommitDropped, CommitThinned: it has lost others, or all.
    """
    loader = loader_of(database, identity, lambda name: name in but)
    return {
        leaf.info.path: leaf
        for loaded in (loader.component(*one) for one in loader.tree().components if one[0] not in but)
        for leaf in _component_leaves(loader, loaded)
        if leaf.info.kind != "part"
    }


def _component_leaves(loader: Loader, loaded: LoadedComponent) -> Iterator[StoredLeaf]:
    runs: dict[int, tuple[Run, ...]] = {}
    for info in loaded.leaves():
        inside = inside_of(info)
        if info.blob is None:
            yield StoredLeaf(info, inside, (), 0, loader, loaded)
            continue
        size, place = loaded.structure.sizes[info.blob], loaded.places[info.blob]
        if isinstance(place, Tiny):
            inside = (*inside, loaded.component.tiny[place.offset : place.offset + size])
        if info.blob not in runs:
            runs[info.blob] = tuple((span.chunk, span.start, span.length) for span in loader.spans(loaded, info.blob))
        yield StoredLeaf(info, inside, runs[info.blob], size, loader, loaded)


def inside_of(info: LeafInfo) -> tuple[Any, ...]:
    """What a tree says of a leaf besides where its bytes are, as values that compare by type and bits."""
    return (info.kind, info.dtype, info.shape, info.offset, _order(info), _comparable(info.value))


def _order(info: LeafInfo) -> tuple[Any, ...]:
    """How elements lie in the blob: a transposed tensor has the bytes of the other, but not its values."""
    if isinstance(info.node, TensorNode):
        return (info.node.strides,)
    return (info.node.order, info.node.strides) if isinstance(info.node, ArrayNode) else ()


def _comparable(value: Any) -> Any:
    """A value that compares by type and bits: NaN equals itself, True is not 1, 0.0 is not -0.0."""
    if isinstance(value, float | complex):
        return type(value).__name__, struct.pack("<dd", value.real, value.imag)
    return type(value).__name__, repr(value)
