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
from casckpt.state.nodes import AnyNode, MapNode, PartNode, ReducedNode, SequenceNode, parse

Selects = Callable[[str], bool]


def compile_patterns(patterns: str | Sequence[str]) -> Selects:
    """Whether a path, or a container above it, matches one of the patterns."""
    given = [patterns] if isinstance(patterns, str) else list(patterns) if isinstance(patterns, Iterable) else []
    if not given or not all(isinstance(pattern, str) for pattern in given):
        raise UsageError(problem=f"select is a pattern of paths or a list of them, not {patterns!r}")
    matches = re.compile("|".join(_expression(pattern) for pattern in given), re.DOTALL).match
    return lambda path: matches(path + "/") is not None


def may_reach(patterns: str | Sequence[str], name: str) -> bool:
    """Whether patterns may select something of a component of that name, whatever is in it."""
    given = [patterns] if isinstance(patterns, str) else patterns
    return compile_patterns([pattern.strip("/").partition("/")[0] for pattern in given])(name)


def _expression(pattern: str) -> str:
    """Matches the beginning of a path of which every element ends with a slash.

    What follows a wildcard is taken at the first place where it fits, and for good: a later one fits no better. So the
    time is bounded by the lengths of both, also for patterns that somebody else chose.
    """
    runs: list[str] = [""]
    for element in pattern.strip("/").split("/"):
        if element == "**":
            runs.append("")
        else:
            runs[-1] += _text(element) + "/"
    return runs[0] + "".join(f"(?>(?:[^/]+/)*?{run})" for run in runs[1:])


def _text(element: str) -> str:
    first, *others = (
        "".join("[^/]" if char == "?" else re.escape(char) for char in part) for part in element.split("*")
    )
    if not others:
        return first
    return first + "".join(f"(?>[^/]*?{part})" for part in others[:-1]) + f"[^/]*{others[-1]}"


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
        if not isinstance(found, MapNode | SequenceNode | ReducedNode):
            return taken, node
        if depth >= DEPTH_MAX:
            raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
        if isinstance(found, ReducedNode):
            taken = taken or self._any(found, path, depth)
            return taken, ["reduced", found.kind, found.param, self.node(found.child, path, taken, depth + 1)[1]]
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

    def _any(self, found: SequenceNode | MapNode | ReducedNode, path: str, depth: int) -> bool:
        """Whether anything below is selected."""
        for name, child in _children(found):
            below = paths.join(path, name) if name else path
            if self._selects(below):
                return True
            inner = None if child is None else parse(child, depth + 2)
            if isinstance(inner, MapNode | SequenceNode | ReducedNode):
                if depth >= DEPTH_MAX:
                    raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
                if self._any(inner, below, depth + 1):
                    return True
        return False


def matched(name: str, node: Node, patterns: Sequence[str]) -> frozenset[str]:
    """The patterns that match a leaf or container of one component; hostile input.

    Args:
        name, node: as in `flat.FlatComponent`. The root itself has no name that a pattern could match.

    Cost: about 3 us for each node and 0.3 us more for each pattern; ends when all are found.
    """
    left = {pattern: compile_patterns(pattern) for pattern in patterns}
    stack: list[tuple[str, Node, int]] = [(name, node, 1 if name else 0)]
    while stack and left:
        path, node, depth = stack.pop()
        if path:
            left = {pattern: selects for pattern, selects in left.items() if not selects(path)}
        found = None if node is None else parse(node, depth + 1)
        if isinstance(found, MapNode | SequenceNode | ReducedNode):
            if depth >= DEPTH_MAX:
                raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
            for element, child in _children(found):
                stack.append((paths.join(path, element) if element else path, child, depth + 1))
    return frozenset(patterns) - left.keys()


def subtree(name: str, node: Node, values: Sequence[object], path: str) -> tuple[Node, list[object]] | None:
    """The node at a path below a component, and its values; None if there is none.

    Args:
        name, node, values: as in `flat.FlatComponent`; hostile input.
    """
    here, at, depth = name, 0, 1 if name else 0
    while here != path:
        found = None if node is None else parse(node, depth + 1)
        if isinstance(found, ReducedNode):
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


def _inside(found: ReducedNode, depth: int) -> tuple[AnyNode | None, int]:
    """What values are in the end stored as, and the depth it lies at."""
    inner: AnyNode | None = found
    while isinstance(inner, ReducedNode) and depth < DEPTH_MAX:
        depth += 1
        inner = None if inner.child is None else parse(inner.child, depth + 1)
    return inner, depth


def _children(found: MapNode | SequenceNode | ReducedNode) -> Iterator[tuple[str, Node]]:
    """The path elements of what is in a container, and its nodes; what a value is stored as has no element."""
    if isinstance(found, ReducedNode):
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
    if not isinstance(found, MapNode | SequenceNode | ReducedNode):
        return 0
    if depth >= DEPTH_MAX:
        raise inconsistent(f"nested more than {DEPTH_MAX} levels deep")
    return sum(_count_values(child, depth + 1) for _, child in _children(found))
