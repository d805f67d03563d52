"""Facts: refs, commits, runs and what is known of them, as the tables of a store say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from casckpt.format.canonical import decode
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, Kind, ObjectId, object_id
from casckpt.odb import tables as t
from casckpt.odb.fold import decode_drop, mark_of
from casckpt.odb.forgotten import CHANGES, Forgotten, forgotten, living
from casckpt.odb.renames import Renames, present, renames_of


class Facts:
    """What tables say of refs and commits; the part of `Database` that reads no journal and no pack."""

    def __init__(self, tables: t.MemoryTables) -> None:
        self.tables = tables
        self._looked: dict[str, tuple[int, t.MemoryTables, Any]] = {}
        """What is asked for with every commit and seldom changes, with the place in the journal and the tables then."""
        self._lost: tuple[t.Tables, bytes, Mapping[CommitId, Forgotten]] = tables, b"", {}

    def _place(self) -> int:
        """The place in the journal up to which the tables are."""
        raise NotImplementedError

    def _stored_commit(self, identity: CommitId) -> bytes:
        """The commit object itself, from where it lies, verified."""
        raise NotImplementedError

    def ref(self, name: str) -> CommitId | None:
        """The commit a ref names."""
        value = self.tables.get(t.REFS, name.encode())
        return None if value is None else CommitId(ObjectId(value))

    def refs(self, prefix: str = "") -> dict[str, CommitId]:
        """All refs whose name starts with `prefix`, sorted by name."""
        found = sorted(self.tables.scan(t.REFS, prefix.encode()))
        return {name.decode(): CommitId(ObjectId(value)) for name, value in found}

    def own_refs(self) -> dict[str, CommitId]:
        """The refs that hold what they name, sorted by name: those of runs and tags.

        The others say where a remote is, or what lost a run or tag to a newer commit.
        """
        return {name: identity for name, identity in self.refs().items() if name.startswith(("runs/", "tags/"))}

    def commit(self, identity: CommitId) -> Commit | None:
        """A commit by its full id, None if the store has none.

        With the name that its run has now; in place of a forgotten parent stand the parents that one had.
        """
        value = self.tables.get(t.COMMITS, identity)
        return None if value is None else self._commit(identity, value)

    def _commit(self, identity: CommitId, value: bytes) -> Commit:
        data = t.decode_commit(value)[1]
        if object_id(Kind.COMMIT, data) != identity:  # a damaged index too large to be hashed when it was opened
            commit = Commit.decode(self._stored_commit(identity))
        else:  # folding puts no commit into the tables that it could not decode, and these are the same bytes
            commit = Commit.decode_known(data)
        renames, lost = self.renames(), self.forgotten()
        if lost and not lost.keys().isdisjoint(commit.parents):
            commit = replace(commit, parents=living(self.tables, commit.parents))
        return present(commit, renames) if renames else commit

    def has_commit(self, identity: CommitId) -> bool:
        """Whether the store has a commit."""
        return self.tables.get(t.COMMITS, identity) is not None

    def commit_ids(self) -> set[CommitId]:
        """The ids of all commits."""
        return {CommitId(ObjectId(key)) for key, _ in self.tables.scan(t.COMMITS)}

    def renames(self) -> Renames:
        """Renames of runs; looked up once for each place in the journal."""
        found: Renames = self._once("renames", lambda: renames_of(self.tables))
        return found

    def forgotten(self) -> Mapping[CommitId, Forgotten]:
        """Forgotten commits; looked up once for each change of them."""
        found: Mapping[CommitId, Forgotten] = self._once("forgotten", self._forgotten)
        return found

    def _forgotten(self) -> Mapping[CommitId, Forgotten]:
        tables = self.tables
        change = tables.get(t.META, CHANGES)
        if change is None:
            return {}
        known = self._lost
        if known[0] is not tables or known[1] != change:
            self._lost = known = tables, change, forgotten(tables)
        return known[2]

    def has_marks(self) -> bool:
        """Whether any commit has a mark; looked up once for each place in the journal."""
        found: bool = self._once("marks", lambda: self.tables.count(t.MARKS) > 0)
        return found

    def mark(self, identity: CommitId, key: str) -> Any:
        """A fact about a commit that is no part of it, None if there is none."""
        return mark_of(self.tables, identity, key) if self.has_marks() else None

    def _once(self, what: str, look: Callable[[], Any]) -> Any:
        """What was found when somebody looked at this place in the journal; else looks."""
        at, tables = self._place(), self.tables
        known = self._looked.get(what)
        if known is None or known[0] != at or known[1] is not tables:
            self._looked[what] = known = at, tables, look()
        return known[2]

    def added(self, identity: CommitId) -> int | None:
        """Bytes a commit added to the store when it was made; None if unknown."""
        value = self.tables.get(t.COMMITS, identity)
        return None if value is None else t.decode_commit(value)[0]

    def commits(self, prefix: bytes = b"") -> Iterator[tuple[CommitId, Commit]]:
        """All commits whose id starts with `prefix`, in no promised order."""
        for key, value in self.tables.scan(t.COMMITS, prefix):
            identity = CommitId(ObjectId(key))
            yield identity, self._commit(identity, value)

    def children(self, identity: CommitId) -> list[CommitId]:
        """Commits that name this one as a parent, sorted by id."""
        return sorted(CommitId(ObjectId(key[32:])) for key, _ in self.tables.scan(t.CHILDREN, identity))

    def totals(self) -> dict[str, tuple[int, int]]:
        """(commits, their plain bytes) of every run."""
        return {run.decode(): t.decode_total(value) for run, value in self.tables.scan(t.TOTALS)}

    def total(self, run: str) -> tuple[int, int]:
        """(commits, their plain bytes) of one run."""
        return t.decode_total(self.tables.get(t.TOTALS, run.encode()))

    def run_settings(self, run: str) -> dict[str, Any]:
        """Settings of a run, empty if it has none."""
        value = self.tables.get(t.RUNS, run.encode())
        return {} if value is None else dict(decode(value, "run settings"))

    def all_run_settings(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(run, its settings) of every run that has any."""
        for name, value in self.tables.scan(t.RUNS):
            yield name.decode(), dict(decode(value, "run settings"))

    def drop(self, identity: CommitId) -> Drop | None:
        """The record that a commit was dropped or thinned, None if it is whole."""
        value = self.tables.get(t.DROPS, identity)
        return None if value is None else decode_drop(identity, value)

    def drops(self) -> dict[CommitId, Drop]:
        """The records of all commits that were dropped or thinned."""
        return {CommitId(ObjectId(key)): decode_drop(key, value) for key, value in self.tables.scan(t.DROPS)}
