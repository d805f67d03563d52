"""What a push sends of commits: the ids of all their objects, whole, thinned or as names with parents."""

from __future__ import annotations

from collections.abc import Iterable

from casckpt.errors import DamagedObject, UnreadableCommit
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb.database import Database
from casckpt.ops.reach import Reach
from casckpt.plan.transfer import Fresh, fresh
from casckpt.remote.holding import each_once


class Gathering:
    """The objects of commits of one store, as they are now. One thread.

    Memory: 32 bytes for each object.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reach = Reach(database)
        self._ids = bytearray()
        self._components: set[ObjectId] = set()
        self.commits: dict[CommitId, Fresh] = {}
        """Those gathered so far."""

    def add(self, commits: Iterable[tuple[CommitId, Commit]]) -> None:
        """Take in commits, those that were taken in before once.

        Raises:
            DamagedObject: an object that says what a commit needs is damaged or not there.
        """
        for identity, commit in commits:
            if identity not in self.commits:
                self.commits[identity] = Fresh(identity, commit, self._database.drop(identity))
                self._add(self.commits[identity])

    def ids(self) -> bytes:
        """The ids of all objects, 32 bytes each, every one once."""
        self._ids = bytearray(each_once(self._ids))
        return bytes(self._ids)

    def is_current(self) -> bool:
        """Whether what commits lost is as it was when they were taken in."""
        self._database.refresh()
        return all(self._database.drop(one.id) == one.drop for one in self.commits.values())

    def _add(self, one: Fresh) -> None:
        identity, commit, drop = one
        self._ids += identity
        for unit in (commit.config, commit.environment, commit.code, commit.data):
            if unit is not None and self._database.row(unit) is not None:
                self._ids += unit
        if drop is not None and drop.parts is None:
            return
        lost = () if drop is None else drop.parts or ()
        try:
            self._ids += commit.tree
            for name, component in self._reach.tree(identity, commit).components:
                if name not in lost and component not in self._components:
                    self._components.add(component)
                    for ids in self._reach.ids_of(identity, component):
                        self._ids += ids
        except UnreadableCommit as error:
            if isinstance(error.__cause__, DamagedObject):
                raise error.__cause__ from None
            raise


def new_commits(
    database: Database, ours: Iterable[CommitId], theirs: Iterable[CommitId]
) -> list[tuple[CommitId, Commit]]:
    """The commits that ours lead to and theirs do not, newest first."""
    return fresh(ours, theirs, database.commit)
