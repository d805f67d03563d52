"""operations: the entries of the journal as users see them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import casckpt
from casckpt.errors import ConflictError, UsageError
from casckpt.odb.journal import Journal, Tail
from tests.support.build import noise
from tests.unit.ops.test_reflog import sealed


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def told(store: casckpt.Store) -> list[tuple[int, str]]:
    return [(one.number, one.op) for one in store.operations()]


def test_operations_are_the_entries_newest_first_through_all_journal_files(store: casckpt.Store) -> None:
    made = store.commit({"n": 1}, run="gpt", metrics={"loss": 1}, best="loss:min")
    sealed(store)
    store.tag("v1")
    store.note("v1", "good")
    ops = list(store.operations())
    assert [one.op for one in ops] == ["note", "tag", "commit", "init"]
    numbers = [one.number for one in ops]
    assert numbers == sorted(numbers, reverse=True)
    assert [(one.of, one.key, one.old, one.new) for one in ops[0].marks] == [(made.id, "note", None, "good")]
    assert [(one.of, one.key, one.old, one.new) for one in ops[2].settings] == [("gpt", "best", None, ["loss", "min"])]
    assert {one.ref for one in ops[2].refs} == {"runs/gpt/last", "runs/gpt/best"}
    assert [one.changes for one in ops] == [1, 1, 3, 0]
    assert ops[0].to_dict()["marks"] == [{"of": made.id, "key": "note", "old": None, "new": "good"}]


def test_a_change_of_a_ref_has_the_number_of_its_operation(store: casckpt.Store) -> None:
    store.commit({"n": 1}, run="gpt")
    store.tag("v1")
    numbers = {one.op: one.number for one in store.operations()}
    assert [(one.ref, one.operation) for one in store.reflog()] == [
        ("tags/v1", numbers["tag"]),
        ("runs/gpt/last", numbers["commit"]),
    ]
    assert next(store.reflog()).to_dict()["operation"] == numbers["tag"]


def test_what_was_taken_back_says_by_what_and_not_when_that_was_taken_back(store: casckpt.Store) -> None:
    store.commit({"n": 1}, run="gpt")
    store.tag("v1")
    first = store.undo()
    second = store.undo(first.operation.number)
    third = store.undo(second.operation.number)
    undone = {one.number: (one.undoes, one.undone_by) for one in store.operations(limit=4)}
    assert undone == {
        third.operation.number: (second.operation.number, None),
        second.operation.number: (first.operation.number, third.operation.number),
        first.operation.number: (first.undone.number, None),
        first.undone.number: (None, first.operation.number),
    }


def test_what_the_journal_keeps_for_itself_is_no_operation(store: casckpt.Store) -> None:
    store.commit({"n": 1}, run="gpt")
    with pytest.raises(ConflictError):
        store.commit({"bulk": noise("bulk", 200_000)}, run="gpt", expect=store.commit({"n": 2}, run="other").id)
    sealed(store)
    assert [op for _, op in told(store)] == ["commit", "commit", "init"]


def test_where_the_journal_before_is_gone_there_are_no_operations_of_it(store: casckpt.Store) -> None:
    store.commit({"n": 1}, run="gpt")
    sealed(store)
    store.tag("v1")
    store._repository.storage.unlink("journal/0.log")
    assert [op for _, op in told(store)] == ["tag"]


def test_only_the_files_that_are_asked_for_are_read(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({"n": 1}, run="gpt")
    sealed(store)
    store.tag("v1")
    read: list[int] = []
    read_file = Journal.read_file

    def recorded(journal: Journal, number: int) -> Tail:
        read.append(number)
        return read_file(journal, number)

    monkeypatch.setattr(Journal, "read_file", recorded)
    assert [one.op for one in store.operations(limit=1)] == ["tag"]
    assert read == [1]
    assert list(store.operations(0)) == []
    with pytest.raises(UsageError):
        store.operations(-1)
