"""Runs at a glance: what goes on in them, by their newest commits."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

import casckpt
from casckpt.errors import InvalidFilter, MetricNotFound
from casckpt.format.entry import Entry
from casckpt.ops import overview

NOW = 1_800_000_000 * 10**9


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as found:
        yield found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time it is, in its only item."""
    now = [NOW]
    monkeypatch.setattr("casckpt.ops.overview.time.time_ns", lambda: now[0])
    return now


def pass_s(clock: list[int], seconds: float) -> None:
    clock[0] += int(seconds * 10**9)


def state_of(store: casckpt.Store) -> str:
    [run] = store.runs()
    assert run.activity is not None
    return run.activity.state


def test_a_run_goes_on_until_three_of_its_intervals_have_passed(store: casckpt.Store, clock: list[int]) -> None:
    for step in range(4):
        pass_s(clock, 100)
        store.commit({"x": step}, step=step)
    [run] = store.runs()
    assert run.activity is not None
    assert run.activity.interval_ns == 100 * 10**9
    pass_s(clock, 299)
    assert state_of(store) == "running"
    pass_s(clock, 1)
    assert state_of(store) == "stopped"


def test_quick_commits_count_as_running_for_a_minute_and_a_single_one_for_an_hour(
    store: casckpt.Store, clock: list[int]
) -> None:
    store.commit({"x": 0})
    pass_s(clock, 3599)
    assert state_of(store) == "running"
    pass_s(clock, 1)
    assert state_of(store) == "stopped"
    store.commit({"x": 1}, run="main", parents=())
    pass_s(clock, 1)
    store.commit({"x": 2})
    pass_s(clock, 59)
    assert state_of(store) == "running"
    pass_s(clock, 1)
    assert state_of(store) == "stopped"


@pytest.mark.parametrize("status", ["failed", "cancelled", "preempted"])
def test_the_newest_commit_says_how_a_run_ended(store: casckpt.Store, status: str) -> None:
    store.commit({"x": 0}, status=status)
    assert state_of(store) == status


def test_a_final_commit_and_a_setting_finish_a_run(store: casckpt.Store, clock: list[int]) -> None:
    store.commit({"x": 0})
    for settings, expected in (
        ({"time": clock[0] + 1, "status": "failed"}, "failed"),
        ({"time": clock[0] + 1, "status": "completed"}, "finished"),
        ({"time": 5, "status": "completed"}, "running"),
        ({"time": "soon"}, "running"),
    ):
        entry = Entry("run", clock[0], runs={"main": {"finished": settings}}, by="test")
        with store._repository.session() as session:
            session.publish(lambda entry=entry: (entry, []))  # type: ignore[misc]
        assert state_of(store) == expected
    store.commit({"x": 1}, kind="final")
    assert state_of(store) == "finished"


def test_recent_values_of_the_metric_that_decides_come_oldest_first(store: casckpt.Store) -> None:
    for step in range(40):
        metrics = {"acc": 0.5, "loss": math.nan if step == 20 else 1.0 * step} if step != 30 else {}
        store.commit({"x": step}, step=step, metrics=metrics, best="loss:min")
    [run] = store.runs()
    found = run.activity
    assert found is not None
    assert (found.metric, found.commits, found.bad, found.bad_since) == ("loss", 32, 1, 20)
    assert [found.recent[0], found.recent[22], found.recent[-1]] == [8.0, None, 39.0]
    assert found.to_dict()["recent"][12] == "NaN"
    assert found.nbytes == 0


def test_a_fork_shows_its_own_commits_only(store: casckpt.Store) -> None:
    base = store.commit({"x": 0}, run="base", metrics={"loss": 1})
    store.commit({"x": 1}, run="fork", metrics={"loss": 2}, parents=(f"id:{base.id}",))
    fork = next(run for run in store.runs() if run.name == "fork")
    assert fork.activity is not None
    assert (fork.activity.recent, fork.activity.interval_ns) == ((2,), None)


def test_runs_are_sorted_and_chosen(store: casckpt.Store) -> None:
    for name, losses in (("b", (3, 1, 2)), ("c", (0, 5)), ("a", (4,))):
        for step, loss in enumerate(losses):
            store.commit({"x": step}, run=name, step=step, metrics={"loss": loss}, best="loss:min")
    store.commit({"x": 0}, run="d", step=7, metrics={"other": math.nan})

    def names(**words: str) -> str:
        return "".join(run.name for run in store.runs(**words))  # type: ignore[arg-type]

    assert [names(), names(sort="name"), names(sort="commits"), names(sort="loss")] == ["dacb", "abcd", "bcda", "cbad"]
    assert names(where="loss > 3") == "ac"
    assert names(where="run = d", sort="other") == "d"
    assert names(where="step > 99") == ""
    with pytest.raises(MetricNotFound) as caught:
        store.runs(sort="los")
    assert "loss" in caught.value.reason
    with pytest.raises(InvalidFilter):
        store.runs(where="loss >")
    assert [run.name for run in store.status().runs] == list(names())


def test_best_first_goes_by_the_rule(store: casckpt.Store) -> None:
    for name, best in (("a", 0.5), ("b", 0.9)):
        store.commit({"x": name}, run=name, metrics={"acc": best}, best="acc:max")
        store.commit({"x": name + "!"}, run=name, metrics={"acc": 0.1})
    assert [run.name for run in store.runs(sort="acc")] == ["b", "a"]


def test_an_empty_store_has_no_runs_however_they_are_asked_for(store: casckpt.Store) -> None:
    assert store.runs(sort="loss") == store.runs(where="step > 1") == []
    assert overview.RECENT == 32
