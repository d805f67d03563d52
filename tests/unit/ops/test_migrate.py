"""The migrated state of a commit becomes a commit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import casckpt
from casckpt.errors import ConflictError, MigrationFailed, RequiredPathMissing, RevisionNotFound

pytestmark = pytest.mark.filterwarnings("ignore::casckpt.SchemaWarning")


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


@pytest.fixture
def name() -> str:
    """A schema with steps from 1 to 3."""
    made = uuid.uuid4().hex
    casckpt.migration(made, 1, 2)(lambda state: {"model": state})
    casckpt.migration(made, 2, 3)(lambda state: {**state, "epoch": 0})
    return made


def test_the_last_of_a_run_gets_a_child_that_says_the_same_of_another_state(store: casckpt.Store, name: str) -> None:
    words: dict[str, Any] = {"run": "gpt", "step": 5, "epoch": 0.5, "metrics": {"loss": 0.25}, "author": "ada"}
    words |= {"kind": "recovery", "status": "completed", "config": {"lr": 1}, "code": "x"}
    before = store.commit({"w": 1}, schema=(name, 1), message="before", **words)
    store.commit({"w": 1}, run="other")
    after = store.migrate("gpt")
    assert (after.parents, after.schema, after.message) == ((before.id,), (name, 3), f"migrated from {name} 1 to 3")
    kept = ("run", "step", "epoch", "metrics", "author", "kind", "status")
    assert [getattr(after, one) for one in kept] == [getattr(before, one) for one in kept]
    assert set(after.refs) == {"last", "recovery"}
    assert store.metadata("gpt") == store.metadata(f"id:{before.id}")
    assert store.checkout("gpt") == {"model": {"w": 1}, "epoch": 0}
    assert store.checkout(f"id:{before.id}", migrate=False) == {"w": 1}


def test_a_current_commit_is_returned_as_it_is(store: casckpt.Store, name: str) -> None:
    commit = store.commit({"w": 1}, schema=(name, 3))
    assert store.migrate().id == commit.id
    plain = store.commit({"w": 1})
    assert store.migrate().id == plain.id
    assert len(list(store.log())) == 2


def test_an_older_state_never_becomes_the_last_of_its_run(store: casckpt.Store, name: str) -> None:
    old = store.commit({"w": 1}, run="gpt", step=1, schema=(name, 1))
    last = store.commit({"w": 2}, run="gpt", step=2, schema=(name, 1))
    with pytest.raises(ConflictError):
        store.migrate("gpt@step=1")
    assert store.show("gpt").id == last.id
    after = store.migrate("gpt@step=1", run="gpt-v3")
    assert (after.run, after.step, after.parents) == ("gpt-v3", 1, (old.id,))
    assert store.checkout("gpt-v3") == {"model": {"w": 1}, "epoch": 0}
    assert store.show("gpt").id == last.id


def test_a_schema_says_how_far_and_what_is_required(store: casckpt.Store, name: str) -> None:
    store.commit({"w": 1}, schema=(name, 1))
    with pytest.raises(RequiredPathMissing, match="epoch"):
        store.migrate(schema=casckpt.Schema(name, 2, required=["model/w", "epoch"]))
    assert len(list(store.log())) == 1
    assert store.migrate(schema=(name, 2)).schema == (name, 2)
    commit = store.migrate(schema=casckpt.Schema(name, 3, required=["model/w", "epoch"]))
    assert (commit.schema, commit.required) == ((name, 3), ("epoch", "model/w"))
    assert store.fsck("full").ok


def test_what_fails_commits_nothing(store: casckpt.Store, name: str) -> None:
    store.commit(5, schema=(name, 2))
    with pytest.raises(MigrationFailed, match="TypeError"):
        store.migrate()
    with pytest.raises(RevisionNotFound):
        store.migrate("absent")
    assert len(list(store.log())) == 1


def test_it_waits_for_commits_in_the_background(store: casckpt.Store, name: str) -> None:
    store.commit({"w": 0}, schema=(name, 1))
    pending = store.commit({"w": 1}, schema=(name, 1), wait=False)
    after = store.migrate()
    committed = pending.result()
    assert committed is not None
    assert after.parents == (committed.id,)


def test_progress_goes_over_the_reading_and_the_writing(store: casckpt.Store, name: str) -> None:
    store.commit({"w": bytes(20 << 20)}, schema=(name, 1))
    seen: list[tuple[int, int]] = []
    store.migrate(progress=lambda done, total: seen.append((done, total)))
    fresh = [at for at in range(1, len(seen)) if seen[at][0] < seen[at - 1][0]]
    assert len(fresh) == 1
    assert seen[fresh[0] - 1] == seen[-1] == (20 << 20, 20 << 20)
