"""How bytes are cut: constants and rules of format v1. They decide ids and dedup, so they are not configuration.

    blob of n bytes      kept as
    1 .. 64              tiny: inside the component object
    65 .. 256 KiB - 1    small: joined with its neighbours into a group, which is one chunk
    256 KiB ..           chunks of 1 MiB from its own start, the last one shorter

A blob of more than 64 chunks lists them in pages of 2 048 ids, so that one changed chunk of a large tensor rewrites
one page. Groups never span components or element types; their ends depend on the path and size of the blob at the
end alone, so an insertion moves few groups (the sizes average about 420 KiB).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from casckpt.format.ids import path_hash

CHUNK = 1 << 20
SMALL = 256 << 10
TINY = 64
INLINE_CHUNKS = 64
PAGE_IDS = 2048
_GROUP_MEAN = 524_288


def is_tiny(nbytes: int) -> bool:
    """Whether a blob of so many bytes lies inside its component object."""
    return nbytes <= TINY


def is_small(nbytes: int) -> bool:
    """Whether a blob of so many bytes is joined into a group."""
    return TINY < nbytes < SMALL


def chunk_count(nbytes: int) -> int:
    """How many chunks a blob of the fixed layout has."""
    return -(-nbytes // CHUNK)


def chunk_length(nbytes: int, number: int) -> int:
    """Plain bytes of chunk `number` of a blob of the fixed layout."""
    return min(CHUNK, nbytes - number * CHUNK)


def page_count(chunks: int) -> int:
    """How many pages hold the ids of a blob of so many chunks; 0 if they stay in the component."""
    return -(-chunks // PAGE_IDS) if chunks > INLINE_CHUNKS else 0


def entry_count(nbytes: int) -> int:
    """Entries of a large blob in the digest column: its pages, or its chunks if they are few."""
    chunks = chunk_count(nbytes)
    return page_count(chunks) or chunks


def group_blobs(sizes: Sequence[int], elements: Sequence[int], paths: Iterable[str]) -> list[list[int]]:
    """Groups of small blobs: lists of blob numbers, each group one chunk.

    Args:
        sizes: plain bytes of each blob of one component, in blob order (bytewise order of the paths).
        elements: element type codes of the blobs.
        paths: canonical paths of the blobs, component name included.

    Returns:
        Groups in the order of their first blob; members in blob order. Blobs that are not small are in none.

    A group ends *before* a blob that would take it over CHUNK, and *after* a blob of s bytes when
    path_hash(path) < s * 2^64 / 524 288.
    """
    groups: list[list[int]] = []
    open_groups: dict[int, list[int]] = {}
    filled: dict[int, int] = {}
    for number, (nbytes, element, path) in enumerate(zip(sizes, elements, paths, strict=True)):
        if not TINY < nbytes < SMALL:  # is_small, 20 000 times
            continue
        members = open_groups.get(element)
        if members is None or filled[element] + nbytes > CHUNK:
            members = open_groups[element] = []
            filled[element] = 0
            groups.append(members)
        members.append(number)
        filled[element] += nbytes
        if path_hash(path) * _GROUP_MEAN < nbytes << 64:
            del open_groups[element]
    return groups


@dataclass(frozen=True, slots=True)
class Division:
    """The blobs of one component by how they are kept; numbers in blob order, every blob is in exactly one."""

    tiny: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    large: tuple[int, ...]


def divide(sizes: Sequence[int], elements: Sequence[int], paths: Sequence[str]) -> Division:
    """How the blobs of one component are kept; the arguments are those of `group_blobs`.

    It follows from the structure alone, so a component that looks like an earlier one is divided like it.
    """
    tiny = tuple([number for number, nbytes in enumerate(sizes) if nbytes <= TINY])
    large = tuple([number for number, nbytes in enumerate(sizes) if nbytes >= SMALL])
    return Division(tiny, tuple(map(tuple, group_blobs(sizes, elements, paths))), large)
