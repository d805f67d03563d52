from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

import casckpt
from casckpt.errors import InvalidRetention, UsageError
from casckpt.plan.policy import GRACE, Every, Retention, effective
from casckpt.units import DAY, HOUR
from tests.support.policies import NESTED, TABLES

CHECKPOINT_POLICY = {
    "keep_best": 3,           # Топ-3 по метрике
    "keep_last": 1,           # Последний
    "keep_periodic": 5,       # Каждые 5 эпох
    "keep_recovery": 2,       # Последние 2 recovery
    "max_total": 10,          # Максимум чекпоинтов
    "cleanup_older_than_days": 30
}  # fmt: skip


@given(TABLES | NESTED)
def test_a_policy_is_read_back_from_what_it_says(table: dict[str, Any]) -> None:
    policy = Retention.from_dict(table)
    said = policy.to_dict()
    assert Retention.from_dict(said) == policy
    assert Retention.from_dict(json.loads(json.dumps(said))) == policy
    assert said.keys() - {"runs"} == table.keys() - {"runs"}
    assert replace(policy) == pickle.loads(pickle.dumps(policy)) == policy
    assert hash(replace(policy)) == hash(policy)


# ---- forms ----


def test_the_policy_of_the_first_system_works_as_it_is() -> None:
    policy = casckpt.Retention.from_dict(CHECKPOINT_POLICY)
    assert policy == casckpt.Retention(**CHECKPOINT_POLICY)  # type: ignore[arg-type]
    assert policy.to_dict() == CHECKPOINT_POLICY | {"keep_periodic": ["5 epochs"]}
    assert policy.periods == (Every("epoch", 5),)


@pytest.mark.parametrize("key", ["keep_last_n", "max_checkpoints"])
def test_what_other_systems_call_it_works_as_it_is(key: str) -> None:
    assert Retention.from_dict({key: 10}) == Retention(keep_last=10)
    with pytest.raises(InvalidRetention, match=f"{key}: this says keep_last a second time"):
        Retention.from_dict({"keep_last": 3, key: 10})


TOML = """
keep_last = 3
keep_best = 2
keep_periodic = ["1000 steps", "12h"]
within = "720h"
thin = {keep_periodic = ["optimizer", "rng*"]}

[runs."sweep-*"]
keep_last = 1
"""


@pytest.mark.parametrize("text", [TOML, "[retention]" + TOML.replace("[runs.", "[retention.runs.")])
def test_a_policy_is_read_from_toml(text: str) -> None:
    policy = Retention.from_toml(text)
    assert policy.to_dict() == {
        "keep_last": 3, "keep_best": 2, "keep_periodic": ["1000 steps", "12h"], "within": "30d",
        "thin": {"keep_periodic": ["optimizer", "rng*"]}, "runs": {"sweep-*": {"keep_last": 1}},
    }  # fmt: skip
    assert policy.runs == (("sweep-*", Retention(keep_last=1)),)
    assert policy.thinning == {"keep_periodic": ("optimizer", "rng*")}


@pytest.mark.parametrize("text", ["keep_last", "a = " + "[" * 10_000, "keep_last = 3\nkeep_last = 3"])
def test_a_text_that_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(InvalidRetention, match="retention: the text is no TOML"):
        Retention.from_toml(text)


@pytest.mark.parametrize(
    ("text", "every", "shown"),
    [
        ("1000 steps", Every("step", 1000), "1000 steps"),
        ("1 step", Every("step", 1), "1 step"),
        ("1 epochs", Every("epoch", 1), "1 epoch"),
        (" 5  epochs ", Every("epoch", 5), "5 epochs"),
        ("90 min", Every("time", 90 * 60 * 10**9), "90min"),
        ("3 hours", Every("time", 3 * HOUR), "3h"),
        ("5 s", Every("time", 5 * 10**9), "5s"),
        ("0 steps", None, ""),
        ("-5 steps", None, ""),
        ("0h", None, ""),
        ("5", None, ""),
        ("steps", None, ""),
        ("1.5 epochs", None, ""),
        ("5 stepss", None, ""),
        ("99999999999999999999 steps", None, ""),
        ("999999999 weeks", None, ""),
    ],
)
def test_a_period_is_read(text: str, every: Every | None, shown: str) -> None:
    assert Every.parse(text) == every
    if every is not None:
        assert str(every) == shown
        assert Every.parse(shown) == every


def test_unsaid_grace_is_a_day() -> None:
    assert Retention(keep_last=1).grace_ns == DAY
    assert Retention(keep_last=1, grace="0s").grace_ns == 0
    assert GRACE == "1d"


# ---- what is refused ----


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ({}, "retention", "an empty policy would keep nothing; say at least one of keep_last, keep_best"),
        ({"runs": {}}, "retention", "an empty policy"),
        ({"keep_last": None}, "retention", "an empty policy"),
        ({"keep_bst": 3}, "keep_bst", "there is no such key; did you mean keep_best?"),
        ({"max_checkpoint": 3}, "max_checkpoint", "did you mean max_checkpoints"),
        ({"keep_daily": 3}, "keep_daily", "did you mean daily?"),
        ({"zzz": 3}, "zzz", "there is no such key; there are keep_last, keep_best"),
        ({1: 3}, "1", "there is no such key"),
        ({"keep_last": -1}, "keep_last", "a number of commits, 0 or more, not -1"),
        ({"keep_last": 3.0}, "keep_last", "not 3.0"),
        ({"keep_last": True}, "keep_last", "not True"),
        ({"max_total": "10"}, "max_total", "not '10'"),
        ({"metric": ""}, "metric", "the name of a metric, not ''"),
        ({"metric": "\ud800"}, "metric", "the name of a metric"),
        ({"mode": "least"}, "mode", "'min' or 'max', not 'least'"),
        ({"keep_periodic": "often"}, "keep_periodic", "'1000 steps', '5 epochs', a length of time"),
        ({"keep_periodic": ["5 epochs", 0]}, "keep_periodic", "not 0"),
        ({"keep_periodic": False}, "keep_periodic", "not False"),
        ({"keep_periodic": 2.5}, "keep_periodic", "not 2.5"),
        ({"within": 30}, "within", "as '30d', '12h' or '10min', not 30"),
        ({"within": "101 years"}, "within", "up to 100 years"),
        ({"grace": "36501d"}, "grace", "up to 100 years"),
        ({"cleanup_older_than_days": "30d"}, "cleanup_older_than_days", "a number of days up to 100 years"),
        ({"cleanup_older_than_days": float("nan")}, "cleanup_older_than_days", "not nan"),
        ({"cleanup_older_than_days": -1}, "cleanup_older_than_days", "not -1"),
        ({"cleanup_older_than_days": True}, "cleanup_older_than_days", "not True"),
        ({"keep_tags": 1}, "keep_tags", "true or false, not 1"),
        ({"keep_pins": False}, "keep_pins", "what is pinned is always kept"),
        ({"thin": ["optimizer"]}, "thin", "a table by rule"),
        ({"thin": {"keep_pins": "optimizer"}}, "thin.keep_pins", "no such rule that thins"),
        ({"thin": {"periodic": "optimizer"}}, "thin.periodic", "did you mean keep_periodic"),
        ({"thin": {"keep_last": ""}}, "thin.keep_last", "a pattern of names of components"),
        ({"thin": {"keep_last": [1]}}, "thin.keep_last", "a pattern of names of components"),
        ({"thin": {"keep_last": "model/head"}}, "thin.keep_last", "components are given up whole"),
        ({"runs": 3}, "runs", "a table by pattern of run names"),
        ({"runs": {"": {"keep_last": 1}}}, "runs", "a pattern of run names is a text"),
        ({"runs": {"gpt": 3}}, "runs.gpt.retention", "a table of keys, not 3"),
        ({"runs": {"gpt": {}}}, "runs.gpt.retention", "an empty policy"),
        ({"runs": {"gpt": {"keep_lst": 3}}}, "runs.gpt.keep_lst", "did you mean keep_last"),
        ({"runs": {"a": {"runs": {"b": {"keep_last": 1}}}}}, "runs.a.runs", "has no runs of its own"),
        ({"runs": [("a", {"keep_last": 1}), ("a", {"keep_last": 2})]}, "runs.a", "this pattern is there already"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(table: dict[Any, Any], key: str, words: str) -> None:
    with pytest.raises(InvalidRetention) as raised:
        Retention.from_dict(table)
    assert isinstance(raised.value, UsageError)
    assert raised.value.facts["key"] == key
    assert words in raised.value.message


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(InvalidRetention, match="a table of keys, not 'keep_last'"):
        Retention.from_dict("keep_last")  # type: ignore[arg-type]


def test_a_policy_is_checked_however_it_is_made() -> None:
    with pytest.raises(InvalidRetention):
        Retention()
    with pytest.raises(InvalidRetention):
        Retention(keep_last=-1)
    with pytest.raises(InvalidRetention):
        replace(Retention(keep_last=1), mode="best")


# ---- layers ----


def test_a_later_layer_replaces_what_it_says_key_by_key() -> None:
    store = Retention(
        keep_last=3, keep_best=2, thin={"keep_last": "a"}, runs={"sweep-*": {"keep_last": 1}, "*-9": {"keep_last": 9}}
    )
    call = Retention(keep_best=5, thin={"keep_best": "b"})
    strict = Retention(keep_last=7)

    def last_and_best(layers: list[Retention], run: str) -> tuple[int | None, int | None]:
        policy = effective(layers, run)
        return policy.keep_last, policy.keep_best

    assert last_and_best([store], "main") == (3, 2)
    assert last_and_best([store], "sweep-1") == (1, 2)
    assert last_and_best([store], "sweep-9") == (9, 2)
    assert last_and_best([store, call], "sweep-9") == (9, 5)
    assert last_and_best([store, call, strict], "sweep-9") == (7, 5)
    assert effective([store, call], "main").thinning == {"keep_best": ("b",)}
    assert effective([store], "main").grace_ns == DAY


def test_a_layer_turns_a_rule_off_with_0() -> None:
    store, call = Retention(keep_last=3, keep_periodic="5 steps", max_total=4), Retention(keep_periodic=0, max_total=0)
    policy = effective([store, call], "main")
    assert (policy.keep_last, policy.periods, policy.max_total) == (3, (), 0)
    with pytest.raises(InvalidRetention, match="for the run 'main' no rule is on"):
        effective([store, call, Retention(keep_last=0)], "main")
