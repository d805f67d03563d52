"""Parts of a stored structure: what a pattern selects, and the one node at a path.

A pattern is a canonical path in which `*` stands for any text inside one element, `?` for one character and `**`, as
an element, for any number of elements. A pattern that names a container selects all below it. Dicts lose the entries
in which nothing is selected; lists and tuples are taken whole or not at all, since their indices are their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from casckpt.errors import UsageError
from casckpt.state import paths
from casckpt.state.checks import inconsistent
from casckpt.state.flat import DEPTH_MAX, Node
from casckpt.state.nodes import AnyNode, MapNode, ObjectNode, PartNode, SequenceNode, parse

Selects = Callable[[str], bool]


def compile_patterns(patterns: str | Sequence[str]) -> Selects:
    """Whether a path, or a container above it, matches one of the patterns."""
    given = [patterns] if isinstance(patterns, str) else list(patterns) if isinstance(patterns, Iterable) else []
    if not given or not all(isinstance(pattern, str) for pattern in given):
        raise UsageError(problem=f"select is a pattern of paths or a list of them, not {patterns!r}")
    matches = re.compile("|".join(_expression(pattern) for pattern in given), re.DOTALL).match
    return lambda path: matches(path + "/") is not None


def _expression(pattern: str) -> str:
    """Matches the beginning of a path of which every element ends with a slash."""
    elements = pattern.strip("/").split("/")
    return "".join("(?:[^/]+/)*" if element == "**" else _text(element) + "/" for element in elements)


def _text(element: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character)) for character in element)


def prune(
    name: str, node: Node, values: Sequence[object], selects: Selects, parts: dict[int, int] | None = None
) -> tuple[Node, list[object]] | None:
    """What is selected of one component: its node and values; None if nothing is.

    Args:
        name, node, values: as in `flat.FlatComponent`; hostile input.
        parts: for the root: the new numbers of the components that are left.
    """
    pruner = _Pruner(values, selects, parts or {})
    kept, pruned = pruner.node(node, name, selects(name), 1 if name else 0)
    if pruner.at != len(values):
        raise inconsistent(f"{len(values)} values for {pruner.at} places")
    return (pruned, pruner.kept) if kept else None


class _Pruner:
    def __init__(self, values: Sequence[object], selects: Selects, parts: dict[int, int]) -> None:
        self._values = values
        self._selects = selects
        self._parts = parts
        self.at = 0
        self.kept: list[object] = []

    def node(self, node: Node, path: str, taken: bool, depth: int) -> tuple[bool, Node]:
        """Whether anything of a node is kept, and what."""
        taken = taken or self._selects(path)
        if node is None:
            return self._inline(taken), None
        found = parse(node, depth + 1)
        if isinstance(found, PartNode):
            number = self._parts.get(found.number)
            return number is not None, None if number is None else ["part", number]
        if not isinstance(found, MapNode | SequenceNode | ObjectNode):
            return taken, node
        if depth >= DEPTH_MAX:
            raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
        if isinstance(found, ObjectNode):
            taken = taken or self._any(found, path, depth)
            return taken, ["object", found.kind, found.param, self.node(found.child, path, taken, depth + 1)[1]]
        if isinstance(found, SequenceNode):
            taken = taken or self._any(found, path, depth)
            children = [
                self.node(child, paths.join(path, str(n)), taken, depth + 1) for n, child in enumerate(found.children)
            ]
            return taken, [found.kind, [child for _, child in children]]
        return self._mapping(node, found, path, taken, depth)

    def _mapping(self, node: list[object], found: MapNode, path: str, taken: bool, depth: int) -> tuple[bool, Node]:
        keys, children = [], []
        stored = node[1]
        assert isinstance(stored, list)
        for key, entry, child in zip(found.keys, stored, found.children, strict=True):
            kept, pruned = self.node(child, paths.join(path, paths.element(key)), taken, depth + 1)
            if kept:
                keys.append(entry)
                children.append(pruned)
        result: list[object] = [found.kind, keys, children]
        for child in found.metadata:
            kept, pruned = self.node(child, paths.join(path, paths.METADATA), taken, depth + 1)
            if kept:
                result.append(pruned)
        return taken or bool(keys) or len(result) > 3, result

    def _inline(self, taken: bool) -> bool:
        if self.at == len(self._values):
            raise inconsistent(f"more places than {self.at} values")
        if taken:
            self.kept.append(self._values[self.at])
        self.at += 1
        return taken

    def _any(self, found: SequenceNode | MapNode | ObjectNode, path: str, depth: int) -> bool:
        """Whether anything below is selected."""
        for name, child in _children(found):
            below = paths.join(path, name) if name else path
            if self._selects(below):
                return True
            inner = None if child is None else parse(child, depth + 2)
            if isinstance(inner, MapNode | SequenceNode | ObjectNode):
                if depth >= DEPTH_MAX:
                    raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
                if self._any(inner, below, depth + 1):
                    return True
        return False


def subtree(name: str, node: Node, values: Sequence[object], path: str) -> tuple[Node, list[object]] | None:
    """The node at a path below a component, and its values; None if there is none.

    Args:
        name, node, values: as in `flat.FlatComponent`; hostile input.
    """
    here, at, depth = name, 0, 1 if name else 0
    while here != path:
        found = None if node is None else parse(node, depth + 1)
        if isinstance(found, ObjectNode):
            found, depth = _inside(found, depth)
        if not isinstance(found, MapNode | SequenceNode) or depth >= DEPTH_MAX:
            return None
        for element, child in _children(found):
            below = paths.join(here, element)
            if path == below or path.startswith(below + "/"):
                here, node, depth = below, child, depth + 1
                break
            at += _count_values(child, depth + 1)
        else:
            return None
    return node, list(values[at : at + _count_values(node, depth)])


def _inside(found: ObjectNode, depth: int) -> tuple[AnyNode | None, int]:
    """What values are in the end stored as, and the depth it lies at."""
    inner: AnyNode | None = found
    while isinstance(inner, ObjectNode) and depth < DEPTH_MAX:
        depth += 1
        inner = None if inner.child is None else parse(inner.child, depth + 1)
    return inner, depth


def _children(found: MapNode | SequenceNode | ObjectNode) -> Iterator[tuple[str, Node]]:
    """The path elements of what is in a container, and its nodes; what a value is stored as has no element."""
    if isinstance(found, ObjectNode):
        yield "", found.child
        return
    if isinstance(found, SequenceNode):
        for index, child in enumerate(found.children):
            yield str(index), child
        return
    for key, child in zip(found.keys, found.children, strict=True):
        yield paths.element(key), child
    for child in found.metadata:
        yield paths.METADATA, child


def _count_values(node: Node, depth: int) -> int:
    """How many values the places in a node take."""
    if node is None:
        return 1
    found = parse(node, depth + 1)
    if not isinstance(found, MapNode | SequenceNode | ObjectNode):
        return 0
    if depth >= DEPTH_MAX:
        raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
    return sum(_count_values(child, depth + 1) for _, child in _children(found))
