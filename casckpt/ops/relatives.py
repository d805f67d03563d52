"""The parents and children of a commit, described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import describe, refs_by_commit
from casckpt.ops.values import CommitInfo


@dataclass(frozen=True, slots=True)
class Relatives:
    """The commits a commit was made from, in its order, and those made from it; parents that are not here are left out.

    `more` counts the children beyond the first hundred.
    """

    parents: tuple[CommitInfo, ...]
    children: tuple[CommitInfo, ...]
    more: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "parents": [commit.to_dict() for commit in self.parents],
            "children": [commit.to_dict() for commit in self.children],
            "more": self.more,
        }


CHILDREN_MAX = 100


def relatives(database: Database, identity: CommitId) -> Relatives:
    """The parents and the first children of a commit, by time. Cost: index look-ups."""
    refs = refs_by_commit(database)
    commit = database.commit(identity)
    parents = () if commit is None else tuple(dict.fromkeys(commit.parents))
    children = database.children(identity)
    made = [describe(database, child, refs) for child in children[:CHILDREN_MAX]]
    return Relatives(
        parents=tuple(describe(database, parent, refs) for parent in parents if database.has_commit(parent)),
        children=tuple(sorted(made, key=lambda child: (child.time_ns, child.id))),
        more=max(0, len(children) - CHILDREN_MAX),
    )
