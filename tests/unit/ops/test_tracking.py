"""Refs that say where a remote is: they can be asked for by name, and hold nothing."""

from __future__ import annotations

import pytest

import casckpt
from casckpt.errors import RevisionNotFound
from casckpt.ops.push import push
from casckpt.ops.pushed import pushed
from casckpt.storage.memory_objects import MemoryObjects


@pytest.fixture
def store() -> casckpt.Store:
    """Three commits of the run `gpt`, of which a remote has two, and a tag."""
    store = casckpt.memory()
    for step in range(2):
        store.commit({"x": step}, run="gpt", step=step, metrics={"loss": 1.0 + step}, best="loss:min")
    store.tag("v1", "gpt~1")
    push(store._repository, MemoryObjects(), "origin", everything=True)
    store.commit({"x": 2}, run="gpt", step=2)
    return store


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("remotes/origin/runs/gpt/last", 1),
        ("remotes/origin/runs/gpt", 1),
        ("remotes/origin/gpt", 1),
        ("origin/gpt", 1),
        ("origin/gpt/best", 0),
        ("origin/last", 1),
        ("origin/v1", 0),
        ("origin/tags/v1", 0),
        ("origin/gpt~1", 0),
        ("gpt", 2),
        ("best", 0),
    ],
)
def test_a_ref_of_a_remote_is_a_revision(store: casckpt.Store, name: str, step: int) -> None:
    assert store.show(name).step == step


def test_what_a_remote_has_not_is_not_found_and_close_names_are_told(store: casckpt.Store) -> None:
    with pytest.raises(RevisionNotFound):
        store.show("upstream/gpt")
    with pytest.raises(RevisionNotFound, match="origin/v1"):
        store.show("origin/v2")


def test_a_log_says_where_a_remote_is(store: casckpt.Store) -> None:
    shown = {commit.step: set(commit.refs) for commit in store.log()}
    assert shown == {2: {"last"}, 1: {"origin/last"}, 0: {"best", "tag: v1", "origin/best", "origin/v1"}}
    assert store.status().tags.keys() == {"v1"}
    assert [run.name for run in store.runs()] == ["gpt"]


def test_the_range_since_the_last_push_is_what_is_not_there(store: casckpt.Store) -> None:
    assert [commit.step for commit in store.log("origin/gpt..gpt")] == [2]


def test_a_ref_of_a_remote_holds_no_commit(store: casckpt.Store) -> None:
    assert [commit.step for commit in store.drop("gpt~1").dropped] == [1]


def test_retention_keeps_what_no_remote_has_whole(store: casckpt.Store) -> None:
    database = store._repository.database
    assert {database.commit(one).step for one in pushed(database)} == {0, 1}  # type: ignore[union-attr]
    for step in range(3, 5):
        store.commit({"x": step}, run="gpt", step=step)
    policy = {"keep_last": 1, "keep_best": 0, "keep_tags": False, "protect_unpushed": True}
    plan = store.retain(policy, dry_run=True).plan
    steps = {commit.id: commit.step for commit in store.log()}
    kept = {steps[one.id.hex()]: {reason.rule for reason in one.wanted} for one in plan.kept}
    assert "protect_unpushed" in kept[2]
    assert "protect_unpushed" in kept[3]
    assert [steps[one.id.hex()] for one in plan.dropped] == [1]


def test_without_what_was_seen_of_a_remote_everything_counts_as_unpushed(store: casckpt.Store) -> None:
    store._repository.storage.unlink("remotes/origin/root")
    assert pushed(store._repository.database) == set()


def test_refs_of_a_remote_go_with_the_commits_that_are_forgotten(store: casckpt.Store) -> None:
    store.untag("v1")
    store.forget("gpt~1", force=True)
    names = store._repository.database.refs("remotes/")
    assert "remotes/origin/runs/gpt/last" not in names
    assert store.fsck().ok


def test_undo_passes_over_a_push(store: casckpt.Store) -> None:
    store.tag("v2")
    push(store._repository, MemoryObjects(), "other", ["gpt"])
    assert store.undo().undone.op == "tag"
    assert store._repository.database.refs("remotes/other/")


def test_the_reflog_of_a_remote_tells_its_moves(store: casckpt.Store) -> None:
    (change,) = store.reflog("origin/gpt")
    assert (change.reason, change.old) == ("push", None)
