"""Comparing real little trainings: a fork, a resume, a run that breaks, and what the store says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn

import casckpt
from casckpt.errors import CheckFailed, InvalidCheck, MetricNotFound, RevisionNotFound, UsageError
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop, Entry
from casckpt.format.ids import CommitId

FORK = 40


@pytest.fixture
def store() -> Iterator[casckpt.Store]:
    with casckpt.memory() as made:
        yield made


def train(
    store: casckpt.Store, run: str, rate: float, steps: range, start: str | None = None, **words: Any
) -> dict[int, float]:
    """Fit a line by gradient descent, a commit a step; the losses by step."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)
    wanted = inputs @ torch.linspace(-1, 1, 8)
    model = nn.Linear(8, 1)
    if start is not None:
        model.load_state_dict(store.checkout(start)["model"])
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = {}
    for step in steps:
        loss = nn.functional.mse_loss(model(inputs)[:, 0], wanted)
        losses[step] = loss.item()
        store.commit(
            {"model": model.state_dict(), "step": step},
            run=run, step=step, epoch=step / 10, metrics={"val/loss": loss.item(), "rate": rate},
            config={"optim": {"lr": rate}, "seed": 0},
            **({"parents": (start,)} if start is not None and step == steps[0] else {}), **words,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def forked(store: casckpt.Store, rate: float, **words: Any) -> tuple[Mapping[int, float], Mapping[int, float]]:
    """`base`, and `other` with another rate from its step 40 on; their losses since."""
    words = words or {"best": "val/loss:min"}
    base = train(store, "base", 0.05, range(0, 100, 2), **words)
    other = train(store, "other", rate, range(FORK + 2, 100, 2), f"base@step={FORK}", **words)
    return {step: loss for step, loss in base.items() if step >= FORK}, {FORK: base[FORK], **other}


def test_two_trainings_part_at_their_fork_and_the_better_one_is_named(store: casckpt.Store) -> None:
    base, other = forked(store, 0.005)
    found = store.compare("base", "other")
    assert found.fork == store.show(f"base@step={FORK}")
    assert found.shared == 21
    assert [run.commits for run in found.runs] == [29, 29]
    assert [run.first.step for run in found.runs if run.first] == [42, 42]
    assert [(field.path, field.values) for field in found.metadata.config.different] == [("optim.lr", (0.05, 0.005))]
    assert found.metadata.config.equal == 1
    loss = found.metrics[0]
    assert (loss.name, loss.mode) == ("val/loss", "min")
    for run, losses in zip(loss.runs, (base, other), strict=True):
        assert [(point.x, point.low, point.high) for point in run.points] == [(x, y, y) for x, y in losses.items()]
        assert run.best is not None
        assert run.last is not None
        assert (run.best.value, run.last.value) == (min(losses.values()), losses[98])
    assert found.better == "base"
    [standing] = loss.standings
    worse = [step for step in base if not base[step] < other[step]]
    assert (standing.aligned, standing.ahead) == (30, 0)
    assert standing.since == min(step for step in base if step > max(worse))
    assert f"lower at every step both have since {standing.since}" in found.why


def test_the_best_is_what_the_ref_of_that_name_says(store: casckpt.Store) -> None:
    forked(store, 0.005)
    found = store.compare("base", "other")
    best = [run.best.commit for run in found.metrics[0].runs if run.best]
    assert best == [store.show("base/best").id, store.show("other/best").id]


def test_of_equal_values_the_oldest_is_best_and_only_completed_commits_count(store: casckpt.Store) -> None:
    losses = [(1.0, "completed"), (0.0, "failed"), (1.0, "completed"), (2.0, "completed"), (2.0, "completed")]
    for step, (loss, status) in enumerate(losses):
        words: dict[str, Any] = {"metrics": {"loss": loss}, "status": status, "best": "loss:min"}
        store.commit({"step": step}, run="a", step=step, **words)
        store.commit({"step": step}, run="b", step=step, **words)
    run = store.compare("a", "b").metrics[0].runs[0]
    assert [found.step for found in (run.best, run.lowest, run.highest, run.last) if found] == [0, 0, 3, 4]
    assert run.best is not None
    assert run.best.commit == store.show("a/best").id
    assert min(point.low for point in run.points if point.low is not None) == 0.0


def test_a_training_that_breaks_is_worse_from_there_on_and_its_nan_are_counted(store: casckpt.Store) -> None:
    _, other = forked(store, 1e19)
    broken = [step for step, loss in other.items() if not math.isfinite(loss)]
    assert any(math.isnan(other[step]) for step in broken)
    found = store.compare("other", "base")
    loss = found.metrics[0]
    assert (loss.runs[0].bad, loss.runs[1].bad) == (len(broken), 0)
    assert sum(point.bad for point in loss.runs[0].points) == len(broken)
    assert (found.better, loss.standings[0].ahead, loss.standings[0].since) == ("base", 1, 42)
    with pytest.raises(CheckFailed) as caught:
        store.compare("base", "other").require("last(val/loss) > +2%")
    assert "other has nan" in caught.value.message
    assert store.compare("other", "base").check("last(val/loss) > +2%")[0].failed is False


def test_a_resume_that_measures_again_counts_what_is_newer(store: casckpt.Store) -> None:
    train(store, "base", 0.05, range(0, 60, 2))
    again = train(store, "base", 0.01, range(42, 50, 2))
    train(store, "wide", 0.05, range(0, 60, 2))
    points = store.compare("base", "wide", metrics=["val/loss"]).metrics[0].runs[0].points
    assert [point.x for point in points] == list(range(0, 50, 2))
    assert {point.x: point.low for point in points if point.x >= 42} == again


def test_trainings_without_a_rule_have_no_verdict_but_one_that_is_asked_for(store: casckpt.Store) -> None:
    forked(store, 0.005, message="no rule")
    plain = store.compare("base", "other")
    assert (plain.better, plain.metrics[0].mode) == (None, None)
    assert "rate:min" in plain.why
    assert plain.metrics[1].runs[0].best is None
    assert plain.metrics[1].runs[0].lowest is not None
    asked = store.compare("base", "other", metrics=["rate", "val/loss:min"])
    assert (asked.better, asked.verdict.metric) == ("base", "val/loss")
    assert store.compare("base", "other", metrics=["val/loss:max"]).better is None  # both were highest at the fork


def test_runs_of_nothing_in_common_are_compared_from_their_starts(store: casckpt.Store) -> None:
    train(store, "base", 0.05, range(0, 20, 2), best="val/loss:min")
    train(store, "late", 0.05, range(1, 21, 2), best="val/loss:min")
    found = store.compare("base", "late")
    assert (found.fork, found.shared) == (None, 0)
    assert found.metrics[0].standings[0].aligned == 0
    assert "no step in common" in found.why
    assert store.compare("base", "late", x="time").metrics[0].standings[0].aligned > 0


def test_epochs_align_what_counts_steps_otherwise(store: casckpt.Store) -> None:
    forked(store, 0.005)
    found = store.compare("base", "other", x="epoch")
    assert found.metrics[0].standings[0].aligned == 30
    assert found.metrics[0].runs[0].points[0].x == FORK / 10


def test_a_run_and_where_it_was_before_are_compared(store: casckpt.Store) -> None:
    train(store, "base", 0.05, range(0, 20, 2), best="val/loss:min")
    found = store.compare("base~4", "base")
    assert [run.commits for run in found.runs] == [0, 4]
    assert (found.runs[0].first, found.fork and found.fork.step) == (None, 10)
    assert found.better == "base"
    same = store.compare("base", "base")
    assert (same.better, same.shared, same.tips[0].diff and same.tips[0].diff.leaves) == (None, 10, ())


def test_three_runs_are_compared_with_the_first(store: casckpt.Store) -> None:
    forked(store, 0.005)
    train(store, "third", 0.02, range(FORK + 2, 100, 2), f"base@step={FORK}", best="val/loss:min")
    found = store.compare("other", "base", "third")
    assert [len(one) for one in (found.runs, found.tips, found.metrics[0].standings)] == [3, 2, 2]
    assert found.better == "base"
    assert found.metadata.config.different[0].values == (0.005, 0.05, 0.02)


def test_the_states_of_the_tips_are_measured_if_asked_for(store: casckpt.Store) -> None:
    forked(store, 0.005)
    [tip] = store.compare("base", "other", values=True, by=1).tips
    assert tip.diff is not None
    assert tip.diff.values == store.diff("base", "other", values=True, by=1).values
    assert tip.diff.leaves == store.diff("base", "other").leaves


def test_a_tip_without_its_state_is_compared_by_the_rest(store: casckpt.Store) -> None:
    forked(store, 0.005)
    drop = Drop(bytes.fromhex(store.show("other").id), None, "keep last 0", 10**18)  # type: ignore[arg-type]
    with store._repository.session() as session:
        session.publish(lambda: (Entry("drop", 10**18, drops=(drop,), by="test"), []))
    found = store.compare("base", "other")
    assert found.tips[0].diff is None
    assert "keep last 0" in (found.tips[0].problem or "")
    best = found.metrics[0].runs[1].best
    assert best is not None
    assert best.commit != store.show("other").id


def test_a_long_curve_comes_in_a_bounded_number_of_points(store: casckpt.Store) -> None:
    forked(store, 0.005)
    runs = store.compare("base", "other", points=5).metrics[0].runs
    assert [len(run.points) for run in runs] == [5, 5]
    assert [sum(point.samples for point in run.points) for run in runs] == [30, 30]


def test_checks_compare_best_with_best_or_last_with_last(store: casckpt.Store) -> None:
    base, other = forked(store, 0.005)
    found = store.compare("base", "other")
    [result] = found.check("val/loss > +2%")
    assert (result.failed, result.first, result.second) == (True, min(base.values()), min(other.values()))
    assert result.change == pytest.approx(100 * (result.second / result.first - 1))
    [last] = found.check("last(val/loss) > +1000")
    assert (last.failed, last.second) == (False, other[98])
    found.require("val/loss > +1000")
    with pytest.raises(MetricNotFound, match="compared are"):
        found.check("los > +2%")
    with pytest.raises(InvalidCheck):
        found.check("val/loss > 2%")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"metrics": ["val/los"]}, MetricNotFound), ({"x": "samples"}, UsageError), ({"points": 0}, UsageError),
        ({"by": 1}, UsageError),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    store: casckpt.Store, words: dict[str, Any], error: type[Exception]
) -> None:
    train(store, "base", 0.05, range(0, 4, 2))
    train(store, "wide", 0.05, range(0, 4, 2))
    with pytest.raises(error):
        store.compare("base", "wide", **words)
    with pytest.raises(RevisionNotFound):
        store.compare("base", "nowhere")


def test_the_cost_is_that_of_the_compared_runs_and_no_other(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        for step in range(50):
            store.commit({"step": step}, run=f"run{number}", step=step, metrics={"loss": 1.0}, best="loss:min")
    runs = {commit.id for run in ("run3", "run4") for commit in store.log(run)}
    database = store._repository.database
    asked: list[str] = []
    look_up = database.commit

    def counted(identity: CommitId) -> Commit | None:
        asked.append(identity.hex())
        return look_up(identity)

    monkeypatch.setattr(database, "commit", counted)
    store.compare("run3", "run4")
    assert set(asked) == runs
    assert len(asked) < 2.2 * len(runs)
