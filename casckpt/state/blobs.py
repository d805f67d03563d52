"""From leaves to numbered blobs: which leaves are one, in which order, and what the components share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casckpt.state.flat import BLOB_FIELD, Blob
from casckpt.state.leaves import Bytes, View

Links = tuple[tuple[tuple[int, int], ...], ...]


def number_blobs(leaves: Sequence[Bytes | View], parts: int) -> tuple[list[list[Blob]], Links]:
    """The blobs of each of `parts` components in path order, and the links between them. Completes the nodes."""
    blobs: list[list[Blob]] = [[] for _ in range(parts)]
    across: list[list[tuple[int, Blob]]] = []
    # Few objects per leaf on purpose: with tens of thousands of leaves the garbage collector is half of the time.
    for leaf in leaves:
        if isinstance(leaf, Bytes):
            leaf.blob = Blob(leaf.path, leaf.element, len(leaf.data), leaf)
            blobs[leaf.part].append(leaf.blob)
    for group in _groups([leaf for leaf in leaves if isinstance(leaf, View)]):
        uses = _uses(group)
        for part, blob in uses.items():
            blobs[part].append(blob)
        if len(uses) > 1:
            across.append(sorted(uses.items(), key=lambda use: use[0]))
    numbers: dict[int, int] = {}
    for mine in blobs:
        mine.sort(key=lambda blob: blob.path)  # by code points, which is the order of the UTF-8 bytes
        numbers.update((id(blob), number) for number, blob in enumerate(mine))
    for leaf in leaves:
        leaf.node[BLOB_FIELD[leaf.node[0]]] = numbers[id(leaf.blob)]
        leaf.blob = None  # a leaf may be its blob's source: the two would keep each other alive
    return blobs, tuple(sorted(tuple((part, numbers[id(blob)]) for part, blob in uses) for uses in across))


def _groups(views: list[View]) -> Iterator[list[View]]:
    if not views:
        return
    from casckpt.state.sharing import share

    yield from share(views)


def _uses(group: list[View]) -> dict[int, Blob]:
    """The blob of views that share memory, once for each component that uses it."""
    from casckpt.state.layout import lay_out

    source, nbytes, element = lay_out(group)
    if len(group) == 1:
        leaf = group[0]
        leaf.blob = Blob(leaf.path, element, nbytes, source)
        return {leaf.part: leaf.blob}
    first: dict[int, View] = {}
    for leaf in group:
        if leaf.part not in first or leaf.path < first[leaf.part].path:
            first[leaf.part] = leaf
    uses = {part: Blob(leaf.path, element, nbytes, source) for part, leaf in first.items()}
    for leaf in group:
        leaf.blob = uses[leaf.part]
    return uses
