"""forget: what is named goes for good, what holds it is asked for, and history goes on over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import casckpt
from casckpt.errors import (
    CommitNamed,
    ForgetUnfinished,
    LostFrames,
    NothingToUndo,
    NotUndoable,
    ReadOnlyStore,
    RevisionNotFound,
    StoreFull,
    UsageError,
)
from casckpt.odb.fold import note_gaps
from casckpt.ops import commit as committing
from casckpt.ops import purge as purging
from casckpt.ops.naming import note
from tests.unit.ops.test_rewrite import damage, noise, packs


def filled(store: casckpt.Store, run: str = "gpt", count: int = 6) -> casckpt.Store:
    for step in range(count):
        kind = "recovery" if step % 2 else "step"
        metrics = {"loss": abs(step - 2.0)}
        store.commit({"n": step}, run=run, step=step, metrics=metrics, best="loss:min", kind=kind)
    return store


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    """Steps 0 to 5; the best is step 2, the newest recovery and the last is step 5."""
    with casckpt.memory() as made:
        yield filled(made)


def at(store: casckpt.Store, step: int) -> str:
    return store.show(f"gpt@step={step}").id


def tags(store: casckpt.Store) -> set[str]:
    return {name.removeprefix("tags/") for name in store._repository.database.refs("tags/")}


def steps(store: casckpt.Store, revision: str = "gpt") -> list[int | None]:
    return [commit.step for commit in store.log(revision)]


def test_the_log_goes_on_over_what_was_forgotten(store: casckpt.Store) -> None:
    report = store.forget("gpt~1", "gpt@step=3")
    assert [commit.step for commit in report.forgotten] == [4, 3]
    assert (report.runs, report.refs, report.pins, report.children) == ((), (), (), 1)
    assert steps(store) == [5, 2, 1, 0]
    assert store.show("gpt~1").step == 2
    assert store.show("gpt~1").children == (store.show("gpt").id,)
    assert store.show("gpt").parents == (store.show("gpt@step=2").id,)
    assert store.fsck("full").ok


def test_a_range_is_forgotten(store: casckpt.Store) -> None:
    report = store.forget("gpt@step=2..gpt~1")
    assert [commit.step for commit in report.forgotten] == [4, 3]
    assert steps(store) == [5, 2, 1, 0]


def test_everything_that_looks_along_the_line_goes_on(store: casckpt.Store) -> None:
    store.forget("gpt~1")
    assert [row.commit.step for row in store.graph("gpt") if row.commit is not None] == [5, 3, 2, 1, 0]
    assert not any(row.row.missing for row in store.graph("gpt"))
    assert store.diff("gpt~1", "gpt").to_dict()["leaves"]
    assert list(store.blame("", "gpt"))
    assert store.compare("gpt", "gpt~1").to_dict()
    assert store.status().to_dict()
    store.fork_run("gpt@step=3", "other")
    assert steps(store, "other") == [3, 2, 1, 0]


def test_a_forgotten_commit_is_named_as_such(store: casckpt.Store) -> None:
    identity = at(store, 4)
    store.forget(identity[:12])
    for revision in (identity, identity[:9]):
        with pytest.raises(RevisionNotFound, match="was forgotten"):
            store.show(revision)


HOLDS: dict[str, tuple[int, Callable[[casckpt.Store], object], str]] = {
    "last": (5, lambda store: None, "last of gpt"),
    "recovery": (5, lambda store: None, "recovery of gpt"),
    "best": (2, lambda store: None, "best of gpt"),
    "tag": (3, lambda store: store.tag("v1", "gpt@step=3"), "tag v1"),
    "pin": (3, lambda store: store.pin("gpt@step=3"), "pinned"),
    "fork": (3, lambda store: store.fork_run("gpt@step=3", "other"), "last of other"),
}


@pytest.mark.parametrize("what", HOLDS)
def test_what_holds_a_commit_is_named_and_nothing_is_changed(store: casckpt.Store, what: str) -> None:
    step, prepare, words = HOLDS[what]
    prepare(store)
    before = next(store.operations(1)).number
    with pytest.raises(CommitNamed, match=words) as caught:
        store.forget(at(store, step))
    assert "--force" in str(caught.value.hint)
    assert next(store.operations(1)).number == before
    assert steps(store) == [5, 4, 3, 2, 1, 0]


def test_by_force_tags_and_pins_go_along(store: casckpt.Store) -> None:
    store.tag("v1", "gpt@step=3")
    store.tag("v2", "gpt@step=1")
    store.pin("gpt@step=3")
    identity = at(store, 3)
    report = store.forget("gpt@step=3", force=True)
    assert [move.to_dict() for move in report.refs] == [{"ref": "tags/v1", "now": None}]
    assert report.pins == (identity,)
    assert tags(store) == {"v2"}
    assert store.pins() == []


def test_by_force_heads_move_to_what_is_left_of_the_run(store: casckpt.Store) -> None:
    report = store.forget(at(store, 5), at(store, 2), force=True)
    expected = {"runs/gpt/last": at(store, 4), "runs/gpt/recovery": at(store, 3), "runs/gpt/best": at(store, 1)}
    assert {move.ref: move.now for move in report.refs} == expected
    assert [store.show(f"gpt/{head}").step for head in ("last", "recovery", "best")] == [4, 3, 1]


def test_no_head_moves_to_a_commit_without_a_state(store: casckpt.Store) -> None:
    store.drop("gpt~1")
    store.forget("gpt/last", force=True)
    assert store.show("gpt/last").step == 3


def test_the_names_of_a_run_without_commits_go(store: casckpt.Store) -> None:
    store.fork_run("gpt@step=3", "other")
    report = store.forget("other")
    assert (report.forgotten, report.runs) == ((), ("other",))
    assert [info.name for info in store.runs()] == ["gpt"]
    assert steps(store) == [5, 4, 3, 2, 1, 0]


def test_a_run_that_another_began_at_goes_and_the_other_begins_its_history(store: casckpt.Store) -> None:
    store.fork_run("gpt@step=3", "other")
    store.commit({"n": 9}, run="other", step=9)
    report = store.forget("gpt")
    assert len(report.forgotten) == 6 and report.children == 1
    assert steps(store, "other") == [9]
    assert store.show("other").parents == ()
    assert store.fsck("full").ok


def test_what_is_a_run_and_a_tag_must_be_said_more_exactly(store: casckpt.Store) -> None:
    store.tag("gpt", "gpt@step=1")
    with pytest.raises(UsageError, match="runs/gpt"):
        store.forget("gpt")
    store.forget("tags/gpt", force=True)
    assert steps(store) == [5, 4, 3, 2, 0]
    assert len(store.forget("runs/gpt").forgotten) == 5


def test_a_dry_run_tells_all_and_changes_nothing(store: casckpt.Store) -> None:
    store.tag("v1", "gpt@step=3")
    before = dict(store._repository.database.tables.scan("marks"))
    report = store.forget("gpt@step=3", force=True, dry_run=True)
    assert report.dry_run and report.purge.journal_files == 1 and report.purge.freed > 0
    assert [move.ref for move in report.refs] == ["tags/v1"]
    assert dict(store._repository.database.tables.scan("marks")) == before
    assert steps(store) == [5, 4, 3, 2, 1, 0]
    with pytest.raises(CommitNamed):
        store.forget("gpt@step=3", dry_run=True)


def test_a_dry_run_counts_the_packs_that_would_be_written_again() -> None:
    with casckpt.memory() as store:
        for step in range(3):
            store.commit({"same": noise(0, 80_000), "w": noise(step, 40_000)}, run="gpt", step=step)
        told = store.forget("gpt~2", dry_run=True).purge
        done = store.forget("gpt~2").purge
        assert (told.packs_removed, told.packs_written) == (done.packs_removed, done.packs_written) == (1, 1)
        assert told.freed == pytest.approx(done.freed, rel=0.2)


def test_what_was_done_before_cannot_be_taken_back_and_what_comes_after_can(store: casckpt.Store) -> None:
    store.tag("v1", "gpt@step=1")
    tagging = next(store.operations(1)).number
    store.forget("gpt~1")
    with pytest.raises(NothingToUndo, match="before a forget"):
        store.undo(tagging)
    with pytest.raises(NothingToUndo):
        store.undo()
    store.untag("v1")
    store.undo()
    assert tags(store) == {"v1"}


def test_a_forget_cannot_be_taken_back(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.tag("v1", "gpt@step=3")
    store.untag("v1")
    untagging = next(store.operations(1)).number
    unfinished(monkeypatch)
    with pytest.raises(StoreFull):
        store.forget("gpt@step=3")
    for number in (untagging, next(store.operations(1)).number):
        with pytest.raises(NotUndoable):
            store.undo(number)


def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when bytes are to be removed."""

    def full(*_: Any, **__: Any) -> None:
        raise StoreFull(operation="write", path="journal/1.log", problem="no space left on device")

    monkeypatch.setattr(purging, "_renew_journal", full)


def test_what_was_begun_is_ended_by_the_next_call(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        unfinished(patch)
        with pytest.raises(StoreFull):
            store.forget("gpt~1")
    assert steps(store) == [5, 3, 2, 1, 0]
    report = store.forget()
    assert report.forgotten == () and report.purge.journal_files == 1
    assert store.forget().purge.journal_files == 0


def test_a_pack_that_cannot_be_read_is_named_and_the_rest_is_done() -> None:
    with casckpt.memory() as store:
        for step in range(3):
            store.commit({"same": noise(0, 80_000), "w": noise(step, 40_000)}, run="gpt", step=step, compress="off")
        victim = max(packs(store), key=lambda pack: pack.nbytes)
        damage(store, victim)
        with pytest.raises(ForgetUnfinished, match=victim.id.hex()[:12]) as caught:
            store.forget("gpt~2")
        assert caught.value.exit_code == 6
        assert steps(store) == [2, 1]


def test_a_damaged_journal_must_be_gone_over_first(store: casckpt.Store) -> None:
    note_gaps(store._repository.database.tables, [(0, 5, 9)])
    with pytest.raises(LostFrames):
        store.forget("gpt~1")
    assert 4 in steps(store)


def test_the_same_state_committed_again_is_another_commit(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 2_000_000_000_000_000_000
    monkeypatch.setattr(committing.time, "time_ns", lambda: clock)
    first = store.commit({"n": 1}, run="new")
    store.forget("new")
    again = store.commit({"n": 1}, run="new")
    assert again.id != first.id and again.time_ns == first.time_ns + 1
    assert store.checkout("new") == {"n": 1}


def test_a_fact_said_meanwhile_of_a_forgotten_commit_is_refused(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = at(store, 4)

    def late(database: Any, revision: str) -> Any:
        store.forget(identity)
        return bytes.fromhex(identity)

    monkeypatch.setattr("casckpt.ops.naming.resolve", late)
    with pytest.raises(RevisionNotFound, match="meanwhile"):
        note(store._repository, identity, "late")


def test_a_commit_to_the_run_meanwhile_is_forgotten_too(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from casckpt.ops import forget as forgetting

    real = forgetting.publish

    def late(repository: Any, settle: Any, **given: Any) -> Any:
        monkeypatch.undo()
        store.commit({"n": 7}, run="gpt", step=7)
        return real(repository, settle, **given)

    monkeypatch.setattr(forgetting, "publish", late)
    store.forget("gpt")
    assert list(store.log()) == []


def test_nothing_is_forgotten_in_a_store_that_cannot_be_written(store: casckpt.Store) -> None:
    monkey = store._repository.storage
    monkey.read_only = True
    with pytest.raises(ReadOnlyStore):
        store.forget("gpt~1")


def test_to_dict_is_plain(store: casckpt.Store) -> None:
    found = store.forget("gpt~1").to_dict()
    assert found.keys() == {"forgotten", "runs", "refs", "pins", "children", "purge", "dry_run"}
    assert found["purge"].keys() == {"journal_files", "journal_bytes", "packs_removed", "packs_written", "freed"}
