"""Policies that a store keeps: read from its settings file and its runs, laid over each other, asked for the grace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import CasckptError, DamagedSettings, InvalidRetention, InvalidSetting, UnknownSetting
from casckpt.format.entry import Entry
from casckpt.ops.kept_policy import KeptPolicies, grace_ns, kept_layers, kept_policies
from casckpt.plan.policy import Retention
from casckpt.units import DAY, HOUR


@pytest.fixture
def store(tmp_path: Path) -> casckpt.Store:
    return casckpt.init(tmp_path / "s")


def say(store: casckpt.Store, text: str) -> None:
    assert store.path is not None
    (store.path / "config.toml").write_text(text)


def say_of_run(store: casckpt.Store, run: str, table: Any) -> None:
    """As another program may have written it."""
    with store._repository.session() as session:
        session.publish(lambda: (Entry("keep", 1, runs={run: {"retention": table}}, before={run: {}}), []))


def test_a_store_that_keeps_no_policy_has_no_layers_and_the_grace_of_a_day(store: casckpt.Store) -> None:
    repository = store._repository
    assert (kept_layers(repository), grace_ns(repository, "gpt")) == ((), DAY)
    say(store, "[retention]\n[retention.runs.x]\n")
    assert kept_layers(repository) == ()


def test_the_policy_of_a_run_is_laid_over_that_of_the_store_and_is_of_no_other(store: casckpt.Store) -> None:
    say(store, 'threads = 0\n[retention]\nkeep_last = 3\ngrace = "2d"\n[retention.runs."w*"]\ngrace = "3d"\n')
    say_of_run(store, "gpt[1]", {"keep_last": 1, "grace": "5h"})
    say_of_run(store, "wide", {"keep_best": 2, "metric": "loss", "mode": "min"})
    kept = kept_policies(store._repository.database)
    assert kept.of("gpt[1]") == Retention(keep_last=1, grace="5h")
    assert kept.of("gpt1") == kept.of("other") == Retention(keep_last=3, grace="2d")
    assert kept.of("wide") == Retention(keep_last=3, keep_best=2, metric="loss", mode="min", grace="3d")
    found = [grace_ns(store._repository, run) for run in ("gpt[1]", "gpt1", "wide")]
    assert found == [5 * HOUR, 2 * DAY, 3 * DAY]
    assert kept.to_dict()["runs"]["gpt[1]"] == {"keep_last": 1, "grace": "5h"}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[retention]\nkeep_lst = 3\n", UnknownSetting, "line 2: there is no such key; did you mean keep_last?"),
        ("[retention]\nkeep_last = -1\n", InvalidSetting, "line 2"),
        ('[retention.runs."a.b*"]\nkeep_last = "x"\n', InvalidSetting, "line 2"),
        ("retention = 3\n", UnknownSetting, "line 1"),
        ("[retention]\nkeep_last = 1\nkeep_last_n = 2\n", InvalidSetting, "a second time"),
        ("[retention\n", DamagedSettings, "line 1"),
    ],
)
def test_while_a_key_is_wrong_nobody_can_say_the_grace(
    store: casckpt.Store, text: str, error: type[CasckptError], words: str
) -> None:
    say(store, text)
    for ask in (lambda: kept_layers(store._repository), lambda: grace_ns(store._repository, "gpt")):
        with pytest.raises(error, match=r"config\.toml") as caught:
            ask()
        assert words in str(caught.value)


@pytest.mark.parametrize("table", [3, {}, {"keep_last": "x"}, {1: 2}, {"runs": {"a": {"keep_last": 1}}}])
def test_a_policy_of_a_run_that_cannot_be_meant_names_the_run(store: casckpt.Store, table: Any) -> None:
    say_of_run(store, "gpt", table)
    with pytest.raises(InvalidRetention, match="the run 'gpt'"):
        kept_layers(store._repository)


def test_layers_are_one_for_the_store_and_one_for_its_runs() -> None:
    one, other = Retention(keep_last=1), Retention(keep_last=2)
    assert KeptPolicies(one, {}).layers == (one,)
    assert KeptPolicies(None, {"a": other}).layers == (Retention(runs={"a": other}),)
    assert len(KeptPolicies(one, {"a": other, "b": other}).layers) == 2
