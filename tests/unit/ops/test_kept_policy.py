"""Policies that a store keeps: read from its settings file and its runs, laid over each other, asked for the grace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import (
    CasckptError,
    DamagedSettings,
    InvalidRetention,
    InvalidSetting,
    RevisionNotFound,
    UnknownSetting,
)
from casckpt.format.entry import Entry
from casckpt.ops.kept_policy import KeptPolicies, kept_policies
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
    assert (kept_policies(repository.database).layers, kept_policies(repository.database).grace_ns("gpt")) == ((), DAY)
    say(store, "[retention]\n[retention.runs.x]\n")
    assert kept_policies(repository.database).layers == ()


def test_the_policy_of_a_run_is_laid_over_that_of_the_store_and_is_of_no_other(store: casckpt.Store) -> None:
    say(store, 'threads = 0\n[retention]\nkeep_last = 3\ngrace = "2d"\n[retention.runs."w*"]\ngrace = "3d"\n')
    say_of_run(store, "gpt[1]", {"keep_last": 1, "grace": "5h"})
    say_of_run(store, "wide", {"keep_best": 2, "metric": "loss", "mode": "min"})
    kept = kept_policies(store._repository.database)
    assert kept.of("gpt[1]") == Retention(keep_last=1, grace="5h")
    assert kept.of("gpt1") == kept.of("other") == Retention(keep_last=3, grace="2d")
    assert kept.of("wide") == Retention(keep_last=3, keep_best=2, metric="loss", mode="min", grace="3d")
    found = [kept_policies(store._repository.database).grace_ns(run) for run in ("gpt[1]", "gpt1", "wide")]
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
    with pytest.raises(error, match=r"config\.toml") as caught:
        kept_policies(store._repository.database)
    assert words in str(caught.value)


@pytest.mark.parametrize("table", [3, {}, {"keep_last": "x"}, {1: 2}, {"runs": {"a": {"keep_last": 1}}}])
def test_a_policy_of_a_run_that_cannot_be_meant_names_the_run(store: casckpt.Store, table: Any) -> None:
    say_of_run(store, "gpt", table)
    with pytest.raises(InvalidRetention, match="the run 'gpt'"):
        kept_policies(store._repository.database)


def test_layers_are_one_for_the_store_and_one_for_its_runs() -> None:
    one, other = Retention(keep_last=1), Retention(keep_last=2)
    assert KeptPolicies(one, {}).layers == (one,)
    assert KeptPolicies(None, {"a": other}).layers == (Retention(runs={"a": other}),)
    assert len(KeptPolicies(one, {"a": other, "b": other}).layers) == 2


POLICY = {"keep_last": 2, "keep_periodic": "1000 steps", "thin": {"keep_periodic": ["opt*"]}, "grace": "3d"}


def steps(store: casckpt.Store, run: str) -> list[int | None]:
    return [commit.step for commit in store.log(run) if commit.dropped is None]


@pytest.fixture
def trained(store: casckpt.Store) -> casckpt.Store:
    for run in ("gpt", "wide"):
        for step in range(5):
            store.commit({"weight": [step]}, run=run, step=step, parents=None)
    return store


def test_what_is_set_is_kept_and_applied_without_being_said_again(trained: casckpt.Store) -> None:
    assert trained.set_retention({"keep_last": 3, "grace": "2d"})
    assert trained.set_retention(Retention(keep_last=1), run="gpt")
    assert not trained.set_retention(Retention(keep_last=1), run="gpt")
    kept = trained.retention()
    assert (kept.store, kept.runs) == (Retention(keep_last=3, grace="2d"), {"gpt": Retention(keep_last=1)})
    report = trained.retain()
    assert (steps(trained, "gpt"), steps(trained, "wide")) == ([4], [4, 3, 2])
    assert {one.final_ns - fate.time_ns >= 2 * DAY for fate in report.fates if (one := fate.decision).final_ns} == {
        True
    }
    trained.undo()
    trained.retain({"keep_last": 4}, run="gpt")
    assert (len(steps(trained, "gpt")), len(steps(trained, "wide"))) == (4, 5)
    assert casckpt.open(trained.path or "").retention() == kept


def test_the_file_holds_what_was_set_and_keeps_the_rest(trained: casckpt.Store) -> None:
    say(trained, "# ours\nthreads = 2  # two\n\n[retention]\nkeep_lst = 3\n")
    trained.set_retention(POLICY | {"runs": {"a.b*": {"keep_last": 9}}})
    assert trained.retention().store == Retention.from_dict(POLICY | {"runs": {"a.b*": {"keep_last": 9}}})
    assert trained.set_retention(None)
    assert not trained.set_retention(None)
    assert trained.path is not None
    assert (trained.path / "config.toml").read_text() == "# ours\nthreads = 2  # two\n\n"
    with pytest.raises(InvalidRetention, match="the store keeps none"):
        trained.retain()


def test_a_kept_policy_of_a_run_is_undone_and_renamed_with_it(trained: casckpt.Store) -> None:
    trained.set_retention(POLICY, run="gpt")
    trained.set_retention({"keep_last": 5}, run="gpt")
    trained.undo()
    assert trained.retention().runs == {"gpt": Retention.from_dict(POLICY)}
    trained.rename_run("gpt", "base")
    assert trained.retention().runs == {"base": Retention.from_dict(POLICY)}
    trained.undo()
    last = trained.undo()
    assert (last.undone.op, trained.retention().runs) == ("run-policy", {})
    trained.undo(last.operation.number)
    assert trained.retention().runs == {"gpt": Retention.from_dict(POLICY)}


def test_a_rehearsal_changes_nothing(trained: casckpt.Store) -> None:
    assert trained.set_retention(POLICY, dry_run=True)
    assert trained.set_retention(POLICY, run="gpt", dry_run=True)
    assert trained.retention() == KeptPolicies(None, {})


@pytest.mark.parametrize(
    ("policy", "run", "error"),
    [
        ({"keep_lst": 1}, None, InvalidRetention),
        ({"max_total": 3}, None, InvalidRetention),
        ({"keep_last": 0}, "gpt", InvalidRetention),
        ({"keep_last": 1, "runs": {"w*": {"keep_last": 3}}}, "gpt", InvalidRetention),
        ({"keep_last": 1, "metric": "x" * 5000}, "gpt", InvalidRetention),
        ({"keep_last": 1, "metric": "x" * 70_000}, None, DamagedSettings),
        ({"keep_last": 1}, "nothing", RevisionNotFound),
    ],
)
def test_a_policy_that_could_not_be_used_is_not_kept(
    trained: casckpt.Store, policy: dict[str, Any], run: str | None, error: type[CasckptError]
) -> None:
    with pytest.raises(error):
        trained.set_retention(policy, run=run)
    assert trained.retention() == KeptPolicies(None, {})


def test_what_else_is_kept_may_hold_a_policy_of_a_run(trained: casckpt.Store) -> None:
    trained.set_retention({"keep_last": 3})
    trained.set_retention({"max_total": 10}, run="gpt")
    with pytest.raises(InvalidRetention, match="'gpt' no rule is on"):
        trained.set_retention({"keep_last": 0, "runs": {"[!g]*": {"keep_last": 1}}})
    assert trained.retention().of("gpt") == Retention(keep_last=3, max_total=10, grace="1d")


def test_a_call_cannot_say_the_grace(trained: casckpt.Store) -> None:
    for policy in ({"keep_last": 1, "grace": "3d"}, {"keep_last": 1, "runs": {"g*": {"grace": "3d"}}}):
        with pytest.raises(InvalidRetention, match="a call cannot say"):
            trained.retain(policy)
    assert len(steps(trained, "gpt")) == 5


def test_a_mistake_in_the_kept_policy_stops_only_who_needs_it(trained: casckpt.Store) -> None:
    say(trained, "[retention]\nkeep_lst = 3\n")
    with casckpt.open(trained.path or "") as again:
        again.commit({"a": 1}, run="gpt")
        again.drop("gpt~1")
        again.set_retention(None, run="gpt")
        with pytest.raises(UnknownSetting):
            again.retain({"keep_last": 1})
        with pytest.raises(UnknownSetting):
            again.retention()
