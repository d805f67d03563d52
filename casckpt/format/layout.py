"""Where the bytes of each blob of a component are: the map from blob numbers to entries of the id column.

The id column of a component holds, in this order: one id per group, then for each large blob in blob order its
entries (chunk ids, or page ids for a blob of more than 64 chunks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from casckpt.errors import IntegrityError
from casckpt.format import chunking
from casckpt.format.objects import Component, Structure


class Tiny(NamedTuple):
    """Inside the component object, at `offset` of its tiny bytes."""

    offset: int


class Grouped(NamedTuple):
    """Bytes [offset, offset + size of the blob) of the chunk in entry `entry`, which has `length` plain bytes."""

    entry: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Large:
    """Entries [entry, entry + entries): `chunks` chunks, or their pages if `paged`."""

    entry: int
    entries: int
    chunks: int
    paged: bool
    explicit: int | None
    """First entry of its spans if the chunk lengths are listed, None for the fixed layout."""


Place = Tiny | Grouped | Large


def places(structure: Structure, component: Component) -> list[Place]:
    """The place of every blob, by blob number.

    Raises:
        IntegrityError: if the structure and the component contradict each other: groups that miss a small blob,
            hold another or overflow a chunk, or columns of the wrong length.
    """
    sizes, count = structure.sizes, len(structure.sizes)
    found: list[Place | None] = [None] * count
    for entry, group in enumerate(structure.groups):
        if min(group, default=0) < 0 or max(group, default=0) >= count:
            raise _error("a group holds a blob that does not belong there")
        length = sum([sizes[blob] for blob in group])
        if length > chunking.CHUNK:
            raise _error("a group is longer than a chunk")
        offset = 0
        for blob in group:
            size = sizes[blob]
            if found[blob] is not None or not chunking.TINY < size < chunking.SMALL:  # is_small, 20 000 times
                raise _error("a group holds a blob that does not belong there")
            found[blob] = Grouped(entry, offset, length)
            offset += size
    tiny, entry, span = 0, len(structure.groups), 0
    counts = iter(component.counts)
    for blob, size in enumerate(sizes):
        if found[blob] is not None:
            continue
        if blob in structure.layouts:
            chunks, entries = next(counts, (0, 0))
            fewest = chunking.page_count(chunks) or chunks
            if not fewest <= entries <= chunks or (entries != chunks and chunks <= chunking.INLINE_CHUNKS):
                raise _error("the counts of a blob with its own layout do not fit")
            lengths = component.spans[span * 8 : (span + entries) * 8]
            if sum(int.from_bytes(lengths[at : at + 8], "little") for at in range(0, len(lengths), 8)) != size:
                raise _error("the lengths of a blob with its own layout do not add up")
            found[blob] = Large(entry, entries, chunks, chunks > chunking.INLINE_CHUNKS, span)
            span += entries
        elif chunking.is_tiny(size):
            found[blob] = Tiny(tiny)
            tiny += size
            continue
        elif chunking.is_small(size):
            raise _error("a small blob is in no group")
        else:
            chunks, entries = chunking.chunk_count(size), chunking.entry_count(size)
            found[blob] = Large(entry, entries, chunks, chunks > chunking.INLINE_CHUNKS, None)
        entry += entries
    if (
        entry * 32 != len(component.digests)
        or tiny != len(component.tiny)
        or span * 8 != len(component.spans)
        or next(counts, None) is not None
    ):
        raise _error("a column is longer or shorter than its blobs")
    return [place for place in found if place is not None]


def _error(problem: str) -> IntegrityError:
    return IntegrityError(object="a component object", problem=problem)
