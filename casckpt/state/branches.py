"""A stored structure as a tree of containers and leaves: for those who write it down in another form.

`walk` gives leaves alone; here the containers around them stay, with their keys and kinds, and the components are put
where they belong in the root's dict. Needs neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from casckpt.state import paths
from casckpt.state.checks import inconsistent
from casckpt.state.flat import DEPTH_MAX, Node
from casckpt.state.nodes import AnyNode, MapNode, PartNode, ReducedNode, SequenceNode, parse
from casckpt.state.values import decode_value


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is no container.

    Args:
        path: canonical full path.
        part: number of the component that holds it, as they were given.
        node: what it is; None for a small value.
        raw: the same as it is stored.
        value: a small value, a `values.Scalar` for a numpy one.
    """

    path: str
    part: int
    node: AnyNode | None
    raw: Node
    value: object = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A container.

    Args:
        kind: dict, odict, list or tuple; the keys of the latter two are indices. Else what is stored as something
            simpler, by its kind and parameter, with the simpler value as its only child.
    """

    path: str
    kind: str
    keys: tuple[Hashable, ...]
    children: tuple[Branch | Leaf, ...]
    metadata: Branch | Leaf | None = None
    """`_metadata` of an OrderedDict."""

    @property
    def is_plain(self) -> bool:
        """Whether it is a dict or a list, and not stored as something simpler than it is."""
        return self.kind in _PLAIN

    def items(self) -> Iterator[tuple[Hashable, Branch | Leaf]]:
        """Keys and children in order."""
        return zip(self.keys, self.children, strict=True)


_PLAIN = ("dict", "odict", "list", "tuple")

PartTuple = tuple[str, Node, Sequence[object]]


def grow(parts: Sequence[PartTuple]) -> Branch | Leaf:
    """The tree of a state.

    Args:
        parts: canonical path, node and values of the root and all its components, in order; hostile input.

    Raises:
        FormatError, IntegrityError: as `unflatten`. What lies in blobs is not looked at.
    """
    if not parts:
        raise inconsistent("a state has no root")
    built = [_Grower(parts[number], number, None).grow() for number in range(1, len(parts))]
    return _Grower(parts[0], 0, built).grow()


def leaves(tree: Branch | Leaf) -> Iterator[Leaf]:
    """The leaves of a tree in order, without what is `_metadata`."""
    if isinstance(tree, Leaf):
        yield tree
    else:
        for child in tree.children:
            yield from leaves(child)


class _Grower:
    """Grows one part. `built` are the components, for the root only."""

    def __init__(self, part: PartTuple, number: int, built: list[Branch | Leaf] | None) -> None:
        self._part = part
        self._number = number
        self._built = built
        self._taken = 0

    def grow(self) -> Branch | Leaf:
        path, node, values = self._part
        grown = self._node(node, path, 1 if path else 0)
        if self._taken != len(values):
            raise inconsistent(f"{len(values)} values for {self._taken} places")
        return grown

    def _node(self, node: Node, path: str, depth: int) -> Branch | Leaf:
        if node is None:
            return self._inline(path)
        found = parse(node, depth + 1)
        if isinstance(found, PartNode):
            if depth != 1 or self._built is None or found.number >= len(self._built):
                raise inconsistent(f"component number {found.number} is not where it belongs")
            return self._built[found.number]
        if not isinstance(found, MapNode | SequenceNode | ReducedNode):
            return Leaf(path, self._number, found, node)
        if depth >= DEPTH_MAX:
            raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
        if isinstance(found, ReducedNode):
            kind = found.kind if found.param is None else f"{found.kind} {found.param}"
            return Branch(path, kind, ("value",), (self._node(found.child, path, depth + 1),))
        keys = found.keys if isinstance(found, MapNode) else list(range(len(found.children)))
        children = [
            self._node(child, paths.join(path, paths.element(key)), depth + 1)
            for key, child in zip(keys, found.children, strict=True)
        ]
        extra = [
            self._node(child, paths.join(path, paths.METADATA), depth + 1) for child in getattr(found, "metadata", ())
        ]
        return Branch(path, found.kind, tuple(keys), tuple(children), extra[0] if extra else None)

    def _inline(self, path: str) -> Leaf:
        values: Sequence[Any] = self._part[2]
        if self._taken == len(values):
            raise inconsistent(f"more places than {self._taken} values")
        value = decode_value(values[self._taken])
        self._taken += 1
        return Leaf(path, self._number, None, None, value)
