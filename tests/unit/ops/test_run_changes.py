"""Runs as names: forks, renames, ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import casckpt
from casckpt.errors import InvalidName, RevisionNotFound, RunExists, UsageError


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        for step, loss in enumerate((0.5, 0.25, 0.375)):
            made.commit({"n": step}, run="gpt", step=step, metrics={"loss": loss}, best="loss:min")
        yield made


def counts(store: casckpt.Store) -> dict[str, int]:
    return {run.name: run.commits for run in store.runs()}


def test_a_fork_begins_at_any_commit_with_the_rule_of_its_run(store: casckpt.Store) -> None:
    fork = store.fork_run("gpt@step=1", "low")
    assert (fork.name, fork.commits, fork.last.step, fork.rule, fork.best) == ("low", 0, 1, "loss:min", None)
    assert counts(store) == {"gpt": 3, "low": 0}
    made = store.commit({"n": 9}, run="low", step=2, metrics={"loss": 1.0})
    assert made.parents == (store.show("gpt@step=1").id,)
    assert store.show("low/best").id == made.id
    assert store.show("fork(gpt,low)").step == 1
    assert counts(store) == {"low": 1, "gpt": 3}


def test_a_fork_at_the_newest_commit_does_not_become_the_current_run(store: casckpt.Store) -> None:
    store.fork_run("gpt", "zzz")
    assert store.show("best").step == 1
    assert set(store.show("gpt").refs) == {"last", "zzz/last"}


def test_a_name_that_is_taken_is_refused(store: casckpt.Store) -> None:
    store.fork_run("gpt", "low")
    with pytest.raises(RunExists, match="run 'gpt' exists already; its last commit is"):
        store.fork_run("low", "gpt")
    with pytest.raises(RunExists):
        store.rename_run("low", "gpt")
    with pytest.raises(RunExists):
        store.rename_run("gpt", "gpt")
    for wrong in ("a b", "best", ""):
        with pytest.raises(InvalidName):
            store.fork_run("gpt", wrong)
        with pytest.raises(InvalidName):
            store.rename_run("gpt", wrong)
    with pytest.raises(RevisionNotFound, match="did you mean 'gpt'"):
        store.rename_run("gtp", "x")
    assert counts(store) == {"gpt": 3, "low": 0}


def test_a_renamed_run_has_its_new_name_everywhere(store: casckpt.Store) -> None:
    store.finish_run("gpt", "failed")
    run = store.rename_run("gpt", "base")
    assert (run.name, run.commits, run.rule, run.finished) == ("base", 3, "loss:min", "failed")
    assert {commit.run for commit in store.log()} == {"base"}
    assert [commit.step for commit in store.log("base", where="run = base and loss < 0.3")] == [1]
    assert store.show("base/best(loss,max)").step == 0
    assert store.show("base/best").step == 1
    assert counts(store) == {"base": 3}
    for gone in ("gpt", "gpt/best"):
        with pytest.raises(RevisionNotFound):
            store.show(gone)


def test_a_training_that_still_commits_to_the_old_name_begins_a_new_run(store: casckpt.Store) -> None:
    last = store.show("gpt").id
    store.rename_run("gpt", "base")
    made = store.commit({"n": 7}, run="gpt", step=7, metrics={"loss": 9.0})
    assert made.parents == ()
    assert (store.show("gpt").id, store.show("base").id) == (made.id, last)
    assert counts(store) == {"gpt": 1, "base": 3}
    assert [run.rule for run in store.runs()] == [None, "loss:min"]
    store.rename_run("gpt", "late")
    assert counts(store) == {"late": 1, "base": 3}


def test_renames_follow_each_other_and_may_come_back(store: casckpt.Store) -> None:
    for old, new in (("gpt", "a"), ("a", "b"), ("b", "gpt"), ("gpt", "c")):
        store.rename_run(old, new)
        assert counts(store) == {new: 3}
    store.commit({"n": 8}, run="a")
    assert counts(store) == {"a": 1, "c": 3}
    store.rename_run("a", "gpt")
    assert counts(store) == {"gpt": 1, "c": 3}


def test_names_survive_a_rebuild_of_the_index(tmp_path: object) -> None:
    with casckpt.init(f"{tmp_path}/store") as store:
        for step in range(3):
            store.commit({"n": step}, run="gpt", step=step)
        store.rename_run("gpt", "base")
        store.commit({"n": 3}, run="gpt")
        expected = [(commit.id, commit.run) for commit in store.log()]
        store._repository.rebuild_index()
        assert counts(store) == {"gpt": 1, "base": 3}
        assert [(commit.id, commit.run) for commit in store.log()] == expected
        store.undo(5)
        store.undo()
        store._repository.rebuild_index()
        assert counts(store) == {"gpt": 4}


def test_a_clock_that_is_behind_makes_no_commit_belong_to_the_past(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.rename_run("gpt", "base")
    store.finish_run("base")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000)
    made = store.commit({"n": 1}, run="gpt")
    assert (made.run, made.time_ns > 1_000) == ("gpt", True)
    store.commit({"n": 2}, run="base")
    assert counts(store) == {"gpt": 1, "base": 4}
    assert {run.finished for run in store.runs()} == {None}
    store.rename_run("base", "again")
    assert counts(store) == {"gpt": 1, "again": 4}


def test_a_run_is_finished_until_its_next_commit(store: casckpt.Store) -> None:
    assert store.runs()[0].finished is None
    run = store.finish_run("gpt", "cancelled")
    assert (run.finished, run.to_dict()["finished"]) == ("cancelled", "cancelled")
    assert (run.finished_ns or 0) >= run.last.time_ns
    assert run.to_dict()["finished_at"]
    assert store.finish_run("gpt").finished == "completed"
    made = store.commit({"n": 5}, run="gpt")
    assert store.runs()[0].finished is None
    assert store.runs()[0].finished_ns is None
    store.undo(next(one.number for one in store.operations() if one.op == "commit"))
    assert store.runs()[0].last.id != made.id
    assert store.runs()[0].finished == "completed"
    with pytest.raises(UsageError):
        store.finish_run("gpt", "running")
    with pytest.raises(RevisionNotFound):
        store.finish_run("nobody")


def test_a_fork_without_commits_of_its_own_is_renamed(store: casckpt.Store) -> None:
    store.fork_run("gpt~1", "low")
    renamed = store.rename_run("low", "lower")
    assert (renamed.name, renamed.commits, renamed.last.step) == ("lower", 0, 1)


def test_a_dry_run_says_what_would_be_and_changes_nothing(store: casckpt.Store) -> None:
    before = [run.to_dict() for run in store.runs()]
    assert store.fork_run("gpt~1", "low", dry_run=True).last.step == 1
    renamed = store.rename_run("gpt", "base", dry_run=True)
    assert (renamed.name, renamed.commits, renamed.last.run) == ("base", 3, "base")
    assert store.finish_run("gpt", dry_run=True).finished == "completed"
    with pytest.raises(RunExists):
        store.rename_run("gpt", "gpt", dry_run=True)
    assert [run.to_dict() for run in store.runs()] == before
    assert len(list(store.operations())) == 4
