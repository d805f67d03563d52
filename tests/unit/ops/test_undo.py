"""undo: every operation is taken back as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import casckpt
from casckpt.errors import (
    AlreadyUndone,
    NothingToUndo,
    NotUndoable,
    ReadOnlyStore,
    RevisionNotFound,
    UndoConflict,
    UsageError,
)
from casckpt.format.canonical import decode
from casckpt.format.entry import Drop, Entry, PackRef, RefMove
from casckpt.format.ids import CommitId, ObjectId, PackId
from casckpt.odb import tables as t
from tests.support.build import noise
from tests.unit.ops.test_reflog import sealed


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        for step, loss in enumerate((0.5, 0.25)):
            made.commit({"n": step}, run="gpt", step=step, metrics={"loss": loss}, best="loss:min")
        yield made


def view(store: casckpt.Store) -> dict[str, Any]:
    """All that operations change."""
    database = store._repository.database
    database.refresh()
    names = (t.REFS, t.MARKS, t.RUNS, t.DROPS, t.TOTALS)
    return {name: dict(database.tables.scan(name)) for name in names}


def number(store: casckpt.Store, op: str) -> int:
    """Of the newest operation of a kind."""
    return next(one.number for one in store.operations() if one.op == op)


def published(store: casckpt.Store, entry: Entry) -> int:
    with store._repository.session() as session:
        return session.publish(lambda: (entry, []))


CHANGES: dict[str, Callable[[casckpt.Store], object]] = {
    "tag": lambda store: store.tag("v2", "gpt~1"),
    "untag": lambda store: store.untag("v1"),
    "pin": lambda store: store.pin("gpt"),
    "pin-again": lambda store: store.pin("gpt~1", "30d"),
    "unpin": lambda store: store.unpin("gpt~1"),
    "note": lambda store: store.note("gpt", "x"),
    "note-again": lambda store: store.note("gpt~1", "other"),
    "note-removed": lambda store: store.note("gpt~1", ""),
    "run-fork": lambda store: store.fork_run("gpt~1", "low"),
    "run-rename": lambda store: store.rename_run("gpt", "base"),
    "run-finish": lambda store: store.finish_run("gpt", "failed"),
    "run-policy": lambda store: store.set_retention({"keep_last": 3}, run="gpt"),
    "drop": lambda store: store.drop("wide~2"),
    "drop-thinned": lambda store: store.drop("wide~1", "wide~2"),
    "thin-again": lambda store: store.drop("wide~1", parts="b"),
    "retain": lambda store: store.retain({"keep_last": 1}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("seal", [False, True], ids=["", "sealed"])
def test_every_change_is_taken_back_and_done_again(
    store: casckpt.Store, change: Callable[[casckpt.Store], object], seal: bool
) -> None:
    store.tag("v1")
    store.pin("gpt~1")
    store.note("gpt~1", "first")
    for step in range(3):
        store.commit({"a": {"x": [step]}, "b": {"x": [step]}}, run="wide", step=step)
    store.drop("wide~1", parts="a")
    before = view(store)
    change(store)
    after = view(store)
    assert after != before
    if seal:
        sealed(store)
    done = store.undo()
    assert view(store) == before
    assert store.undo(done.operation.number).undone.undoes == done.undone.number
    assert view(store) == after
    assert store.undo().undone.number == done.undone.number
    assert view(store) == before


def test_undo_again_goes_further_back_and_passes_over_commits(store: casckpt.Store) -> None:
    store.tag("v1")
    store.commit({"n": 9}, run="gpt")
    store.note("gpt", "x")
    assert [store.undo().undone.op for _ in range(2)] == ["note", "tag"]
    with pytest.raises(NothingToUndo, match="commits are taken back by their number alone"):
        store.undo()
    assert len(list(store.log("gpt"))) == 3


def test_a_commit_is_taken_back_by_its_number_with_its_rule_and_stays_in_the_store(store: casckpt.Store) -> None:
    before = view(store)
    made = store.commit({"n": 2}, run="gpt", kind="recovery", metrics={"loss": 0.125, "acc": 1}, best="acc:max")
    report = store.undo(number(store, "commit"))
    after = view(store)
    assert after.pop(t.TOTALS) != before.pop(t.TOTALS)
    assert after == before
    assert {change.ref for change in report.undone.refs} == {
        f"runs/gpt/{head}" for head in ("last", "best", "recovery")
    }
    assert [(one.key, one.old, one.new) for one in report.operation.settings] == [
        ("best", ["acc", "max"], ["loss", "min"])
    ]
    assert store.checkout(made.id) == {"n": 2}
    assert store.commit({"n": 3}, run="gpt").parents == made.parents


def test_the_first_commit_of_a_run_is_taken_back_with_the_run(store: casckpt.Store) -> None:
    store.commit({"n": 1}, run="new", metrics={"loss": 1}, best="loss:min")
    store.undo(number(store, "commit"))
    assert [run.name for run in store.runs()] == ["gpt"]
    assert store._repository.database.run_settings("new") == {}


def test_what_changed_since_is_named_and_nothing_is_changed(store: casckpt.Store) -> None:
    store.fork_run("gpt", "low")
    made = store.commit({"n": 1}, run="low")
    store.tag("v1")
    before = view(store)
    with pytest.raises(UndoConflict) as caught:
        store.undo(number(store, "run-fork"))
    facts = caught.value.facts
    assert (facts["what"], facts["actual"]) == ("runs/low/last", made.id[:12])
    assert caught.value.exit_code == 5
    with pytest.raises(UndoConflict):
        store.undo(1)
    assert view(store) == before


def test_a_note_and_a_setting_that_changed_since_are_named(store: casckpt.Store) -> None:
    store.note("gpt", "x")
    store.note("gpt", "y")
    with pytest.raises(UndoConflict, match=r"the note of .* it left 'x', now there is 'y'"):
        store.undo(number(store, "note") - 1)
    store.finish_run("gpt")
    store.finish_run("gpt", "failed")
    with pytest.raises(UndoConflict, match="the setting 'finished' of run 'gpt' changed since"):
        store.undo(number(store, "run-finish") - 1)


def test_what_is_taken_back_already_is_refused_until_it_is_done_again(store: casckpt.Store) -> None:
    store.tag("v1")
    tagged = number(store, "tag")
    undone = store.undo()
    with pytest.raises(AlreadyUndone, match=f"by operation {undone.operation.number}"):
        store.undo(tagged)
    again = store.undo(undone.operation.number)
    with pytest.raises(AlreadyUndone):
        store.undo(undone.operation.number)
    assert store.undo(tagged).undone.number == tagged
    with pytest.raises(UndoConflict):
        store.undo(again.operation.number)


def test_what_cannot_be_taken_back_says_why(store: casckpt.Store) -> None:
    store.tag("v1")
    commit = store._repository.database.ref("tags/v1")
    published(store, Entry("tag", 5, refs=(RefMove("tags/v1", commit, commit),)))
    old = published(store, Entry("set", 5, runs={"gpt": {"k": 1}}))
    gone = published(store, Entry("repack", 5, refs=(RefMove("tags/x", None, None),), gone=(PackId(b"p" * 32),)))
    for given, problem in {
        0: "it made or rewrote the store itself",
        number(store, "tag"): "it changed nothing",
        old: "does not tell what the settings were before",
        gone: "it made or rewrote the store itself",
    }.items():
        with pytest.raises(NotUndoable, match=problem):
            store.undo(given)
    for unknown in (gone + 1, 10**30):
        with pytest.raises(NothingToUndo, match=f"no operation {unknown}"):
            store.undo(unknown)
    for wrong in (-1, 1.5, True, "1"):
        with pytest.raises(UsageError):
            store.undo(wrong)  # type: ignore[arg-type]
    assert store.undo().undone.op == "tag"


def test_a_drop_is_cancelled_unless_what_it_dropped_was_freed_since(store: casckpt.Store) -> None:
    commit = CommitId(ObjectId(bytes.fromhex(store.show("gpt~1").id)))
    before = view(store)
    drop = Drop(commit, None, "keep_last=1", 7)
    dropped = published(store, Entry("drop", 7, drops=(drop,)))
    after = view(store)
    undone = store.undo()
    assert undone.undone.number == dropped
    assert view(store) == before
    redone = store.undo(undone.operation.number).operation.number
    assert view(store) == after
    assert decode(after[t.DROPS][commit], "a drop") == [None, "keep_last=1", 7]
    # A pack that held nothing of it may go; what held its tree may not.
    published(store, Entry("gc", 8, gone=(PackId(b"p" * 32),)))
    assert store.undo(redone, dry_run=True)
    database = store._repository.database
    for key, _ in list(database.tables.scan(t.ROWS)):
        database.tables.delete(t.ROWS, key)
    with pytest.raises(NotUndoable, match=f"has been freed since: {commit.hex()[:12]}"):
        store.undo(redone)


def test_a_drop_of_what_was_thinned_for_good_is_taken_back_and_done_again() -> None:
    with casckpt.memory() as store:
        for step in range(3):
            store.commit({"part": {"w": noise(str(step), 300_000)}, "n": step}, run="gpt", step=step)
        store.drop("gpt~1", parts="part")
        store.drop("gpt~1")
        undone = store.undo().operation.number
        store.gc(now=True)
        assert store.show("gpt~1").thinned == ("part",)
        again = store.undo(undone).operation.number
        assert store.show("gpt~1").dropped == "by hand"
        store.undo(again)
        assert store.checkout("gpt~1", select="n") == {"n": 1}


def test_a_dry_run_looks_at_everything_and_changes_nothing(store: casckpt.Store) -> None:
    store.tag("v1")
    before, count = view(store), len(list(store.operations()))
    report = store.undo(dry_run=True)
    assert (report.dry_run, report.undone.op, report.operation.undoes) == (True, "tag", report.undone.number)
    assert [(one.ref, one.new) for one in report.operation.refs] == [("tags/v1", None)]
    assert (view(store), len(list(store.operations()))) == (before, count)
    assert store.undo().operation.number == report.operation.number
    assert report.to_dict()["undone"]["refs"][0]["ref"] == "tags/v1"
    with pytest.raises(UndoConflict):
        store.undo(1, dry_run=True)


def test_a_store_that_is_read_only_is_not_undone(tmp_path: Any) -> None:
    with casckpt.init(tmp_path / "store") as made:
        made.commit({"n": 1})
        made.tag("v1")
    with casckpt.open(tmp_path / "store", read_only=True) as store, pytest.raises(ReadOnlyStore):
        store.undo()


def test_the_tag_that_an_undo_removed_is_no_revision(store: casckpt.Store) -> None:
    store.tag("v1")
    store.undo()
    with pytest.raises(RevisionNotFound):
        store.show("v1")


def test_nothing_is_taken_back_in_an_empty_store() -> None:
    with casckpt.memory() as store, pytest.raises(NothingToUndo):
        store.undo()


def test_packs_that_an_operation_added_are_no_obstacle(store: casckpt.Store) -> None:
    store.commit({"bulk": noise("bulk", 200_000)}, run="gpt")
    before = list(store._repository.database.pack_set())
    assert before
    assert all(isinstance(pack, PackRef) for pack in before)
    store.undo(number(store, "commit"))
    assert list(store._repository.database.pack_set()) == before
