"""The history as a graph: which commits are drawn, what a gap stands for, and how little is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import pytest

import casckpt
from casckpt.errors import MetricNotFound, RevisionNotFound, UsageError
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId, ObjectId
from casckpt.ops.graph import GraphRow


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as found:
        yield found


def commit(store: casckpt.Store, run: str, step: int, *parents: str) -> str:
    words = {"parents": tuple(f"id:{parent}" for parent in parents)} if parents else {}
    return store.commit({"x": step}, run=run, step=step, metrics={"loss": 1 / step}, **words).id  # type: ignore[arg-type]


def drop(store: casckpt.Store, *commits: str, parts: tuple[str, ...] | None = None) -> None:
    drops = tuple(Drop(CommitId(ObjectId(bytes.fromhex(one))), parts, "keep last 1", time.time_ns()) for one in commits)
    with store._repository.session() as session:
        session.publish(lambda: (Entry("drop", time.time_ns(), drops=drops, by="test"), []))


def steps(rows: Iterator[GraphRow]) -> list[int | str | None]:
    """The steps of the commits, and the kinds of the other rows."""
    return [one.row.kind if one.commit is None else one.commit.step for one in rows]


@pytest.fixture
def forked(store: casckpt.Store) -> casckpt.Store:
    """Steps 1 to 4 of `a`; 5 and 6 of `b`, which leaves `a` at 2."""
    made = [commit(store, "a", step) for step in (1, 2, 3, 4)]
    fifth = commit(store, "b", 5, made[1])
    commit(store, "b", 6, fifth)
    return store


def test_everything_is_drawn_with_the_fork(forked: casckpt.Store) -> None:
    assert steps(forked.graph()) == [6, 5, 4, 3, "edges", 2, 1]
    assert steps(forked.graph("a")) == [4, 3, 2, 1]
    assert [one.commit for one in forked.graph("b") if one.commit] == list(forked.log("b"))


def test_a_range_ends_in_gaps_that_name_where_it_goes_on(forked: casckpt.Store) -> None:
    rows = list(forked.graph("a..b"))
    assert steps(iter(rows)) == [6, 5, "gap"]
    assert rows[-1].row.identity is not None
    assert rows[-1].row.identity.hex() == forked.show("a~2").id
    assert steps(forked.graph("a...b"))[:4] == [6, 5, 4, 3]


def test_a_limit_counts_commits_and_leaves_lines_open(forked: casckpt.Store) -> None:
    rows = list(forked.graph(limit=3))
    assert steps(iter(rows)) == [6, 5, 4, "gap"]
    assert (rows[-1].row.gaps, rows[-1].row.hidden) == ((0, 1), 0)
    assert list(forked.graph(limit=0)) == []
    with pytest.raises(UsageError):
        next(forked.graph(limit=-1))


def test_a_filter_leaves_gaps_with_how_many_it_left_out(forked: casckpt.Store) -> None:
    rows = list(forked.graph("a", where="step = 4 or step = 1"))
    assert steps(iter(rows)) == [4, "gap", 1]
    assert rows[1].row.hidden == 2
    assert steps(forked.graph("a", where="step > 2 and step < 4")) == [3, "gap"]
    assert list(forked.graph("a", where="step > 9")) == []
    with pytest.raises(MetricNotFound):
        list(forked.graph("a", where="los < 1"))
    with pytest.raises(RevisionNotFound):
        list(forked.graph("nothing"))


def test_dropped_commits_are_gaps_unless_something_names_or_wants_them(forked: casckpt.Store) -> None:
    drop(forked, forked.show("a~1").id, forked.show("a~2").id)
    drop(forked, forked.show("a~3").id, parts=("opt",))
    rows = list(forked.graph("a"))
    assert steps(iter(rows)) == [4, "gap", 1]
    assert (rows[1].row.dropped, rows[1].row.hidden) == (2, 0)
    assert rows[2].commit is not None
    assert rows[2].commit.thinned == ("opt",)
    assert steps(forked.graph("a", where="step < 9")) == [4, 3, 2, 1]
    forked.tag("keep", "a~2")
    assert steps(forked.graph("a")) == [4, "gap", 2, 1]


def test_a_row_as_json_names_its_commit_and_its_lanes(forked: casckpt.Store) -> None:
    join = next(one for one in forked.graph() if one.row.kind == "edges").to_dict()
    assert (join["above"], join["below"], join["lane"], join["tied"], join["commit"]) == ([0, 1], [0], 0, [1], None)
    first = next(forked.graph()).to_dict()
    assert (first["kind"], first["commit"], first["lane"]) == ("commit", forked.show("b").id, 0)


def test_of_a_long_history_only_what_is_taken_is_read(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 200):
        commit(store, "a", step)
    read: list[CommitId] = []
    database = store._repository.database
    original = database.commit
    monkeypatch.setattr(database, "commit", lambda identity: read.append(identity) or original(identity))
    assert len(list(islice(store.graph("a"), 10))) == 10
    assert len(read) <= 16
