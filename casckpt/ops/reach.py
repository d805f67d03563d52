"""What commits reach: the ids of all objects that a commit needs to come back, as columns for `plan.reclaim`.

    commit -> metadata objects                     commit -> tree -> component -> structure, pages, chunks

Objects never change, so each is read once however many commits share it, and a second look reads only what is new.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from casckpt.errors import DamagedObject, FormatError, IntegrityError, UnreadableCommit
from casckpt.format.chunking import is_tiny
from casckpt.format.commit import Commit
from casckpt.format.elements import ELEMENTS
from casckpt.format.entry import PackRef
from casckpt.format.ids import CommitId, Kind, ObjectId, PackId, short_id
from casckpt.format.layout import Large, places
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.pack import Record
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.plan.reclaim import STAYS, Holder

PAGE_ID_WIDTHS = (32, 36)
"""Bytes of an entry of a page: an id, and its length where the layout lists lengths."""


@dataclass(frozen=True, slots=True)
class Loss:
    """That a commit lets go of its state, or of some components, and when in the order of all such commits."""

    rank: int
    parts: tuple[str, ...] | None = None
    """The components it loses; None for all of its state."""
    is_final: bool = True
    """Whether it cannot be taken back any more, so that it does not matter if what is lost can still be read."""


class _Gone(UnreadableCommit):
    """An object on the way is not in the store at all."""


class Source(Protocol):
    """What objects are read from."""

    def row(self, identity: bytes, /) -> object | None:
        """Where an object lies, None if it is not there."""

    def read(self, identity: ObjectId, kind: Kind, /) -> bytes | bytearray | memoryview:
        """Plain bytes of an object; DamagedObject if it is damaged or not there."""


class Reach:
    """The objects that commits of one store, or of a remote, reach. One thread.

    Keeps 8 bytes for each id of every component it has seen; 80 MB for ten million.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._packs = source.packs if isinstance(source, Database) else None
        self._trees: dict[ObjectId, Tree] = {}
        self._components: dict[ObjectId, Ids] = {}
        self._structures: dict[ObjectId, tuple[Structure, dict[int, int] | None]] = {}
        self._places: dict[ObjectId, tuple[str, Record]] = {}
        self._structure_of: dict[ObjectId, ObjectId] = {}
        """By component."""
        self._plain: dict[ObjectId, tuple[int, ...]] = {}
        """By structure."""

    def learn(self, pack: PackRef, records: Iterable[Record]) -> None:
        """Take in where a pack of the store holds trees and components: then nobody asks the index for each of them.

        Of a large store that would touch nearly every page of it. Where a pack is damaged, it is asked all the same.
        """
        name = pack_name(pack.id)
        self._places.update((record.id, (name, record)) for record in records)

    def unlearn(self, packs: Collection[PackId]) -> None:
        """Take in that packs left the store."""
        names = set(map(pack_name, packs))
        if names:
            self._places = {unit: place for unit, place in self._places.items() if place[0] not in names}

    def holders(
        self, commits: Iterable[tuple[CommitId, Commit]], losses: Mapping[CommitId, Iterable[Loss]]
    ) -> list[Holder]:
        """What commits reach, each holder once.

        Args:
            losses: of commits that let go of something; all others stay whole. Of what they let go, objects that are
                not in the store any more are passed over.

        Raises:
            UnreadableCommit: an object on the way is damaged, so that nobody knows what the commit needs.
        """
        ranks: dict[ObjectId, tuple[int, int]] = {}
        for identity, commit in commits:
            for unit, rank in self._ranked(identity, commit, losses.get(identity, ())):
                first, last = ranks.get(unit, (rank, rank))
                ranks[unit] = min(first, rank), max(last, rank)
        return [Holder(self._ids(unit), *both) for unit, both in ranks.items()]

    def component(self, commit: CommitId, identity: ObjectId) -> Ids:
        """What a component of a commit reaches, as prefixes of ids, its own first.

        Raises:
            UnreadableCommit: an object on the way is damaged.
        """
        self._component(commit, identity)
        return self._components[identity]

    def plain_bytes(self, component: ObjectId) -> tuple[int, ...]:
        """Plain bytes of the leaves of a component that was read, by the code of their element type.

        Those of leaves so small that they lie in the component itself come last.
        """
        return self._plain[self._structure_of[component]]

    def shrink(self, nbytes: int) -> None:
        """Forget what was read longest ago, until what is kept takes about so many bytes."""
        self._structures.clear()
        self._places.clear()
        excess = sum(map(_tree_bytes, self._trees.values())) - nbytes
        excess += sum(map(_component_bytes, self._components.values()))
        while excess > 0 and self._components:
            identity = next(iter(self._components))
            excess -= _component_bytes(self._components.pop(identity))
            del self._structure_of[identity]
        while excess > 0 and self._trees:
            excess -= _tree_bytes(self._trees.pop(next(iter(self._trees))))

    def is_whole(self, identity: CommitId, commit: Commit, lost: Collection[str] = ()) -> bool:
        """Whether every object of a commit is in the store, but for those of components that it lost.

        Cost: a look-up for each object, up to the first that is not there.
        """
        if not self._are_listed(commit.tree):
            return False
        try:
            for name, component in self.tree(identity, commit).components:
                if name in lost:
                    continue
                # Each object is looked up before it is read: a search for other copies of what was freed takes long.
                if not (self._are_listed(component) and all(map(self._are_listed, self.ids_of(identity, component)))):
                    return False
        except UnreadableCommit:
            return False
        return True

    def _are_listed(self, ids: bytes) -> bool:
        """Whether packs of the set or the journal list all of these objects."""
        row = self._source.row
        return all(row(ids[at : at + 32]) is not None for at in range(0, len(ids), 32))

    def _ranked(self, identity: CommitId, commit: Commit, losses: Iterable[Loss]) -> Iterator[tuple[ObjectId, int]]:
        """(unit, rank) for everything that a commit has; a unit is a component, a tree or a metadata object."""
        for unit in (commit.config, commit.environment, commit.code, commit.data):
            if unit is not None:
                yield unit, STAYS
        whole: Loss | None = None
        parts: dict[str, Loss] = {}
        for loss in losses:
            if loss.parts is None:
                whole = loss
            else:
                parts.update(dict.fromkeys(loss.parts, loss))
        if not self._can_read(identity, commit.tree, whole, self._tree):
            return
        yield commit.tree, STAYS if whole is None else whole.rank
        for name, component in self._trees[commit.tree].components:
            lost = parts.get(name)
            lost = whole if lost is None or (whole is not None and whole.rank < lost.rank) else lost
            if self._can_read(identity, component, lost, self._component):
                yield component, STAYS if lost is None else lost.rank

    def _can_read(
        self, commit: CommitId, unit: ObjectId, loss: Loss | None, read: Callable[[CommitId, ObjectId], None]
    ) -> bool:
        """Read a unit; False if it is lost and, for good, cannot be read, or is not there any more."""
        if loss is not None and not self._is_known(unit) and self._source.row(unit) is None:
            return False
        try:
            read(commit, unit)
        except _Gone:
            # Where a grace was ended early, the store may have a part of what still waits.
            if loss is None:
                raise
            return False
        except UnreadableCommit:
            if loss is None or not loss.is_final:
                raise
            return False
        return True

    def _is_known(self, unit: ObjectId) -> bool:
        return unit in self._trees or unit in self._components or unit in self._places

    def tree(self, identity: CommitId, commit: Commit) -> Tree:
        """The tree of a commit.

        Raises:
            UnreadableCommit: it is damaged.
        """
        self._tree(identity, commit.tree)
        return self._trees[commit.tree]

    def _ids(self, unit: ObjectId) -> Ids:
        """The ids of a unit; a tree and a metadata object are one."""
        known = self._components.get(unit)
        return prefixes(unit) if known is None else known

    def _tree(self, commit: CommitId, identity: ObjectId) -> None:
        if identity not in self._trees:
            self._trees[identity] = Tree.decode(self._read(commit, identity, Kind.TREE))

    def _component(self, commit: CommitId, identity: ObjectId) -> None:
        if identity not in self._components:
            found = [prefixes(part) for part in self.ids_of(commit, identity)]
            self._components[identity] = np.concatenate(found)

    def ids_of(self, commit: CommitId, identity: ObjectId) -> Iterator[bytes]:
        """The whole ids of everything that a component of a commit reaches, its own first, some at a time.

        32 bytes each, joined. What they name is read only after it was told.

        Raises:
            UnreadableCommit: an object on the way is damaged.
        """
        component = Component.decode(self._read(commit, identity, Kind.COMPONENT))
        self._structure_of[identity] = component.structure
        yield identity + component.structure
        yield component.digests
        try:
            paged = self._paged(commit, component)
        except UnreadableCommit:
            raise
        except IntegrityError as error:
            raise UnreadableCommit(commit=short_id(commit), problem=str(error)) from error
        for entry, width in paged.items():
            page = self._read(commit, ObjectId(component.digests[entry * 32 : entry * 32 + 32]), Kind.PAGE)
            count = len(page) // width
            yield page[: count * 32]

    def _paged(self, commit: CommitId, component: Component) -> dict[int, int]:
        """The entries of a component's column that are pages, and how wide the entries of each page are."""
        known = self._structures.get(component.structure)
        if known is None:
            structure = Structure.decode(self._read(commit, component.structure, Kind.STRUCTURE))
            # Where no blob has a layout of its own, the column of every such component looks the same.
            fixed = None if structure.layouts else pages_of(structure, component)
            known = self._structures[component.structure] = structure, fixed
            self._plain[component.structure] = _plain_bytes(structure)
        structure, paged = known
        return pages_of(structure, component) if paged is None else paged

    def _read(self, commit: CommitId, identity: ObjectId, kind: Kind) -> bytes:
        name, record = self._places.get(identity, ("", None))
        if record is not None and record.kind == kind and self._packs is not None:
            with contextlib.suppress(DamagedObject, FormatError):
                return bytes(self._packs.read_alone(name, record))
        try:
            return bytes(self._source.read(identity, kind))
        except (DamagedObject, FormatError) as error:
            kind_of = UnreadableCommit if self._source.row(identity) is not None else _Gone
            raise kind_of(commit=short_id(commit), problem=f"{error.summary}: {error.reason}") from error


def _plain_bytes(structure: Structure) -> tuple[int, ...]:
    """Plain bytes of the blobs of a structure by element code, those of tiny ones last."""
    found = [0] * (len(ELEMENTS) + 1)
    for code, size in zip(structure.elements, structure.sizes, strict=True):
        found[-1 if is_tiny(size) else code if code < len(ELEMENTS) else 0] += size
    return tuple(found)


def _tree_bytes(tree: Tree) -> int:
    """Memory of a tree, about."""
    return 400 + 250 * len(tree.parts)


def _component_bytes(ids: Ids) -> int:
    """Memory of what a component reaches, with its place among others, about."""
    return 300 + ids.nbytes


def pages_of(structure: Structure, component: Component) -> dict[int, int]:
    """The entries of a component's column that are pages, and how wide the entries of each page are."""
    found: dict[int, int] = {}
    for place in places(structure, component):
        if isinstance(place, Large) and place.paged:
            width = PAGE_ID_WIDTHS[place.explicit is not None]
            found.update(dict.fromkeys(range(place.entry, place.entry + place.entries), width))
    return found
