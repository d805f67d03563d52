"""Where the bytes of a commit are: by component, how many its first parent has too, and in how many packs they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casckpt.errors import CommitDropped, CommitThinned, RevisionNotFound
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import require_tree
from casckpt.ops.stored_leaves import Run, StoredLeaf, stored_leaves


@dataclass(frozen=True, slots=True)
class ComponentStorage:
    """One component of a commit. `name` is empty for what lies at the root of the state."""

    name: str
    leaves: int
    nbytes: int
    """Plain bytes of its leaves; what several of them share counts once."""
    shared: int
    """Those of them that the first parent has too."""
    packs: int
    """How many packs and journal files they lie in."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "leaves": self.leaves,
            "bytes": self.nbytes,
            "bytes_shared": self.shared,
            "packs": self.packs,
        }


@dataclass(frozen=True, slots=True)
class StorageInfo:
    """What a commit takes, compared with its first parent by the ids of chunks; no tensor is read."""

    commit: str
    parent: str | None
    """Its first parent, None if there is none whose state is here."""
    components: tuple[ComponentStorage, ...]
    packs: int
    leaves_added: int
    leaves_removed: int
    leaves_changed: int
    """Leaves that lie in chunks the parent does not have; of small ones in the same chunk not all need to differ."""
    added: int | None
    """Bytes the commit added to the store; None if that is no longer known."""

    @property
    def leaves(self) -> int:
        """How many leaves it has."""
        return sum(component.leaves for component in self.components)

    @property
    def nbytes(self) -> int:
        """Plain bytes of all components."""
        return sum(component.nbytes for component in self.components)

    @property
    def shared(self) -> int:
        """Those of them that the first parent has too."""
        return sum(component.shared for component in self.components)

    def to_dict(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "parent": self.parent,
            "leaves": self.leaves,
            "leaves_added": self.leaves_added,
            "leaves_removed": self.leaves_removed,
            "leaves_changed": self.leaves_changed,
            "bytes": self.nbytes,
            "bytes_shared": self.shared,
            "bytes_added": self.added,
            "packs": self.packs,
            "components": [component.to_dict() for component in self.components],
        }


def storage(database: Database, identity: CommitId) -> StorageInfo:
    """What a commit takes.

    Raises:
        CommitDropped, CommitThinned: its tree is not whole any more.

    Cost: reads the trees of both, the pages of large leaves, and one index row a chunk.
    """
    commit = require_tree(database, identity)
    leaves = stored_leaves(database, identity)
    parent = next(iter(commit.parents), None)
    before = None if parent is None else _whole(database, parent)
    known = {run for leaf in (before or {}).values() for run in leaf.runs}
    grouped: dict[str, list[StoredLeaf]] = {}
    for leaf in leaves.values():
        grouped.setdefault(leaf.loaded.name, []).append(leaf)
    files: set[str] = set()
    components = []
    for name, members in grouped.items():
        runs = {run for leaf in members for run in leaf.runs}
        found = _files(database, runs)
        files |= found
        inline = {leaf.info.blob: leaf for leaf in members if leaf.tiny is not None}.values()
        kept = [leaf for leaf in inline if _is_same(leaf, (before or {}).get(leaf.info.path))]
        nbytes = sum(run[2] for run in runs) + sum(leaf.nbytes for leaf in inline)
        shared = sum(run[2] for run in runs & known) + sum(leaf.nbytes for leaf in kept)
        components.append(ComponentStorage(name, len(members), nbytes, shared, len(found)))
    both = [] if before is None else [(leaf, before[path]) for path, leaf in leaves.items() if path in before]
    return StorageInfo(
        commit=identity.hex(),
        parent=parent.hex() if parent is not None and before is not None else None,
        components=tuple(sorted(components, key=lambda one: (-one.nbytes, one.name))),
        packs=len(files),
        leaves_added=len(leaves) - len(both),
        leaves_removed=len(before or {}) - len(both),
        leaves_changed=sum(not _is_same(leaf, other) for leaf, other in both),
        added=database.added(identity),
    )


def _whole(database: Database, identity: CommitId) -> dict[str, StoredLeaf] | None:
    """The leaves of a commit, None if its tree is not whole or the commit not here."""
    try:
        return stored_leaves(database, identity)
    except (CommitDropped, CommitThinned, RevisionNotFound):
        return None


def _is_same(leaf: StoredLeaf, other: StoredLeaf | None) -> bool:
    return other is not None and leaf.inside == other.inside and leaf.runs == other.runs


def _files(database: Database, runs: set[Run]) -> set[str]:
    """The files that hold the chunks of runs."""
    rows = (database.row(chunk) for chunk, _, _ in runs)
    names = (None if row is None else database.file_of(row) for row in rows)
    return {name for name in names if name is not None}
