"""drop: commits lose their state or components of it, keep their place in history, and come back with undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import (
    CommitDropped,
    CommitProtected,
    CommitThinned,
    InvalidRevision,
    NotFoundError,
    ReadOnlyStore,
    RevisionNotFound,
    StoreFull,
    UndoConflict,
    UsageError,
)
from casckpt.format.entry import Drop, Entry
from casckpt.odb import seal as sealing
from casckpt.odb.removing import RESERVE, RESERVE_BYTES
from casckpt.odb.repository import Repository
from casckpt.ops import losses
from casckpt.ops.drop import drop
from casckpt.ops.load import Loader
from casckpt.ops.publishing import publish
from casckpt.storage.memory import MemoryStorage
from tests.crash.faults import FaultyStorage, never
from tests.crash.promises import make
from tests.unit.ops.test_reflog import sealed


def filled(store: casckpt.Store, count: int = 6) -> casckpt.Store:
    for step in range(count):
        state = {"model": {"w": [float(step)]}, "optimizer": {"m": [float(step), 1.0]}, "rng": {"s": step}, "n": step}
        store.commit(state, run="gpt", step=step, metrics={"loss": abs(step - 2.0)}, best="loss:min")
    return store


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    """Steps 0 to 5; the best is step 2."""
    with casckpt.memory() as made:
        yield filled(made)


def records(store: casckpt.Store) -> dict[str, Drop]:
    database = store._repository.database
    database.refresh()
    return {identity.hex(): drop for identity, drop in database.drops().items()}


def at(store: casckpt.Store, step: int) -> str:
    return store.show(f"gpt@step={step}").id


def test_what_was_dropped_keeps_its_place_and_cannot_be_checked_out(store: casckpt.Store) -> None:
    before = store.show("gpt~1")
    report = store.drop("gpt~1", before.short)
    assert [info.id for info in report.dropped] == [before.id]
    after = store.show("gpt~1")
    assert after.dropped == "by hand"
    left_alone = {key: value for key, value in after.to_dict().items() if key != "dropped"}
    assert left_alone == {key: value for key, value in before.to_dict().items() if key != "dropped"}
    with pytest.raises(CommitDropped) as caught:
        store.checkout("gpt~1")
    assert "undo" in caught.value.advice


def test_a_range_is_dropped_and_one_undo_brings_all_back(store: casckpt.Store) -> None:
    report = store.drop("gpt@step=2..gpt~1")
    assert [info.step for info in report.dropped] == [4, 3]
    assert report.operation == next(store.operations(1)).number
    assert {change.commit for change in store.undo().undone.drops} == {info.id for info in report.dropped}
    assert not records(store)
    assert store.checkout("gpt~1")["n"] == 4


HOLDS: dict[str, tuple[int, Callable[[casckpt.Store], object], str]] = {
    "last": (5, lambda store: None, "last of gpt"),
    "best": (2, lambda store: None, "best of gpt"),
    "recovery": (
        6,
        lambda store: store.commit({"optimizer": {"m": [6.0]}}, run="gpt", step=6, kind="recovery"),
        "recovery of gpt",
    ),
    "fork": (3, lambda store: store.fork_run("gpt@step=3", "low"), "last of low"),
    "tag": (1, lambda store: store.tag("v1", "gpt@step=1"), "tag v1"),
    "pin": (1, lambda store: store.pin("gpt@step=1"), "pinned"),
}


@pytest.mark.parametrize(("step", "hold", "words"), HOLDS.values(), ids=HOLDS)
@pytest.mark.parametrize("parts", [None, "optimizer"])
def test_what_a_name_or_pin_holds_loses_nothing_and_neither_does_what_was_named_with_it(
    store: casckpt.Store, step: int, hold: Callable[[casckpt.Store], object], words: str, parts: str | None
) -> None:
    hold(store)
    held, operations = at(store, step), len(list(store.operations()))
    with pytest.raises(CommitProtected) as caught:
        store.drop("gpt@step=0", held, parts=parts)
    assert caught.value.exit_code == 5
    assert f"{held[:12]} ({words}" in caught.value.message or f", {words}" in caught.value.message
    assert not records(store)
    report = store.drop("gpt@step=0", held, parts=parts, where="step >= 0")
    assert [info.step for info in report.dropped] == [0]
    assert [(spared.commit.id, words in spared.reasons) for spared in report.spared] == [(held, True)]
    assert len(list(store.operations())) == operations + 1


def test_a_pin_that_is_over_holds_nothing(store: casckpt.Store) -> None:
    database = store._repository.database
    store.pin("gpt@step=1", "30d")
    store.unpin("gpt@step=1")
    assert store.drop("gpt@step=1").dropped
    assert losses.held(database)


def test_a_filter_alone_takes_from_all_commits(store: casckpt.Store) -> None:
    report = store.drop(where="loss > 1.5")
    assert [info.step for info in report.dropped] == [4, 0]
    assert [spared.commit.step for spared in report.spared] == [5]
    assert [info.step for info in store.log(where="loss > 1.5")] == [5, 4, 0]


def test_a_tag_given_while_the_lock_was_waited_for_saves_its_commit(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(repository: Any, settle: Callable[[], Entry], *, dry_run: bool) -> tuple[int, Entry]:
        monkeypatch.undo()
        store.tag("meanwhile", "gpt@step=1")
        return publish(repository, settle, dry_run=dry_run)

    monkeypatch.setattr("casckpt.ops.drop.publish", late)
    with pytest.raises(CommitProtected, match="tag meanwhile"):
        store.drop("gpt@step=0", "gpt@step=1")
    assert not records(store)
    monkeypatch.setattr("casckpt.ops.drop.publish", late)
    store.untag("meanwhile")
    assert [info.step for info in store.drop(where="step < 2").dropped] == [0]


def test_what_is_dropped_already_is_not_written_again(store: casckpt.Store) -> None:
    first = store.drop("gpt~1")
    again = store.drop("gpt~1")
    assert (again.dropped, again.already, again.operation) == ((), (first.dropped[0].id,), None)
    assert next(store.operations(1)).number == first.operation
    both = store.drop("gpt~1", "gpt@step=0")
    assert [info.step for info in both.dropped] == [0]


def test_a_dry_run_says_the_same_and_writes_nothing(store: casckpt.Store) -> None:
    said = store.drop("gpt~1", "gpt@step=0", dry_run=True)
    assert not records(store)
    done = store.drop("gpt~1", "gpt@step=0")
    assert said.dropped == done.dropped
    assert (said.operation, said.dry_run) == (None, True)


def test_thinning_takes_components_and_never_the_root(store: casckpt.Store) -> None:
    report = store.drop("gpt~1", parts="opt*")
    assert report.dropped[0].thinned == ("optimizer",)
    with pytest.raises(CommitThinned):
        store.checkout("gpt~1")
    more = store.drop("gpt~1", "gpt@step=0", parts=["rng", "optimizer"])
    assert [info.thinned for info in more.dropped] == [("optimizer", "rng"), ("optimizer", "rng")]
    assert store.drop("gpt~1", parts="rng").already
    with pytest.raises(NotFoundError, match="nothing"):
        store.drop("gpt~1", parts="nothing")
    everything = store.drop("gpt~1", parts="*")
    assert everything.dropped[0].thinned == ("model", "optimizer", "rng")


def test_what_is_left_of_a_thinned_commit_is_read_and_nothing_else(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = [float(n) for n in range(3)]
    store.commit({"model": {"w": shared}, "optimizer": {"m": shared}, "n": 6}, run="gpt", step=6, schema=("s", 1))
    store.commit({"n": 7}, run="gpt", step=7)
    store.drop("gpt~1", "gpt@step=0", parts="opt*")
    assert store.checkout("gpt~1", select="model/**") == {"model": {"w": shared}}
    assert store.checkout("gpt~1", select=["model", "n"]) == {"model": {"w": shared}, "n": 6}
    assert store.checkout("gpt@step=0", select=["model", "rng/s"]) == {"model": {"w": [0.0]}, "rng": {"s": 0}}
    for select in (None, "optimizer", "optimizer/m", "**/w", "*/w", "?ptimizer", ["model", "opt*/m/**"]):
        with pytest.raises(CommitThinned, match="optimizer"):
            store.checkout("gpt~1", select=select)
    with pytest.raises(NotFoundError):
        store.checkout("gpt~1", select="absent")
    component = Loader.component
    monkeypatch.setattr(
        Loader, "component", lambda self, name, found: name != "optimizer" and component(self, name, found)
    )
    assert store.checkout("gpt~1", select="model") == {"model": {"w": shared}}
    store.drop("gpt~1")
    with pytest.raises(CommitDropped):
        store.checkout("gpt~1", select="model")


@pytest.mark.parametrize("seal", [False, True])
def test_a_thinned_commit_that_is_dropped_is_thinned_again_after_undo(store: casckpt.Store, seal: bool) -> None:
    store.drop("gpt~1", parts="rng")
    thinned = records(store)
    store.drop("gpt~1", parts="optimizer")
    both = records(store)
    assert [drop.parts for drop in both.values()] == [("optimizer", "rng")]
    store.drop("gpt~1")
    whole = records(store)
    assert next(iter(whole.values())).parts is None
    for expected in (both, thinned, {}):
        if seal:
            sealed(store)
        store.undo()
        assert records(store) == expected
    last = next(store.operations(1))
    store.undo(last.number)
    assert records(store) == thinned


def test_undo_is_refused_where_more_was_lost_since(store: casckpt.Store) -> None:
    first = store.drop("gpt~1", parts="rng")
    store.drop("gpt~1")
    with pytest.raises(UndoConflict, match="its state dropped by the rule 'by hand'"):
        store.undo(first.operation)


@pytest.mark.parametrize("hold", [lambda store: store.tag("v1", "gpt~1"), lambda store: store.pin("gpt~1")])
def test_a_drop_is_not_done_again_where_something_holds_a_commit_by_now(store: casckpt.Store, hold: Any) -> None:
    store.drop("gpt~1", "gpt@step=0")
    store.undo()
    again = next(store.operations(1)).number
    hold(store)
    with pytest.raises(CommitProtected):
        store.undo(again)
    assert not records(store)


def test_a_name_given_to_a_stub_does_not_keep_it_one(store: casckpt.Store) -> None:
    store.drop("gpt~1", parts="rng")
    dropped = store.drop("gpt~1")
    store.tag("v1", "gpt~1")
    store.undo(dropped.operation)
    assert store.show("v1").thinned == ("rng",)


def test_no_undo_makes_a_run_end_at_a_dropped_commit(store: casckpt.Store) -> None:
    newest = next(store.operations(1))
    dropped = store.drop("gpt~1")
    with pytest.raises(UndoConflict, match="the retention of"):
        store.undo(newest.number)
    store.undo(dropped.operation)
    store.undo(newest.number)
    assert store.checkout("gpt")["n"] == 4


def test_an_undo_goes_past_commits_to_the_drop(store: casckpt.Store) -> None:
    store.drop("gpt~1")
    store.commit({"n": 9}, run="gpt", step=9)
    assert store.undo().undone.op == "drop"


def test_one_entry_takes_no_more_than_fits_and_the_rest_is_told(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "ENTRY_BYTES", 150)
    report = store.drop(where="step < 5")
    assert (len(report.dropped), report.left) == (2, 2)
    again = store.drop(where="step < 5")
    assert (len(again.dropped), len(again.already), again.left) == (2, 2, 0)


def test_wrong_calls(store: casckpt.Store) -> None:
    with pytest.raises(UsageError):
        store.drop()
    with pytest.raises(RevisionNotFound):
        store.drop("gpt~1", "nothing")
    with pytest.raises(InvalidRevision):
        store.drop("gpt~~{")
    with pytest.raises(UsageError):
        store.drop("gpt~1", parts=())
    assert not records(store)


def test_a_drop_takes_its_room_from_the_reserve_and_nothing_else_does() -> None:
    inner = MemoryStorage()
    make(inner)
    storage = FaultyStorage(inner)
    store = filled(casckpt.Store(Repository(storage)))
    has_reserve = partial(inner.size, RESERVE)
    storage.plan = lambda n, call, name: "enospc" if call == "write_at" and has_reserve() else None
    with pytest.raises(StoreFull):
        store.tag("v1")
    assert inner.size(RESERVE) == RESERVE_BYTES
    store.drop(at(store, 1))
    assert inner.size(RESERVE) is None
    storage.plan = lambda n, call, name: "enospc" if call == "write_at" else None
    with pytest.raises(StoreFull):
        store.drop(at(store, 3))
    storage.plan = never
    store.gc(now=True, repack=False)
    assert inner.size(RESERVE) == RESERVE_BYTES
    assert sum(info.dropped is not None for info in store.log()) == 1


def test_a_store_that_is_read_only_drops_nothing(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "ckpts") as store:
        filled(store)
    with casckpt.open(tmp_path / "ckpts", read_only=True) as store, pytest.raises(ReadOnlyStore):
        store.drop("gpt~1")


def test_a_snapshot_of_the_longest_records_fits_its_frames(store: casckpt.Store) -> None:
    from casckpt.format.limits import MAX_FRAME_BYTES, MAX_NAME_BYTES, MAX_PARTS

    longest = Drop(
        records_id(store), tuple(f"{n:03}".ljust(MAX_NAME_BYTES, "x") for n in range(MAX_PARTS)), "x" * 255, 1
    )
    entry = Entry("snapshot", 1, drops=(longest,) * sealing.SNAPSHOT_DROPS)
    assert len(entry.encode()) < MAX_FRAME_BYTES


def records_id(store: casckpt.Store) -> Any:
    return bytes.fromhex(store.show("gpt").id)


# ---- stubs: everything that speaks of history says the same, whatever became of the store since ----


def seen(store: casckpt.Store) -> dict[str, Any]:
    """What history says, but for what was lost."""
    compared = store.compare("gpt", "low")
    return {
        "log": [(info.id, info.step, info.parents, info.children, dict(info.metrics)) for info in store.log()],
        "revisions": [store.show(name).id for name in ("gpt~1", "gpt~3", "gpt/first", "gpt@step=1", "fork(gpt, low)")],
        "runs": [(run.name, run.commits, run.last.id, run.best and run.best.id) for run in store.runs()],
        "logical": store.status().logical,
        "commits": store.status().commits,
        "curves": [metric.to_dict(compared.names) for metric in compared.metrics],
        "fork": (compared.fork and compared.fork.id, compared.shared),
        "fsck": store.fsck().ok,
    }


@pytest.mark.parametrize("after", ["reopen", "rebuild", "seal"])
def test_history_says_the_same_of_stubs(tmp_path: Path, after: str) -> None:
    path = tmp_path / "ckpts"
    with casckpt.init(path) as store:
        filled(store).fork_run("gpt@step=3", "low")
        before = seen(store)
        store.drop("gpt@step=1", "gpt@step=4")
    with casckpt.open(path) as store:
        if after == "rebuild":
            store._repository.database.rebuild_index()
        if after == "seal":
            sealed(store)
            store._repository.database.rebuild_index()
        assert seen(store) == before
        assert [info.step for info in store.log() if info.dropped] == [4, 1]
        assert store.show("best(loss,max)").step == 5
        assert store.show("best(loss,min)").step == 2
        rows = [row.to_dict() for row in store.graph(None)]
        assert sum(row["commit"] is not None for row in rows) + sum(row["dropped"] for row in rows) == 6
        [line] = store.blame("model", "gpt", by=1)
        assert line.step == 5
        store.undo()
        assert seen(store) == before
        assert [store.checkout(info.id)["n"] for info in store.log()] == [5, 4, 3, 2, 1, 0]


def test_blame_goes_past_a_stub_and_says_so(store: casckpt.Store) -> None:
    state = store.checkout("gpt")
    store.commit({**state, "n": 7}, run="gpt", step=7)
    store.drop("gpt@step=4")
    found = {line.path: line for line in store.blame("model", "gpt")}
    assert {(line.step, line.exact) for line in found.values()} == {(5, False)}


def test_the_operation_takes_names_from_the_same_call_twice(store: casckpt.Store) -> None:
    report = drop(store._repository, ["gpt~1", "gpt@step=4", "gpt~2..gpt~1"])
    assert [info.step for info in report.dropped] == [4]
