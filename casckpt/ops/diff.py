"""diff: what differs between two commits, by path, reading as little as possible.

Leaves with equal ids are equal and never read. Small leaves share chunks with their neighbours, so a leaf in a chunk
that changed is compared by its bytes; large leaves are compared chunk by chunk, by id alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casckpt.format.ids import CommitId
from casckpt.format.layout import Grouped, Tiny
from casckpt.odb.database import Database
from casckpt.ops.history import describe, require_tree
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.reports import Diff, LeafChange
from casckpt.state.walk import LeafInfo

_Span = tuple[bytes, int, int]
"""(chunk, start in it, length)"""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A leaf, what it says inside the tree, and where its blob's bytes are."""

    info: LeafInfo
    inside: tuple[Any, ...]
    spans: tuple[_Span, ...]
    nbytes: int
    loader: Loader
    loaded: LoadedComponent

    @property
    def is_grouped(self) -> bool:
        return self.info.blob is not None and isinstance(self.loaded.places[self.info.blob], Grouped)

    def read(self) -> bytes:
        """The bytes of a small leaf's blob."""
        assert self.info.blob is not None
        return bytes(self.loader.memory(self.loaded, self.info.blob))

    def equals(self, other: _Leaf) -> bool:
        if self.inside != other.inside or self.nbytes != other.nbytes:
            return False
        if self.spans == other.spans:
            return True
        return self.is_grouped and other.is_grouped and self.read() == other.read()


def diff_commits(database: Database, before: CommitId, after: CommitId) -> Diff:
    """Compare two commits by path.

    Cost: reads both trees, the pages of large tensors, and the chunks of small leaves that changed or have a changed
    neighbour; grows with the number of leaves.
    """
    old, new = _leaves(database, before), _leaves(database, after)
    changes, equal, equal_bytes, total = [], 0, 0, 0
    counted: set[_Span] = set()
    known = {span for leaf in old.values() for span in leaf.spans}
    for path, leaf in new.items():
        other = old.get(path)
        same = other is not None and leaf.equals(other)
        if same:
            equal += 1
        else:
            changes.append(_change(path, other, leaf))
        for span in leaf.spans:
            if span not in counted:
                counted.add(span)
                total += span[2]
                equal_bytes += span[2] if same or span in known else 0
    changes += [_change(path, leaf, None) for path, leaf in old.items() if path not in new]
    first, second = describe(database, before), describe(database, after)
    names = sorted({*first.metrics, *second.metrics})
    return Diff(
        before=first,
        after=second,
        metrics={name: (first.metrics.get(name), second.metrics.get(name)) for name in names},
        leaves=tuple(sorted(changes, key=lambda change: (-change.differing, change.path))),
        equal=equal,
        equal_bytes=equal_bytes,
        total_bytes=total,
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
    spans: dict[int, tuple[_Span, ...]] = {}
    for info in loaded.leaves():
        inside: tuple[Any, ...] = (info.kind, info.dtype, info.shape, info.offset, _comparable(info.value))
        if info.blob is None:
            yield _Leaf(info, inside, (), 0, loader, loaded)
            continue
        size, place = loaded.structure.sizes[info.blob], loaded.places[info.blob]
        if isinstance(place, Tiny):
            inside = (*inside, loaded.component.tiny[place.offset : place.offset + size])
        if info.blob not in spans:
            spans[info.blob] = tuple((span.chunk, span.start, span.length) for span in loader.spans(loaded, info.blob))
        yield _Leaf(info, inside, spans[info.blob], size, loader, loaded)


def _comparable(value: Any) -> Any:
    """A value that compares by type and bits: NaN equals itself, True is not 1, 0.0 is not -0.0."""
    if isinstance(value, float | complex):
        return type(value).__name__, struct.pack("<dd", value.real, value.imag)
    return type(value).__name__, repr(value)


def _change(path: str, before: _Leaf | None, after: _Leaf | None) -> LeafChange:
    shown = after or before
    assert shown is not None
    if before is None or after is None:
        kind = "added" if before is None else "removed"
    else:
        same = (before.info.kind, before.info.dtype, before.info.shape)
        kind = "changed" if same == (after.info.kind, after.info.dtype, after.info.shape) else "kind"
    known = set() if before is None or shown is before else set(before.spans)
    differing = sum(span[2] for span in shown.spans if span not in known)
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
