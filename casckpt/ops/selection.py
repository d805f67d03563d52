"""What of a commit is asked for: its components, reduced to what patterns select, and the blobs that takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from casckpt.errors import NotFoundError, UsageError
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.opening import loader_of
from casckpt.ops.remains import lost_parts
from casckpt.state.collector import paused
from casckpt.state.flat import Node
from casckpt.state.select import Selects, compile_patterns, may_reach, prune, subtree
from casckpt.state.unflatten import Part
from casckpt.state.walk import LeafInfo, contents, walk

Links = tuple[tuple[tuple[int, int], ...], ...]
Patterns = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One component, as far as it was chosen: its own node and values, and the whole it is a part of."""

    loaded: LoadedComponent
    node: Node
    values: Sequence[object]
    packed: frozenset[int]
    """Blobs that are texts or packed numbers, of which nothing keeps the memory."""
    reduced: bool
    """Whether there are values of classes, or of other types that are stored as something simpler."""
    files: bool
    """Whether there are files or links."""

    def leaves(self) -> Iterator[LeafInfo]:
        """Its leaves in walk order."""
        return walk(self.loaded.name, self.node, self.values)

    def leaves_at(self, path: str) -> Iterator[LeafInfo]:
        """Its leaves, if the part lies at a path."""
        return walk(path, self.node, self.values)

    def blobs(self) -> Collection[int]:
        """The blobs its leaves lie in, ascending."""
        count = len(self.loaded.structure.sizes)
        if self.node is self.loaded.structure.node:
            return range(count)
        found = {leaf.blob for leaf in self.leaves() if leaf.blob is not None}
        return sorted(blob for blob in found if blob < count)

    def size(self, blob: int) -> int:
        """Plain bytes of a blob."""
        return self.loaded.structure.sizes[blob]


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen components of a commit, the root first, and which of their blobs are the same memory."""

    loader: Loader
    chosen: list[Chosen]
    links: Links

    def parts(self, memories: Sequence[dict[int, memoryview]]) -> list[Part]:
        """What `unflatten` makes a state of.

        Args:
            memories: filled memory of the blobs of each component; blobs that are linked to an earlier one may miss.
        """
        return [_part(self.loader, chosen, found) for chosen, found in zip(self.chosen, memories, strict=True)]

    def at(self, path: str) -> Chosen | None:
        """The leaf or container at a path, None if there is none."""
        for one in reversed(self.chosen):  # the root last: a component's name is an entry of it too
            name = one.loaded.name
            if not name or path == name or path.startswith(name + "/"):
                # The root has a leaf or container of its own only where no component was taken out of it.
                is_here = path or len(self.chosen) == 1
                found = subtree(name, one.node, one.values, path) if is_here else None
                if found is not None:
                    return chosen_part(one.loaded, *found)
        return None

    def own_blobs(self) -> Iterator[tuple[Chosen, Collection[int]]]:
        """Every component and its blobs, without those that are linked to an earlier one's."""
        later = {tuple(member) for group in self.links for member in group[1:]}
        for number, chosen in enumerate(self.chosen):
            blobs = chosen.blobs()
            yield chosen, [blob for blob in blobs if (number, blob) not in later] if later else blobs


def select_state(database: Database, identity: CommitId, patterns: Patterns | None = None) -> Selection:
    """The state of a commit, or what patterns select of it; reads no chunk.

    Raises:
        NotFoundError: nothing in it matches.
        UsageError: the commit holds files, not a live state.
        CommitThinned: it lacks a component that the patterns may select something of.
    """

    def is_unasked(component: str) -> bool:
        return patterns is not None and not may_reach(patterns, component)

    loader = loader_of(database, identity, is_unasked)
    tree, components = loader.tree(), _components(database, identity, loader)
    if patterns is None:
        whole = [loaded for loaded in components if loaded is not None]
        chosen = [_whole(loaded) for loaded in whole]
        selection = Selection(loader, chosen, tree.links)
    else:
        selection = Selection(loader, *_reduced(components, tree.links, compile_patterns(patterns)))
        if not selection.chosen:
            raise NotFoundError(thing=f"a leaf that matches {patterns!r} in commit {loader.commit}")
    if any(one.files for one in selection.chosen):
        raise UsageError(problem="the commit holds files: restore it with Store.checkout_path")
    return selection


def what_is_left(database: Database, identity: CommitId) -> Selection:
    """The state or the files of a commit, or of a thinned one what it has not lost; reads no chunk.

    Raises:
        CommitDropped: nothing is left.
    """
    loader = loader_of(database, identity, lambda component: True)
    tree, components = loader.tree(), _components(database, identity, loader)
    if None not in components:
        return Selection(loader, [_whole(loaded) for loaded in components if loaded is not None], tree.links)
    return Selection(loader, *_reduced(components, tree.links, lambda path: True))


def _components(database: Database, identity: CommitId, loader: Loader) -> list[LoadedComponent | None]:
    """The components of a commit, the root first; None in the places of those that it has lost."""
    lost = lost_parts(database, identity)
    with paused():
        return [None if name in lost else loader.component(name, found) for name, found in loader.tree().components]


def chosen_part(loaded: LoadedComponent, node: Node, values: Sequence[object]) -> Chosen:
    """A part of a component."""
    found = contents(node)
    return Chosen(loaded, node, values, found.packed, found.reduced, found.files)


def _whole(loaded: LoadedComponent) -> Chosen:
    return chosen_part(loaded, loaded.structure.node, loaded.component.values)


def _reduced(components: list[LoadedComponent | None], links: Links, selects: Selects) -> tuple[list[Chosen], Links]:
    """What is selected of components, of which those are None that the commit has lost, and of their links.

    The root is never lost; if nothing of it is selected, there is nothing at all.
    """
    numbers: dict[int, int] = {}
    chosen: list[Chosen] = []
    for number, loaded in enumerate(components[1:]):
        if loaded is None:
            continue
        found = prune(loaded.name, loaded.structure.node, loaded.component.values, selects)
        if found is not None:
            numbers[number] = len(chosen)
            chosen.append(chosen_part(loaded, *found))
    root = components[0]
    assert root is not None
    found = prune("", root.structure.node, root.component.values, selects, numbers)
    if found is None:
        return [], ()
    chosen.insert(0, chosen_part(root, *found))
    places = {0: 0} | {number + 1: new + 1 for number, new in numbers.items()}
    blobs = [set(one.blobs()) for one in chosen]
    kept = []
    for group in links:
        members = [(places[part], blob) for part, blob in group if part in places and blob in blobs[places[part]]]
        if len(members) > 1:
            kept.append(tuple(members))
    return chosen, tuple(kept)


def _part(loader: Loader, chosen: Chosen, memories: dict[int, memoryview]) -> Part:
    def memory(blob: int) -> memoryview:
        found = memories.get(blob)
        return loader.memory(chosen.loaded, blob) if found is None else found

    return Part(chosen.loaded.name, chosen.node, chosen.values, memory, chosen.loaded.structure.sizes)
