"""The content of commits, brought from a remote: everything that a checkout of them will read.

    commits -> trees and metadata objects -> components -> structures, pages -> chunks

Level by level for some commits at a time, so that each level is few requests. Nothing is taken for complete because
its top is here: what retention freed may have left a tree behind. So everything is looked up, each component once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from casckpt.errors import IntegrityError, RemoteUntrusted
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId, short_id
from casckpt.format.objects import Component, Structure, Tree
from casckpt.ops.incoming import Incoming
from casckpt.ops.load import page_of

GROUP = 64
"""Commits at a time."""
COMPONENT_BYTES = 4 << 20
"""Plain bytes of components at a time."""
PAGES = 64
"""Pages at a time: each names up to 2 048 chunks."""
RECENT = 1 << 17
"""Chunks that are remembered as being here, since neighbours in a run share most of theirs."""
STRUCTURES = 8
T = TypeVar("T")


class Wanted(NamedTuple):
    """A commit whose content is to come, but for the components that it is to lack."""

    id: CommitId
    commit: Commit
    lacks: Callable[[str], bool]


class Content:
    """Brings the content of commits. One thread."""

    def __init__(self, incoming: Incoming, remote: str) -> None:
        self._incoming = incoming
        self._remote = remote
        self._done: set[ObjectId] = set()
        """Components and pages of which all that they name is here."""
        self._recent: set[ObjectId] = set()
        self._structures: dict[ObjectId, Structure] = {}
        self._trees: dict[ObjectId, Tree] = {}
        """Of the last commits: neighbours may have one state."""
        self.parts: dict[CommitId, tuple[str, ...]] = {}
        """The names of the components of each commit that was brought, without the root."""

    def bring(self, wanted: Iterable[Wanted]) -> None:
        """Make the content of these commits part of the session; errors as of `Incoming.metadata`.

        Raises:
            RemoteUntrusted: an object matches its id, and is not what it is used as.
        """
        for group in _slices(wanted, GROUP):
            trees = self._trees_of(group)
            metadata: list[ObjectId] = []
            components: dict[ObjectId, None] = {}
            for one in group:
                commit, tree = one.commit, trees[one.commit.tree]
                self.parts[one.id] = tuple(name for name, _ in tree.parts)
                about = (commit.config, commit.environment, commit.code, commit.data)
                metadata += [identity for identity in about if identity is not None]
                components |= {identity: None for name, identity in tree.components if not (name and one.lacks(name))}
            self._incoming.bring(metadata, Kind.META)
            for batch in self._sized(identity for identity in components if identity not in self._done):
                self._components(batch)

    def _trees_of(self, group: Sequence[Wanted]) -> dict[ObjectId, Tree]:
        wanted: dict[ObjectId, None] = dict.fromkeys(one.commit.tree for one in group)
        found = {identity: self._trees[identity] for identity in wanted if identity in self._trees}
        plains = self._incoming.metadata((one for one in wanted if one not in found), Kind.TREE)
        found |= {one: self._decoded(one, lambda: Tree.decode(plains[one])) for one in plains}  # noqa: B023 - at once
        self._trees = found
        return found

    def _components(self, ids: Sequence[ObjectId]) -> None:
        """Bring components with all that they name."""
        plains = self._incoming.metadata(ids, Kind.COMPONENT)
        components = {one: self._decoded(one, lambda: Component.decode(plains[one])) for one in ids}  # noqa: B023
        structures = self._structures_of(components.values())
        chunks: list[ObjectId] = []
        pages: dict[ObjectId, bool] = {}
        for one, component in components.items():
            structure = structures[component.structure]
            paged = self._decoded(one, lambda: _pages(structure, component))  # noqa: B023
            for entry, at in enumerate(range(0, len(component.digests), 32)):
                identity = ObjectId(component.digests[at : at + 32])
                if entry in paged:
                    pages[identity] = paged[entry]
                else:
                    chunks.append(identity)
        self._chunks(chunks)
        for batch in _slices((page for page in pages if page not in self._done), PAGES):
            found = self._incoming.metadata(batch, Kind.PAGE)
            for page in batch:
                self._chunks(self._decoded(page, lambda: page_of(found[page], pages[page])[0]))  # noqa: B023
            self._done.update(batch)
        self._done.update(ids)

    def _chunks(self, ids: Iterable[ObjectId]) -> None:
        fresh = [identity for identity in ids if identity not in self._recent]
        self._incoming.bring(fresh, Kind.CHUNK)
        if len(self._recent) > RECENT:
            self._recent.clear()
        self._recent.update(fresh[:RECENT])

    def _structures_of(self, components: Iterable[Component]) -> dict[ObjectId, Structure]:
        wanted = dict.fromkeys(component.structure for component in components)
        found = {identity: self._structures[identity] for identity in wanted if identity in self._structures}
        plains = self._incoming.metadata((one for one in wanted if one not in found), Kind.STRUCTURE)
        found |= {one: self._decoded(one, lambda: Structure.decode(plains[one])) for one in plains}  # noqa: B023
        self._structures = dict(islice(found.items(), STRUCTURES))
        return found

    def _sized(self, ids: Iterable[ObjectId]) -> Iterator[list[ObjectId]]:
        """Components, some at a time, by their plain bytes."""
        batch: list[ObjectId] = []
        nbytes = 0
        for identity in ids:
            length = self._incoming.length(identity)
            if batch and nbytes + length > COMPONENT_BYTES:
                yield batch
                batch, nbytes = [], 0
            batch.append(identity)
            nbytes += length
        if batch:
            yield batch

    def _decoded(self, identity: ObjectId, decode: Callable[[], T]) -> T:
        try:
            return decode()
        except IntegrityError as error:
            problem = f"object {short_id(identity)} matches its id, but {error}"
            raise RemoteUntrusted(remote=self._remote, problem=problem) from error


def _pages(structure: Structure, component: Component) -> dict[int, bool]:
    """The entries of a component's column that are pages, with whether the pages list lengths."""
    from casckpt.ops.reach import PAGE_ID_WIDTHS, pages_of  # numpy is not needed to look up what is new

    return {entry: width == PAGE_ID_WIDTHS[1] for entry, width in pages_of(structure, component).items()}


def _slices(items: Iterable[T], count: int) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, count)):
        yield batch
