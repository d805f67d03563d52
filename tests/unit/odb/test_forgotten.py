"""Forgotten commits leave the tables in whatever order they are met, and history goes on over them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.commit import Commit
from casckpt.format.entry import FORGOTTEN, Drop, Entry, Mark
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.format.pack import Record
from casckpt.odb import seal
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.facts import Facts
from casckpt.odb.fold import fold
from casckpt.odb.forgotten import forgotten, is_forgotten, living
from casckpt.odb.repository import Repository
from tests.unit.odb.support import NOW, content, new_repository
from tests.unit.odb.test_fold import Packs, name, pack


def commit(number: int, *parents: CommitId, run: str = "r") -> tuple[CommitId, bytes]:
    data = Commit(TreeId(ObjectId(name("tree"))), parents, run, number, nbytes=number).encode()
    return CommitId(object_id(Kind.COMMIT, data)), data


def mark(identity: CommitId, *parents: CommitId, left: bool = True) -> Mark:
    return Mark(identity, FORGOTTEN, None, {"parents": list(parents), "left": left})


def made(*commits: tuple[CommitId, bytes]) -> Entry:
    rows = [(Record(one, 64, len(data), len(data), Kind.COMMIT), data) for one, data in commits]
    return Entry("commit", 1, objects=tuple(rows))


def folded(*entries: Entry, packs: Packs | None = None) -> t.MemoryTables:
    tables = t.MemoryTables()
    for entry in entries:
        fold(tables, entry, 3, 1000, packs or Packs({}))
    return tables


class View(Facts):
    """Facts of tables that do not change."""

    def _place(self) -> int:
        return 0


A, B, C, D = (a := commit(1)), (b := commit(2, a[0])), (c := commit(3, b[0])), commit(4, c[0], a[0])


def test_a_forgotten_commit_has_no_row_and_counts_nowhere() -> None:
    drop = Drop(B[0], None, "rule", 5)
    tables = folded(made(A, B, C), Entry("drop", 2, drops=(drop,)), Entry("forget", 3, marks=(mark(B[0], A[0]),)))
    for table in (t.ROWS, t.COMMITS, t.DROPS):
        assert tables.get(table, B[0]) is None
    assert t.decode_total(tables.get(t.TOTALS, b"r")) == (2, 4)
    assert is_forgotten(tables, B[0]) and not is_forgotten(tables, A[0])
    assert forgotten(tables) == {B[0]: ((A[0],), True)}


def test_the_last_commit_of_a_run_takes_its_total_along() -> None:
    tables = folded(made(A), Entry("forget", 2, marks=(mark(A[0]),)))
    assert list(tables.scan(t.TOTALS)) == []


def test_its_children_become_those_of_its_parents() -> None:
    view = View(folded(made(A, B, C, D), Entry("forget", 2, marks=(mark(B[0], A[0]), mark(C[0], B[0])))))
    found = view.commit(D[0])
    assert found is not None and found.parents == (A[0],)
    assert view.children(A[0]) == [D[0]]
    assert view.children(B[0]) == view.children(C[0]) == []


@pytest.mark.parametrize("again", [made(B), Entry("x", 9, packs=(pack("p"),))], ids=["in a frame", "in a pack"])
def test_what_brings_it_again_is_not_taken_in(again: Entry) -> None:
    packs = Packs({"p": [(Record(B[0], 64, len(B[1]), len(B[1]), Kind.COMMIT), B[1])]})
    before = folded(made(A, C), Entry("forget", 2, marks=(mark(B[0], A[0]),)))
    after = folded(made(A, C), Entry("forget", 2, marks=(mark(B[0], A[0]),)), again, packs=packs)
    for table in (t.ROWS, t.COMMITS, t.CHILDREN, t.TOTALS):
        assert dict(after.scan(table)) == dict(before.scan(table)), table


def test_parents_are_followed_once_however_often_they_are_named() -> None:
    marks = (mark(D[0], C[0], A[0]), mark(C[0], B[0], A[0]), mark(B[0], A[0], D[0]))
    assert living(folded(Entry("forget", 1, marks=marks)), [D[0], A[0], C[0]]) == (A[0],)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[CommitId, bytes]], dict[int, int]]:
    """Commits, each with parents among those before, and the number of commits after which one is forgotten."""
    commits: list[tuple[CommitId, bytes]] = []
    for number in range(draw(st.integers(1, 9))):
        parents = draw(st.sets(st.sampled_from(commits), max_size=2)) if commits else set()
        commits.append(commit(number + 1, *sorted(one for one, _ in parents), run=draw(st.sampled_from("rs"))))
    lost = draw(st.dictionaries(st.integers(0, len(commits) - 1), st.integers(0, 9), max_size=6))
    return commits, {number: max(number + 1, when) for number, when in lost.items()}


@given(histories(), st.booleans())
def test_tables_are_the_same_whether_commits_or_marks_come_first(history: Any, at_once: bool) -> None:
    commits, lost = history
    entries, marks = list[Entry](), list[Mark]()
    for count in range(1, 11):
        if count <= len(commits):
            entries.append(made(commits[count - 1]))
        gone = [number for number, when in lost.items() if when == count]
        fresh = [mark(commits[number][0], *Commit.decode(commits[number][1]).parents) for number in gone]
        marks += fresh
        if at_once and fresh:
            entries.append(Entry("forget", 2, marks=tuple(fresh)))
        elif fresh:
            entries += [Entry("forget", 2, marks=(one,)) for one in fresh]
    tables = folded(*entries)
    others = [
        folded(Entry("forget", 2, marks=tuple(marks)), *map(made, commits)),
        folded(*map(made, reversed(commits)), Entry("forget", 2, marks=tuple(reversed(marks)))),
    ]
    for other in others:
        for table in (t.ROWS, t.COMMITS, t.CHILDREN, t.TOTALS, t.MARKS):
            assert dict(other.scan(table)) == dict(tables.scan(table)), table
    view = View(tables)
    known = dict(view.commits())
    assert set(known) == {one for number, (one, _) in enumerate(commits) if number not in lost}
    for identity, found in known.items():
        assert view.children(identity) == sorted(one for one, other in known.items() if identity in other.parents)
        assert all(parent in known for parent in found.parents)


def test_sealing_packs_no_forgotten_commit_and_the_next_file_says_that_it_is_forgotten() -> None:
    repository = new_repository()
    for entry, riding in [
        (Entry("commit", NOW), [(A[0], Kind.COMMIT, A[1]), (B[0], Kind.COMMIT, B[1]), (C[0], Kind.COMMIT, C[1])]),
        (Entry("forget", NOW, marks=(mark(B[0], A[0]),)), []),
    ]:
        with repository.session() as session:
            session.publish(lambda entry=entry, riding=riding: (entry, riding))  # type: ignore[misc]
    database = repository.database
    with database.storage.lock("journal", exclusive=True, wait_s=0):
        database.refresh()
        seal.seal(database, uuid=repository.format.uuid, time_ns=NOW, by="test")
        assert database.journal.remove_before(database.tail.position.file) == [0]
    (sealed,) = database.pack_set()
    assert {one.id for one in database.records(sealed)} == {A[0], C[0]}
    files = [f"{folder}/{name}" for folder in ("journal", "packs") for name in repository.storage.list(folder)]
    assert not any(B[1] in content(repository.storage, name) for name in files)
    fresh = Database(Repository(repository.storage).storage, repository.format.uuid)
    found = fresh.commit(C[0])
    assert found is not None and found.parents == (A[0],)
    assert fresh.forgotten() == {B[0]: ((A[0],), True)}
