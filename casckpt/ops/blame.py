"""blame: in which commit each leaf of a state changed last, by ids alone.

    leaves of REV -> the same of its first parent -> ... until every leaf has differed once or the line ends

What the tree says of a leaf is compared: its type, its layout, the value if the tree holds it, else the ids of its
chunks or pages. Trees and components of equal ids are the same and not read, and no chunk or page ever is. So of a
small leaf, which shares its chunk with others, it is known only that the chunk changed: `shared` says so.

A dropped commit has no tree. It is passed over: what differs across it changed in the commit behind it or in itself,
and the commit behind it is named as not `exact`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from casckpt.errors import UsageError
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId, TreeId
from casckpt.format.layout import Grouped, Tiny
from casckpt.format.objects import Structure
from casckpt.odb.database import Database
from casckpt.ops.history import resolve
from casckpt.ops.listing import place_at, size_of
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.reports import BlameLine
from casckpt.ops.stored_leaves import inside_of
from casckpt.plan.revision import split_path
from casckpt.state.walk import LeafInfo


class _Print(NamedTuple):
    """What a tree says of a leaf, in short: equal prints are equal leaves."""

    inside: bytes
    chunks: bytes
    is_grouped: bool

    def shares(self, other: _Print) -> bool:
        """Whether two that differ do so by the chunk alone that they share with other leaves."""
        return self.is_grouped and other.is_grouped and self.inside == other.inside


@dataclass(frozen=True, slots=True)
class _Seen:
    """A commit of the line, and how many come before it on the way back."""

    number: int
    identity: CommitId
    commit: Commit


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Leaves of one component that have not differed yet.

    Args:
        seen: the oldest commit known to have them so.
        gap: whether commits without a tree lie between that and the next.
    """

    name: str
    identity: ObjectId
    prints: dict[str, _Print]
    seen: _Seen
    gap: bool = False


class _Settled(NamedTuple):
    path: str
    change: str
    seen: _Seen
    gap: bool
    shared: bool


def blame(database: Database, path: str = "", revision: str = "@", by: int | None = None) -> Iterator[BlameLine]:
    """The commit in which each leaf at or below a path changed last, the newest change first, then by path.

    Args:
        by: a line for all leaves that have so many elements of their paths and the commit in common.

    Raises:
        UsageError: `by` is not 1 or more.
        NotFoundError: the commit has nothing at that path.

    Cost: reads the components of the commit that the path leads into, then of each first parent the tree and those
    components that changed and hold leaves still looked for. Memory: grows with the leaves of one commit.
    """
    if by is not None and (type(by) is not int or by < 1):
        raise UsageError(problem=f"by must be 1 or more, not {by!r}")
    text, inner = split_path(f"{revision}:{path}" if path else revision)
    identity = resolve(database, text)
    walk = _Walk(database, identity, (inner or "").strip("/"))
    totals: dict[str, int] = {}
    for name in walk.paths():
        totals[_prefix(name, by)] = totals.get(_prefix(name, by), 0) + 1
    for settled in walk.steps():
        yield from _lines(settled, by, totals)


class _Walk:
    """One way back along first parents."""

    def __init__(self, database: Database, identity: CommitId, path: str) -> None:
        self._database = database
        self._structures: dict[str, tuple[ObjectId, Structure]] = {}
        """The structure of each component as it was loaded last: most commits of a line share it."""
        place = place_at(database, identity, path)
        commit = database.commit(identity)
        assert commit is not None, "it was just looked into"
        self._seen = _Seen(0, identity, commit)
        found: dict[str, _Waiting] = {}
        for loaded, leaf in place.owned_leaves():
            waiting = found.setdefault(loaded.name, _Waiting(loaded.name, loaded.identity, {}, self._seen))
            waiting.prints[leaf.path] = _print(loaded, leaf)
            self._structures[loaded.name] = loaded.component.structure, loaded.structure
        self._waiting = list(found.values())

    def paths(self) -> Iterator[str]:
        """The paths of all leaves that are looked for."""
        for waiting in self._waiting:
            yield from waiting.prints

    def steps(self) -> Iterator[list[_Settled]]:
        """The leaves that settle at each commit of the line, from the newest commit to the oldest."""
        seen = self._seen
        tree: TreeId | None = seen.commit.tree
        while self._waiting:
            parents = seen.commit.parents
            commit = self._database.commit(parents[0]) if parents else None
            if commit is None:
                # A parent that the store does not have may have been different.
                ends = [replace(one, gap=one.gap or bool(parents)) for one in self._waiting]
                yield [_Settled(path, "first", one.seen, one.gap, False) for one in ends for path in one.prints]
                return
            seen = _Seen(seen.number + 1, parents[0], commit)
            if commit.tree == tree:
                self._waiting = [replace(one, seen=seen, gap=False) for one in self._waiting]
                continue
            drop = self._database.drop(seen.identity)
            if drop is not None and drop.parts is None:
                self._waiting = [replace(one, gap=True) for one in self._waiting]
                continue
            settled = self._compare(seen, () if drop is None else drop.parts or ())
            # What waits across a component that was given up was compared with an older tree than this.
            tree = None if any(one.gap for one in self._waiting) else commit.tree
            if settled:
                yield settled

    def _compare(self, seen: _Seen, thinned: Iterable[str]) -> list[_Settled]:
        """Hold the leaves that wait against a commit; gives those that differ in it."""
        loader = Loader(self._database, seen.identity, seen.commit, dict(self._structures.values()))
        components = dict(loader.tree().components)
        there = _There(loader, components)
        settled: list[_Settled] = []
        waiting: list[_Waiting] = []
        for one in self._waiting:
            if components.get(one.name) == one.identity:
                waiting.append(replace(one, seen=seen, gap=False))
                continue
            homes: dict[str, dict[str, _Print]] = {}
            for path, known in one.prints.items():
                homes.setdefault(_home(path, components), {})[path] = known
            for home, prints in homes.items():
                if home in thinned:
                    waiting.append(replace(one, prints=prints, gap=True))
                    continue
                other = there.prints(home, prints)
                same = {path: known for path, known in prints.items() if other.get(path) == known}
                if same:
                    waiting.append(_Waiting(home, components[home], same, seen))
                for path in prints.keys() - same.keys():
                    change = "changed" if path in other else "added"
                    shared = path in other and prints[path].shares(other[path])
                    settled.append(_Settled(path, change, one.seen, one.gap, shared))
        self._waiting = waiting
        for name, loaded in there.loaded.items():
            self._structures[name] = loaded.component.structure, loaded.structure
        return settled


@dataclass(frozen=True, slots=True)
class _There:
    """The components of a commit, each loaded once and only if it is asked for."""

    loader: Loader
    components: dict[str, ObjectId]
    loaded: dict[str, LoadedComponent] = field(default_factory=dict)

    def prints(self, name: str, wanted: dict[str, _Print]) -> dict[str, _Print]:
        """What a component says of those of the wanted paths that it has."""
        if name not in self.loaded:
            self.loaded[name] = self.loader.component(name, self.components[name])
        loaded = self.loaded[name]
        leaves = (leaf for leaf in loaded.leaves() if leaf.path in wanted and leaf.kind != "part")
        return {leaf.path: _print(loaded, leaf) for leaf in leaves}


def _home(path: str, components: dict[str, ObjectId]) -> str:
    """The component of a commit that a path leads into."""
    first = path.partition("/")[0]
    return first if first in components else ""


def _print(loaded: LoadedComponent, leaf: LeafInfo) -> _Print:
    size, component = size_of(loaded, leaf), loaded.component
    tiny, chunks, is_grouped = b"", b"", False
    if leaf.blob is not None and size is not None:
        place = loaded.places[leaf.blob]
        if isinstance(place, Tiny):
            tiny = component.tiny[place.offset : place.offset + size]
        elif isinstance(place, Grouped):
            chunks, is_grouped = loaded.entry(place.entry) + place.offset.to_bytes(8, "little"), True
        else:
            chunks = component.digests[place.entry * 32 : (place.entry + place.entries) * 32]
            if place.explicit is not None:
                chunks += component.spans[place.explicit * 8 : (place.explicit + place.entries) * 8]
    return _Print(_short(repr((inside_of(leaf), size, tiny)).encode()), _short(chunks), is_grouped)


def _short(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _prefix(path: str, by: int | None) -> str:
    return path if by is None else "/".join(path.split("/")[:by])


def _lines(settled: list[_Settled], by: int | None, totals: dict[str, int]) -> Iterator[BlameLine]:
    """Lines of what settled at one commit: those that had been the same since the newest commit first."""
    groups: dict[tuple[int, str, str], list[_Settled]] = {}
    for one in settled:
        groups.setdefault((one.seen.number, _prefix(one.path, by), one.change), []).append(one)
    for (number, path, change), members in sorted(groups.items()):
        commit = members[0].seen.commit
        yield BlameLine(
            path=path,
            leaves=len(members),
            of=totals[path],
            change=change,
            id=members[0].seen.identity.hex(),
            run=commit.run,
            step=commit.step,
            time_ns=commit.time_ns,
            commits=number + 1,
            exact=not any(one.gap for one in members),
            shared=all(one.shared for one in members),
        )
