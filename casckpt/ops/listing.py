"""What lies at a path of a commit, found without reading any chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from casckpt.errors import IntegrityError, NotFoundError, UsageError
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.opening import loader_of
from casckpt.ops.reports import Lost, PathInfo
from casckpt.ops.resolve import resolve
from casckpt.plan.revision import split_path
from casckpt.state import paths
from casckpt.state.flat import Node
from casckpt.state.nodes import AnyNode, MapNode, ReducedNode, SequenceNode, parse
from casckpt.state.select import subtree
from casckpt.state.walk import LeafInfo, walk


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf or a container of a commit.

    Args:
        path: canonical full path, empty for the whole state.
        loaded: the component it lies in; the root for the whole state.
        node, values: the part of that component that lies there.
        components: of the whole state the others, in the order in which its root numbers them, None for those that the
            commit has lost; else none.
        lost: by which rule and when it lost them.
    """

    loader: Loader
    path: str
    loaded: LoadedComponent
    node: Node
    values: Sequence[object]
    components: tuple[LoadedComponent | None, ...] = ()
    lost: Lost | None = None

    def leaves(self) -> Iterator[LeafInfo]:
        """The leaves at and below it, in walk order; those of components in their turn."""
        for _, leaf in self.owned_leaves():
            yield leaf

    def owned_leaves(self) -> Iterator[tuple[LoadedComponent, LeafInfo]]:
        """The same, each with the component it lies in."""
        for loaded, leaf in self.entries():
            if loaded is not None:
                yield loaded, leaf

    def entries(self) -> Iterator[tuple[LoadedComponent | None, LeafInfo]]:
        """The same, and where a component is lost, None and the place that it had."""
        for leaf in walk(self.path, self.node, self.values):
            if leaf.kind != "part":
                yield self.loaded, leaf
            elif not isinstance(leaf.value, int) or leaf.value >= len(self.components):
                raise IntegrityError(object=leaf.path, problem="it is a component that the tree does not list")
            else:
                component = self.components[leaf.value]
                if component is None:
                    yield None, leaf
                    continue
                for inner in component.leaves():
                    yield component, inner

    def sole_leaf(self) -> tuple[LoadedComponent, LeafInfo] | None:
        """The leaf it is, or the file that all of the commit is; None for every other container."""
        found = list(islice(self.entries(), 2))
        loaded, leaf = found[0]
        is_file = not self.path and leaf.kind == "file"
        if len(found) > 1 or loaded is None or (leaf.path != self.path and not is_file):
            return None
        return loaded, leaf

    def kinds(self) -> dict[str, str]:
        """The kinds of what lies one level below, by path; of small values the empty text. A leaf has none."""
        found = _simplest(self.node)
        if not isinstance(found, MapNode | SequenceNode):
            return {}
        keys = found.keys if isinstance(found, MapNode) else range(len(found.children))
        pairs = list(zip(map(paths.element, keys), found.children, strict=True))
        pairs += [(paths.METADATA, child) for child in getattr(found, "metadata", ())]
        kinds = {paths.join(self.path, name): "" if child is None else child[0] for name, child in pairs}
        for component in filter(None, self.components):
            kinds[component.name] = "" if component.structure.node is None else component.structure.node[0]
        return kinds


def place_of(database: Database, target: str) -> Place:
    """What `REV` or `REV:PATH` names.

    Elements of PATH are canonical, or as people type them: plain names and keys. Where PATH leads into a component,
    only that is read, so that damage elsewhere hits nobody.

    Raises:
        NotFoundError: the commit has nothing at that path.
        CommitDropped: it has nothing at all any more.
        CommitThinned: it has lost the component that the path leads into.
    """
    revision, path = split_path(target)
    return place_at(database, resolve(database, revision), (path or "").strip("/"))


def place_at(database: Database, identity: CommitId, path: str) -> Place:
    """What lies at a path of a commit, see `place_of`."""
    wanted = path.split("/")
    # A name that is lost is refused before it is looked for, also as people type it.
    loader = loader_of(database, identity, lambda name: not path or not _is_plain(name, wanted[0]))
    (root_name, root_id), *others = loader.tree().components
    drop = database.drop(identity)
    lost = () if drop is None else drop.parts or ()
    if not path:
        root = loader.component(root_name, root_id)
        rest = tuple(None if name in lost else loader.component(name, found) for name, found in others)
        record = None if drop is None else Lost(drop.rule, drop.time_ns)
        return Place(loader, "", root, root.structure.node, root.component.values, rest, record)
    exact = [(name, found) for name, found in others if name == wanted[0]]
    near = [(name, found) for name, found in others if _is_plain(name, wanted[0])]
    loaded = [loader.component(name, found) for name, found in exact or [(root_name, root_id), *near]]
    for is_same in (str.__eq__, _is_plain):
        for component in loaded:
            for leaf in component.leaves():
                elements = leaf.path.split("/")[: len(wanted)]
                if leaf.kind != "part" and len(elements) == len(wanted) and all(map(is_same, elements, wanted)):
                    canonical = "/".join(elements)
                    found = subtree(component.name, component.structure.node, component.component.values, canonical)
                    assert found is not None  # the leaf was found in the same nodes
                    return Place(loader, canonical, component, *found)
    raise NotFoundError(thing=f"{path!r} in commit {identity.hex()[:12]}")


def _is_plain(element: str, wanted: str) -> bool:
    """Whether a text is an element of a path, or the plain key that it stands for."""
    try:
        return wanted in (element, paths.text_of(element))
    except UnicodeError:  # the name of a component is whatever its tree says
        return False


def _simplest(node: Node) -> AnyNode | None:
    """What a node is in the end stored as. Its depth was checked by whoever walked it."""
    found = None if node is None else parse(node, 1)
    while isinstance(found, ReducedNode):
        found = None if found.child is None else parse(found.child, 1)
    return found


def size_of(loaded: LoadedComponent, leaf: LeafInfo) -> int | None:
    """Plain bytes of the blob a leaf lies in, None for one that lies in the tree itself.

    Raises:
        IntegrityError: there is no such blob.
    """
    if leaf.blob is None:
        return None
    if leaf.blob >= len(loaded.structure.sizes):
        raise IntegrityError(object=leaf.path, problem=f"it has bytes in blob {leaf.blob}, and there is none")
    return loaded.structure.sizes[leaf.blob]


def info(loaded: LoadedComponent, leaf: LeafInfo) -> PathInfo:
    """A leaf as users see it."""
    return PathInfo(leaf.path, leaf.kind, leaf.dtype, leaf.shape, size_of(loaded, leaf), leaf.value)


def entry(database: Database, target: str) -> PathInfo:
    """The leaf or container that `REV:PATH` names, or the file that all of a commit is. Reads no chunk."""
    place = place_of(database, target)
    sole = place.sole_leaf()
    if sole is not None:
        return info(*sole)
    folder = _Folder(place.path, "" if place.node is None else place.node[0])
    for loaded, leaf in place.owned_leaves():
        folder.take(loaded, leaf)
    return folder.info()


def pieces(database: Database, target: str) -> Iterator[bytes]:
    """The bytes of a file, text or bytes value, in pieces of at most 1 MiB; each is verified before it is given.

    Raises:
        NotFoundError: the commit has nothing at that path.
        UsageError: what lies there is something else.
        DamagedLeaf: stored bytes are wrong or missing; what came before them was right.
    """
    place = place_of(database, target)
    sole = place.sole_leaf()
    if sole is None or sole[1].kind not in ("file", "str", "bytes", "bytearray"):
        what = "a container" if sole is None else f"of the kind {sole[1].kind}"
        raise UsageError(problem=f"{paths.shown(place.path)} is {what}: it is no file, text or bytes")
    loaded, leaf = sole
    if leaf.blob is not None:
        size_of(loaded, leaf)
        yield from place.loader.pieces(loaded, leaf.blob)
    elif isinstance(leaf.value, str):
        yield leaf.value.encode("utf-8", "surrogatepass")
    elif isinstance(leaf.value, bytes | bytearray):
        yield bytes(leaf.value)


def listing(database: Database, target: str, *, recursive: bool) -> Iterator[PathInfo]:
    """What lies one level below `REV` or `REV:PATH`, in order; with `recursive` every leaf. Reads no chunk.

    Components that a thinned commit has lost stand in their places, as of the kind `lost`.

    Raises:
        NotFoundError: the commit has nothing at that path.
    """
    place = place_of(database, target)
    if recursive:
        for loaded, leaf in place.entries():
            yield _lost(place, leaf) if loaded is None else info(loaded, leaf)
        return
    kinds = place.kinds()
    depth = len(place.path.split("/")) if place.path else 0
    folder: _Folder | None = None
    for loaded, leaf in place.entries():
        if loaded is None:
            if folder is not None:
                yield folder.info()
            folder = None
            yield _lost(place, leaf)
            continue
        elements = leaf.path.split("/") if leaf.path else []
        if len(elements) <= depth:
            # Of a container that is stored as something simpler this is itself, which is not below itself.
            if not kinds:
                yield info(loaded, leaf)
            continue
        path = "/".join(elements[: depth + 1])
        if folder is None or folder.path != path:
            if folder is not None:
                yield folder.info()
            folder = _Folder(path, kinds.get(path, ""))
        folder.take(loaded, leaf)
    if folder is not None:
        yield folder.info()


def _lost(place: Place, leaf: LeafInfo) -> PathInfo:
    """What is to be said of a component that is not there any more."""
    return PathInfo(leaf.path, "lost", None, None, None, lost=place.lost)


class _Folder:
    """What lies at and below one path, summed up leaf by leaf."""

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self._kind = kind
        self._dtype: str | None = None
        self._itself: PathInfo | None = None
        self._leaves = 0
        self._sizes: dict[tuple[str, int], int] = {}

    def take(self, loaded: LoadedComponent, leaf: LeafInfo) -> None:
        """One more leaf."""
        found = info(loaded, leaf)
        if leaf.path == self.path:
            # A leaf, or what names the kind of a container that is stored as something simpler.
            self._itself = found
            return
        self._leaves += 1
        if leaf.blob is not None and found.nbytes is not None:
            self._sizes[loaded.name, leaf.blob] = found.nbytes

    def info(self) -> PathInfo:
        """The leaf, or the container with the plain bytes that its leaves lie in, each counted once."""
        if self._itself is not None and not self._leaves:
            return self._itself
        kind, dtype = (self._kind, None) if self._itself is None else (self._itself.kind, self._itself.dtype)
        return PathInfo(self.path, kind, dtype, None, sum(self._sizes.values()), leaves=self._leaves)
