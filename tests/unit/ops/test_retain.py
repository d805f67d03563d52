"""retain: what a policy lets go is dropped as one operation, and nothing else."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import casckpt
from casckpt.errors import InvalidRetention, RevisionNotFound
from casckpt.format.entry import Entry
from casckpt.ops.losses import held
from casckpt.ops.publishing import publish
from casckpt.ops.retain import apply
from tests.unit.ops.test_drop import filled, records


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    """Steps 0 to 5; the best is step 2."""
    with casckpt.memory() as made:
        yield filled(made)


def steps(store: casckpt.Store, run: str = "gpt") -> list[int | None]:
    """Of what is whole."""
    return [info.step for info in store.log(run) if info.dropped is None and not info.thinned]


def test_what_no_rule_keeps_is_dropped_and_one_undo_brings_it_back(store: casckpt.Store) -> None:
    report = store.retain({"keep_last": 2})
    assert steps(store) == [5, 4, 2]
    assert [(fate.step, fate.decision.outcome) for fate in report.fates] == [
        (5, "keep"), (4, "keep"), (3, "drop"), (2, "keep"), (1, "drop"), (0, "drop"),
    ]  # fmt: skip
    assert {drop.rule for drop in records(store).values()} == {"unwanted"}
    assert report.counts["dropped"] == {"unwanted": 3}
    assert store.undo().undone.number == report.operation
    assert steps(store) == [5, 4, 3, 2, 1, 0]


def test_a_cap_is_the_rule_of_what_it_lets_go(store: casckpt.Store) -> None:
    store.retain(casckpt.Retention(keep_last=1, keep_periodic="1 step", max_total=3))
    assert {drop.rule for drop in records(store).values()} == {"max_total"}
    assert steps(store) == [5, 4, 2]


def test_again_nothing_is_written(store: casckpt.Store) -> None:
    first = store.retain({"keep_last": 2})
    again = store.retain({"keep_last": 2})
    assert (again.operation, again.plan.dropped) == (None, ())
    assert [one.outcome for one in again.plan.decisions] == ["keep", "keep", "dropped", "keep", "dropped", "dropped"]
    assert next(store.operations(1)).number == first.operation


def test_a_dry_run_says_the_same_and_writes_nothing(store: casckpt.Store) -> None:
    said = store.retain({"keep_last": 2}, dry_run=True)
    assert not records(store)
    done = store.retain({"keep_last": 2})
    assert [one.outcome for one in said.plan.decisions] == [one.outcome for one in done.plan.decisions]
    assert (said.operation, said.dry_run, said.counts) == (None, True, done.counts)


def test_best_and_recovery_of_a_run_stay_whatever_the_policy_compares(store: casckpt.Store) -> None:
    store.commit({"n": 6}, run="gpt", step=6, kind="recovery", metrics={"loss": 9.0})
    store.commit({"n": 7}, run="gpt", step=7, metrics={"loss": 9.0})
    store.retain({"keep_last": 1, "keep_best": 0})
    assert steps(store) == [7, 6, 2]
    assert store.checkout("gpt/best")["n"] == 2
    assert store.checkout("gpt/recovery")["n"] == 6


def test_tags_pins_and_forks_keep_their_commits(store: casckpt.Store) -> None:
    store.tag("v1", "gpt@step=0")
    store.pin("gpt@step=1", "30d")
    store.fork_run("gpt@step=3", "low")
    store.retain({"keep_last": 1})
    assert steps(store) == [5, 3, 2, 1, 0]
    store.undo()
    store.retain({"keep_last": 1, "keep_tags": False})
    assert steps(store) == [5, 3, 2, 1]


def test_one_run_is_asked_about_alone_under_its_present_name(store: casckpt.Store) -> None:
    filled_too = [store.commit({"n": n}, run="wide", step=n).id for n in range(3)]
    store.rename_run("gpt", "base")
    report = store.retain({"keep_last": 1}, run="base")
    assert {fate.decision.run for fate in report.fates} == {"base"}
    assert steps(store, "wide") == [2, 1, 0]
    assert len(filled_too) == 3
    with pytest.raises(RevisionNotFound, match="base"):
        store.retain({"keep_last": 1}, run="bas")
    with pytest.raises(RevisionNotFound):
        store.retain({"keep_last": 1}, run="gpt")


def test_thinning_takes_components_and_a_second_time_nothing(store: casckpt.Store) -> None:
    policy = {"keep_last": 2, "keep_periodic": "1 step", "thin": {"keep_periodic": ["optimizer", "r*"]}}
    report = store.retain(policy)
    assert {one.thin for one in report.plan.thinned} == {("optimizer", "rng")}
    assert {(drop.rule, drop.parts) for drop in records(store).values()} == {("thin", ("optimizer", "rng"))}
    assert steps(store) == [5, 4, 2]
    assert store.retain(policy).operation is None
    store.retain({"keep_last": 2})
    assert {drop.parts for drop in records(store).values()} == {None}
    store.undo()
    assert {drop.parts for drop in records(store).values()} == {("optimizer", "rng")}


def test_a_tag_given_while_the_lock_was_waited_for_saves_its_commit(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(repository: Any, settle: Any, *, dry_run: bool) -> tuple[int, Entry]:
        store.tag("meanwhile", "gpt@step=1")
        return publish(repository, settle, dry_run=dry_run)

    monkeypatch.setattr("casckpt.ops.retain.publish", late)
    report = store.retain({"keep_last": 1})
    assert steps(store) == [5, 2, 1]
    assert [fate.decision.outcome for fate in report.fates] == ["keep", "drop", "drop", "keep", "keep", "drop"]


def test_policies_are_laid_over_each_other_and_empty_ones_refused(store: casckpt.Store) -> None:
    report = store.retain([casckpt.Retention(keep_last=1), {"keep_last": 4}], dry_run=True)
    assert len(report.plan.dropped) == 2
    for policy in ({}, {"max_total": 3}, []):
        with pytest.raises(InvalidRetention):
            store.retain(policy)
    assert not records(store)


def test_numbers_that_are_none_and_failed_commits_are_facts(store: casckpt.Store) -> None:
    store.commit({"n": 6}, run="gpt", step=6, metrics={"loss": math.nan})
    store.commit({"n": 7}, run="gpt", step=7, metrics={"loss": -1.0}, status="failed")
    store.retain({"keep_last": 1})
    assert steps(store) == [7, 6, 2]  # the last, the newest sound one, the best


def test_unsound_commits_are_facts_as_the_health_gate_says(tmp_path: Path) -> None:
    casckpt.init(tmp_path / "s").close()
    nan = float("nan")
    for gate, best in ((True, 1), (False, 2)):
        with casckpt.open(tmp_path / "s", settings=casckpt.StoreSettings(health_gate=gate)) as store:
            run = f"gate-{gate}"
            for step, loss in enumerate((0.5, 0.2, 0.1)):
                weight = np.full(100, nan if step == 2 else step, "<f4")
                store.commit({"w": weight}, run=run, step=step, metrics={"loss": loss}, best="loss:min")
            store.commit({"w": 1}, run=run, step=3)
            assert store.show(f"{run}/best").step == store.show(f"{run}/best(loss)").step == best
            report = store.retain(casckpt.Retention(keep_best=1, metric="loss", mode="min"), run=run, dry_run=True)
            assert {store.show(one.id.hex()).step for one in report.plan.kept} == {best, 3}


def test_progress_counts_commits(store: casckpt.Store) -> None:
    seen: list[tuple[int, int]] = []
    apply(store._repository, {"keep_last": 1}, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)


WHAT = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["", "tag", "pin", "fork", "drop", "thin", "rename", "failed"])),
    max_size=14,
)
POLICIES = st.fixed_dictionaries(
    {"keep_last": st.integers(0, 3), "keep_periodic": st.sampled_from(["2 steps", "1 step"])},
    optional={
        "keep_best": st.integers(0, 2),
        "max_total": st.integers(1, 4),
        "keep_tags": st.just(True),
        "thin": st.just({"keep_periodic": ["o*"], "keep_last": ["o*"]}),
    },
)


@settings(max_examples=60, deadline=None)
@given(what=WHAT, policy=POLICIES)
def test_nothing_that_is_held_loses_anything_and_undo_restores_everything(
    what: list[tuple[str, str]], policy: dict[str, Any]
) -> None:
    with casckpt.memory() as store:
        for number, (run, then) in enumerate(what):
            state = {"o": {"x": [number]}, "m": {"y": [number]}}
            status = "failed" if then == "failed" else "completed"
            made = store.commit(state, run=run, step=number, metrics={"l": number % 5}, best="l:min", status=status)
            if then == "tag":
                store.tag(f"v{number}", made.id)
            elif then == "pin":
                store.pin(made.id)
            elif then == "fork":
                store.fork_run(made.id, f"f{number}")
            elif then == "rename":
                store.rename_run(run, f"r{number}")
            elif then in ("drop", "thin"):
                store.drop(where="step >= 0", parts=None if then == "drop" else "m")
        before = records(store)
        database = store._repository.database
        said = store.retain(policy, dry_run=True)
        report = store.retain(policy)
        after = records(store)
        lost = {identity for identity in after if after[identity] != before.get(identity)}
        assert lost == {one.id.hex() for one in (*said.plan.dropped, *said.plan.thinned)}
        assert not lost & {identity.hex() for identity in held(database)}
        assert not before.keys() - after.keys()
        assert store.retain(policy, dry_run=True).plan.thinned == ()
        if report.operation is not None:
            store.undo(report.operation)
            assert records(store) == before


def test_it_reopens_as_it_was_left() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ckpts"
        with casckpt.init(path) as store:
            filled(store).retain({"keep_last": 2})
        with casckpt.open(path) as store:
            assert steps(store) == [5, 4, 2]
