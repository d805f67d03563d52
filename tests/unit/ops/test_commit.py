from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import casckpt
from casckpt.errors import (
    CasckptError,
    ConflictError,
    InvalidName,
    RefExists,
    RevisionNotFound,
    RevisionWarning,
    TooLarge,
    UsageError,
)
from casckpt.ops import commit as module


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def test_a_commit_says_everything_it_was_told(store: casckpt.Store) -> None:
    state = {"w": np.arange(100.0), "n": 3}
    info = store.commit(
        state,
        run="gpt",
        step=7,
        epoch=1.5,
        metrics={"loss": 0.25, "n": 3},
        message="warm\nrestart",
        author="someone",
        kind="final",
        status="completed",
        schema=("trainer", 2),
        config={"lr": 0.1},
        environment={"torch": "2"},
        code="abc",
        data=[1, 2],
    )
    assert (info.run, info.step, info.epoch, info.kind, info.status) == ("gpt", 7, 1.5, "final", "completed")
    assert (info.message, info.author, dict(info.metrics)) == ("warm\nrestart", "someone", {"loss": 0.25, "n": 3})
    assert info.nbytes == 800
    assert info.parents == ()
    assert info.refs == ("last",)
    assert store.show(info.id) == info
    assert store.metadata() == {"config": {"lr": 0.1}, "environment": {"torch": "2"}, "code": "abc", "data": [1, 2]}


def test_metadata_is_kept_once_for_all_that_share_it(store: casckpt.Store) -> None:
    config = {"layers": [{"width": number} for number in range(500)]}
    first = store.commit({"x": 1}, config=config)
    second = store.commit({"x": 1}, config=config)
    assert first.added is not None and second.added is not None
    assert second.added < first.added / 2


def test_what_is_linked_is_counted_and_stored_once(store: casckpt.Store) -> None:
    tied = torch.zeros(1000)
    info = store.commit({"model": {"w": tied, "v": tied[10:]}, "ema": {"w": tied}})
    assert info.nbytes == 4000


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(3), torch.tensor(0.5), torch.tensor(3), np.float64(2)])
def test_metrics_that_are_scalars_of_a_library_are_taken_by_value(store: casckpt.Store, value: Any) -> None:
    metrics = store.commit({}, metrics={"x": value}).metrics
    assert metrics == {"x": value.item()}
    assert type(metrics["x"]) in (int, float)


@pytest.mark.parametrize("value", [True, None, "1", 1j, [1], torch.zeros(1, dtype=torch.bool)[0]])
def test_metrics_that_are_no_numbers_are_refused(store: casckpt.Store, value: Any) -> None:
    with pytest.raises(UsageError):
        store.commit({}, metrics={"x": value})


def test_metrics_that_are_not_finite_are_kept(store: casckpt.Store) -> None:
    store.commit({}, metrics={"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0})
    assert repr(dict(store.show().metrics)) == "{'a': nan, 'b': inf, 'c': -inf, 'd': -0.0}"


@pytest.mark.parametrize(
    "options",
    [
        {"step": -1},
        {"step": 1 << 63},
        {"step": 1.0},
        {"step": True},
        {"kind": "other"},
        {"status": "done"},
        {"best": "loss"},
        {"best": "loss:smallest"},
        {"config": object()},
        {"config": {"a": 1 << 70}},
        {"run": "a b"},
        {"run": ""},
        {"run": "last"},
        {"message": "x" * 70_000},
        {"metrics": {str(number): 1 for number in range(5000)}},
        {"author": "x" * 300},
    ],
)
def test_what_cannot_be_committed_is_refused_and_nothing_is_written(
    store: casckpt.Store, options: dict[str, Any]
) -> None:
    before = store.status().stored
    with pytest.raises((UsageError, InvalidName, TooLarge)):
        store.commit({"x": 1}, **options)
    assert store.status().stored == before
    assert list(store.log()) == []


UNREADABLE = [
    {"epoch": "x"},
    {"epoch": True},
    {"metrics": {5: 1.0}},
    {"metrics": {None: 1.0}},
    {"schema": ("x", "y")},
    {"schema": (1, 2)},
    {"schema": ("x", True)},
]


@pytest.mark.parametrize("options", UNREADABLE, ids=str)
def test_no_commit_is_published_that_no_reader_accepts(store: casckpt.Store, options: dict[str, Any]) -> None:
    first = store.commit({"x": 1})
    with pytest.raises(UsageError):
        store.commit({"x": 2}, **options)
    assert store.show("main").id == first.id
    assert store.commit({"x": 3}).parents == (first.id,)
    assert store.fsck().ok


UNTYPED = [
    {"metrics": {"x": 1 << 70}},
    {"epoch": 1 << 70},
    {"epoch": np.float32(1)},
    {"metrics": {"\ud800": 1}},
    {"message": "\ud800"},
    {"message": 5},
    {"author": "\ud800"},
    {"author": None},
    {"run": 5},
    {"schema": ("x", 1 << 70)},
    {"expect": "\ud800"},
]


@pytest.mark.parametrize("options", UNTYPED, ids=ascii)
def test_every_refusal_is_an_error_of_casckpt(store: casckpt.Store, options: dict[str, Any]) -> None:
    store.commit({"x": 1})
    with pytest.raises(CasckptError):
        store.commit({"x": 2}, **options)


def test_a_config_that_contains_itself_is_refused(store: casckpt.Store) -> None:
    config: list[Any] = []
    config.append(config)
    with pytest.raises(UsageError):
        store.commit({}, config=config)


# ---- parents and times


def test_the_line_of_a_run_goes_on_and_others_begin_their_own(store: casckpt.Store) -> None:
    first = store.commit({"n": 1}, run="a")
    assert store.commit({"n": 2}, run="a").parents == (first.id,)
    assert store.commit({"n": 3}, run="b").parents == ()
    assert store.show("a~1").children == (store.show("a").id,)


def test_parents_that_are_given_are_the_parents(store: casckpt.Store) -> None:
    a, b = store.commit({"n": 1}, run="a"), store.commit({"n": 2}, run="b")
    merged = store.commit({"n": 3}, run="a", parents=("a", b.short))
    assert merged.parents == (a.id, b.id)
    assert store.commit({"n": 4}, run="a", parents=()).parents == ()
    with pytest.raises(RevisionNotFound):
        store.commit({"n": 5}, run="a", parents=("nowhere",))
    with pytest.raises(TooLarge):
        store.commit({"n": 5}, run="a", parents=("a",) * 65)


def test_expect_compares_with_the_last_of_the_run(store: casckpt.Store) -> None:
    first = store.commit({"n": 1})
    second = store.commit({"n": 2}, expect=first.id)
    with pytest.raises(ConflictError):
        store.commit({"n": 3}, expect=first.id)
    with pytest.raises(ConflictError):
        store.commit({"n": 3}, run="new", expect=first.id)
    assert [info.id for info in store.log()] == [second.id, first.id]


def test_time_never_runs_backwards_along_parents(store: casckpt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = store.commit({"n": 1}).time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: 1_000)
    second = store.commit({"n": 2})
    third = store.commit({"n": 3}, run="other")
    fourth = store.commit({"n": 4}, run="other", parents=("main", "other"))
    assert (second.time_ns, third.time_ns, fourth.time_ns) == (now + 1, 1_000, now + 2)
    assert [info.id for info in store.log()] == [fourth.id, second.id, store.show("main~1").id, third.id]


# ---- best, recovery, tags


def test_best_follows_its_rule_from_the_commit_that_sets_it(store: casckpt.Store) -> None:
    store.commit({"n": 0}, metrics={"loss": 0.1})
    with pytest.raises(RevisionNotFound) as raised:
        store.show("main/best")
    assert "best=" in raised.value.message
    ids = [store.commit({"n": n}, metrics={"loss": loss}, best="loss:min").id for n, loss in enumerate([3, 2, 2, 4])]
    assert store.show("main/best").id == ids[1]
    assert store.show("best").id == ids[1]
    assert store.runs()[0].rule == "loss:min"
    worse = store.commit({"n": 9}, metrics={"loss": 9}, best="loss:max")
    assert store.show("best").id == worse.id
    assert store.commit({"n": 10}, metrics={"loss": math.nan}).refs == ("last",)
    assert store.commit({"n": 11}, metrics={"loss": 99}, status="failed").refs == ("last",)
    assert store.commit({"n": 12}, metrics={"loss": 10}).refs == ("best", "last")


def test_recovery_is_the_newest_completed_of_its_kind(store: casckpt.Store) -> None:
    first = store.commit({"n": 1}, kind="recovery")
    store.commit({"n": 2}, kind="recovery", status="running")
    store.commit({"n": 3})
    assert store.show("main/recovery").id == first.id
    assert store.show("recovery").id == first.id


def test_a_tag_never_moves(store: casckpt.Store) -> None:
    first = store.commit({"n": 1})
    assert store.tag("v1").refs == ("last", "tag: v1")
    assert store.tag("v1", first.id).id == first.id
    second = store.commit({"n": 2})
    with pytest.raises(RefExists) as raised:
        store.tag("v1")
    assert raised.value.facts["actual"] == first.short
    assert store.show("v1").id == first.id
    assert store.tag("v2", "v1~0").id == first.id
    assert store.tag("newest").id == second.id
    assert set(store.status().tags) == {"v1", "v2", "newest"}
    with pytest.raises(InvalidName):
        store.tag("a b")
    with pytest.raises(RevisionNotFound):
        store.tag("v3", "nowhere")


def test_a_tag_comes_before_a_run_of_its_name(store: casckpt.Store) -> None:
    first = store.commit({"n": 1}, run="same")
    second = store.commit({"n": 2}, run="same")
    store.tag("same", first.id)
    with pytest.warns(RevisionWarning, match="taken as the tag"):
        assert store.show("same").id == first.id
    assert store.show("same/last").id == second.id
    assert store.show("runs/same").id == second.id
    assert store.show("tags/same").id == first.id
