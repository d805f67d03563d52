"""diff: what differs between two commits, from their trees alone. Leaves with equal ids are equal; none is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from casckpt.format.ids import CommitId
from casckpt.format.layout import Tiny
from casckpt.odb.database import Database
from casckpt.ops.history import describe, require_tree
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.values import Diff, LeafChange
from casckpt.state.walk import LeafInfo


class _Leaf(NamedTuple):
    """A leaf with what decides whether it is equal: its description, its value, and the ids of its chunks."""

    info: LeafInfo
    content: tuple[Any, ...]
    chunks: dict[bytes, int]
    """Plain bytes of the leaf's blob by chunk."""
    nbytes: int


def diff_commits(database: Database, before: CommitId, after: CommitId) -> Diff:
    """Compare two commits by path.

    Cost: reads both trees and the pages of large tensors, no chunks; grows with the number of leaves.
    """
    old, new = _leaves(database, before), _leaves(database, after)
    have = {chunk for leaf in old.values() for chunk in leaf.chunks}
    changes, equal = [], 0
    for path, leaf in new.items():
        other = old.get(path)
        if other is not None and other.content == leaf.content:
            equal += 1
        else:
            changes.append(_change(path, other, leaf))
    changes += [_change(path, leaf, None) for path, leaf in old.items() if path not in new]
    chunks = {chunk: size for leaf in new.values() for chunk, size in leaf.chunks.items()}
    first, second = describe(database, before), describe(database, after)
    names = sorted({*first.metrics, *second.metrics})
    return Diff(
        before=first,
        after=second,
        metrics={name: (first.metrics.get(name), second.metrics.get(name)) for name in names},
        leaves=tuple(sorted(changes, key=lambda change: (-change.differing, change.path))),
        equal=equal,
        equal_bytes=sum(size for chunk, size in chunks.items() if chunk in have),
        total_bytes=sum(chunks.values()),
    )


def _leaves(database: Database, identity: CommitId) -> dict[str, _Leaf]:
    loader = Loader(database, identity, require_tree(database, identity))
    return {
        leaf.info.path: leaf
        for loaded in loader.components(loader.tree())
        for leaf in _component_leaves(loader, loaded)
        if leaf.info.kind != "part"
    }


def _component_leaves(loader: Loader, loaded: LoadedComponent) -> Iterator[_Leaf]:
    spans: dict[int, tuple[tuple[Any, ...], dict[bytes, int]]] = {}
    for info in loaded.leaves():
        content: tuple[Any, ...] = (info.kind, info.dtype, info.shape, _comparable(info.value))
        if info.blob is None:
            yield _Leaf(info, content, {}, 0)
            continue
        if info.blob not in spans:
            spans[info.blob] = _content(loader, loaded, info.blob)
        key, chunks = spans[info.blob]
        yield _Leaf(info, (*content, info.offset, key), chunks, loaded.structure.sizes[info.blob])


def _content(loader: Loader, loaded: LoadedComponent, blob: int) -> tuple[tuple[Any, ...], dict[bytes, int]]:
    """What a blob holds, as a key that is equal when the bytes are known to be, and its chunks."""
    place = loaded.places[blob]
    if isinstance(place, Tiny):
        size = loaded.structure.sizes[blob]
        return (loaded.component.tiny[place.offset : place.offset + size],), {}
    spans = list(loader.spans(loaded, blob))
    chunks: dict[bytes, int] = {}
    for span in spans:
        chunks[span.chunk] = chunks.get(span.chunk, 0) + span.length
    return tuple((span.chunk, span.start, span.length) for span in spans), chunks


def _comparable(value: Any) -> Any:
    """A value that compares by type and bits: NaN equals itself, True is not 1, 0.0 is not -0.0."""
    return type(value).__name__, value.hex() if isinstance(value, float) else repr(value)


def _change(path: str, before: _Leaf | None, after: _Leaf | None) -> LeafChange:
    shown = after or before
    assert shown is not None
    if before is None or after is None:
        kind = "added" if before is None else "removed"
    else:
        same = (before.info.kind, before.info.dtype, before.info.shape)
        kind = "changed" if same == (after.info.kind, after.info.dtype, after.info.shape) else "kind"
    known = {} if before is None else before.chunks
    differing = sum(size for chunk, size in shown.chunks.items() if shown is before or chunk not in known)
    return LeafChange(path, kind, _text(before), _text(after), shown.nbytes, differing)


def _text(leaf: _Leaf | None) -> str:
    """A leaf in a few words: `float32[768,768]`, or its value."""
    if leaf is None:
        return ""
    info = leaf.info
    if info.shape is not None:
        return f"{info.dtype}[{','.join(map(str, info.shape))}]"
    if info.blob is not None or info.value is None:
        return info.kind
    text = repr(info.value)
    return text if len(text) <= 40 else text[:37] + "..."
