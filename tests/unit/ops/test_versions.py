"""Old states at checkout: migrated with one warning, refused with a way out, never half changed."""

from __future__ import annotations

import copy
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt import errors
from casckpt.errors import (
    MigrationFailed,
    MigrationNotFound,
    NewerSchema,
    PartialMigration,
    SchemaMismatch,
    StateMismatch,
    UnsupportedType,
    UsageError,
)

OLD = {"weights": [1.0, 2.0], "step": 7}


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


@pytest.fixture
def name() -> str:
    """A schema of which no other test has registered steps."""
    return uuid.uuid4().hex


def register(name: str, start: int, end: int, function: Callable[[Any], Any]) -> None:
    casckpt.migration(name, start, end)(function)


def nest(state: Any) -> Any:
    return {"model": {"weights": state["weights"]}, "step": state["step"]}


def count(state: Any) -> Any:
    state["count"] = len(state["model"]["weights"])
    return state


NEW = {"model": {"weights": [1.0, 2.0]}, "step": 7, "count": 2}


def fail(state: Any) -> Any:
    state.clear()
    raise ZeroDivisionError("by nothing")


def test_an_old_state_comes_back_in_the_current_version(store: casckpt.Store, name: str) -> None:
    store.commit(OLD, schema=(name, 1))
    store.commit(NEW, schema=(name, 4))
    register(name, 1, 2, nest)
    register(name, 2, 4, count)
    with pytest.warns(casckpt.SchemaWarning):
        assert store.checkout("@~1") == NEW
    assert store.checkout() == NEW
    assert store.checkout("@~1", migrate=False) == OLD
    with pytest.warns(casckpt.SchemaWarning, match="migrated to 2"):
        assert store.checkout("@~1", schema=(name, 2)) == nest(OLD)
    assert store.checkout("@~1", schema=casckpt.Schema(name, 1)) == OLD


def test_a_state_without_known_steps_comes_back_as_it_is(store: casckpt.Store, name: str) -> None:
    store.commit(OLD, schema=(name, 1))
    store.commit(OLD)
    assert store.checkout() == store.checkout("@~1") == OLD


def test_the_warning_names_commit_and_versions_and_where_the_step_is(store: casckpt.Store, name: str) -> None:
    commit = store.commit(OLD, schema=(name, 1))
    register(name, 1, 2, nest)
    with pytest.warns(
        casckpt.SchemaWarning, match=f"{commit.short} holds version 1 of the schema '{name}'.* to 2"
    ) as told:
        store.checkout()
    assert len(told) == 1
    assert (told[0].filename, told[0].lineno) == (__file__, nest.__code__.co_firstlineno)
    assert str(pickle.loads(pickle.dumps(told[0].message))) == str(told[0].message)


def test_a_warning_is_shown_once_for_each_commit_and_version(store: casckpt.Store, name: str) -> None:
    for _ in range(2):
        store.commit(OLD, schema=(name, 1))
    register(name, 1, 2, nest)
    register(name, 2, 4, count)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            store.checkout("@")
            store.checkout("@~1")
            store.checkout("@", schema=(name, 2))
        store.checkout()
    assert [(one.category, str(one.message).split("migrated to ")[1][0]) for one in told] == [
        (casckpt.SchemaWarning, "4"),
        (casckpt.SchemaWarning, "4"),
        (casckpt.SchemaWarning, "2"),
    ]


def test_a_warning_that_is_an_error_comes_before_any_step(store: casckpt.Store, name: str) -> None:
    store.commit(OLD, schema=(name, 1))
    register(name, 1, 2, fail)
    live = copy.deepcopy(OLD)
    with warnings.catch_warnings():
        warnings.simplefilter("error", casckpt.SchemaWarning)
        with pytest.raises(casckpt.SchemaWarning):
            store.checkout(into=live)
    assert live == OLD


def test_a_step_without_source_has_a_warning_too(store: casckpt.Store, name: str) -> None:
    store.commit(OLD, schema=(name, 1))
    register(name, 1, 2, partial(nest))
    with pytest.warns(casckpt.SchemaWarning):
        assert store.checkout() == nest(OLD)


def test_a_version_to_arrive_at_and_no_migration_do_not_go_together(store: casckpt.Store, name: str) -> None:
    store.commit(OLD, schema=(name, 1))
    with pytest.raises(UsageError, match="migrate=False"):
        store.checkout(schema=(name, 1), migrate=False)
    with pytest.raises(UsageError, match="a name and a version"):
        store.checkout(schema=(name,))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::casckpt.SchemaWarning")
class TestRefused:
    def test_a_step_that_raises_is_named_with_its_commit(self, store: casckpt.Store, name: str) -> None:
        commit = store.commit(OLD, schema=(name, 1))
        register(name, 1, 2, nest)
        register(name, 2, 3, fail)
        live = copy.deepcopy(NEW)
        with pytest.raises(
            MigrationFailed, match=f"from version 2 to 3 .*{commit.short}; ZeroDivisionError: by"
        ) as caught:
            store.checkout(into=live)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert live == NEW
        assert store.checkout(migrate=False) == OLD

    def test_a_step_that_returns_nothing_is_refused(self, store: casckpt.Store, name: str) -> None:
        store.commit(OLD, schema=(name, 1))
        register(name, 1, 2, lambda state: None)
        with pytest.raises(MigrationFailed, match="None instead of the state"):
            store.checkout()

    def test_an_interrupted_step_is_not_a_failure_of_it(self, store: casckpt.Store, name: str) -> None:
        def interrupted(state: Any) -> Any:
            raise KeyboardInterrupt

        store.commit(OLD, schema=(name, 1))
        register(name, 1, 2, interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.checkout()

    @pytest.mark.parametrize("words", [{"select": "weights"}, {"mmap": True}], ids=str)
    def test_a_part_is_not_migrated(self, store: casckpt.Store, name: str, words: dict[str, Any]) -> None:
        store.commit(OLD, schema=(name, 1))
        register(name, 1, 2, nest)
        with pytest.raises(PartialMigration, match="version 1"):
            store.checkout(**words)
        assert store.checkout(**words, migrate=False)["weights"] == [1.0, 2.0]
        assert store.checkout(**words, schema=(name, 1))["weights"] == [1.0, 2.0]

    def test_a_newer_state_and_a_gap_are_refused(self, store: casckpt.Store, name: str) -> None:
        store.commit(OLD, schema=(name, 9))
        store.commit(OLD, schema=(name, 3))
        register(name, 1, 2, nest)
        register(name, 5, 6, nest)
        with pytest.raises(NewerSchema):
            store.checkout("@~1")
        with pytest.raises(MigrationNotFound):
            store.checkout()
        with pytest.raises(SchemaMismatch):
            store.checkout(schema=("another", 1))
        assert store.checkout("@~1", migrate=False) == store.checkout(migrate=False) == OLD

    def test_a_migrated_state_that_does_not_fit_changes_nothing(self, store: casckpt.Store, name: str) -> None:
        store.commit({"w": np.arange(4.0), "n": 1}, schema=(name, 1))
        register(name, 1, 2, lambda state: {"model": state["w"], "n": state["n"]})
        live: dict[str, Any] = {"model": np.zeros(5), "n": 0}
        with pytest.raises(StateMismatch, match="model"):
            store.checkout(into=live)
        assert not live["model"].any()
        assert live["n"] == 0
        with pytest.raises(StateMismatch, match="it is here, and not in the commit"):
            store.checkout(into={"model": np.zeros(4), "n": 0, "more": 1})

    def test_a_step_that_makes_what_no_state_holds_changes_nothing(self, store: casckpt.Store, name: str) -> None:
        store.commit(OLD, schema=(name, 1))
        register(name, 1, 2, lambda state: {"x": object()})
        live = {"x": 1}
        with pytest.raises(UnsupportedType):
            store.checkout(into=live)
        assert live == {"x": 1}


FACTS = {"commit": "c", "name": "a", "start": 1, "end": 2, "at": 1, "version": 1, "problem": "p", "missing": "m"}


@pytest.mark.parametrize(
    "error",
    [
        errors.SchemaMismatch(**FACTS),
        errors.PartialMigration(**FACTS),
        errors.MigrationExists(**FACTS, function="f"),
        errors.MigrationNotFound(**FACTS, registered="none"),
        errors.NewerSchema(**FACTS),
        errors.RequiredPathMissing(**FACTS),
        errors.MigrationFailed(**FACTS),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_pickle(error: errors.CasckptError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.facts, str(again)) == (type(error), error.facts, str(error))
