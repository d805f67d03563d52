"""What a comparison of runs found: frozen values with `to_dict()`, the same for Python, `--json` and the terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from casckpt.errors import CheckFailed, MetricNotFound
from casckpt.ops.reports import Diff
from casckpt.ops.values import CommitInfo
from casckpt.plan.checks import Check, parse_check
from casckpt.plan.fields import MetadataDifferences
from casckpt.plan.series import Axis, Mode, Number, Point, Standing
from casckpt.plan.verdict import Verdict
from casckpt.units import json_number


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A number that was measured, and the commit that has it."""

    value: Number
    commit: str
    step: int | None
    epoch: Number | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": json_number(self.value), "commit": self.commit, "step": self.step,
            "epoch": None if self.epoch is None else json_number(self.epoch),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunMetric:
    """One metric of one run, from where the runs parted."""

    count: int
    """Commits that have it."""
    bad: int
    """How many of them are NaN or infinite."""
    last: MetricValue | None
    best: MetricValue | None
    """By the mode of the metric; None too if that is not known."""
    lowest: MetricValue | None
    highest: MetricValue | None
    points: tuple[Point, ...]
    """The curve along the axis."""

    def to_dict(self) -> dict[str, Any]:
        found = {"last": self.last, "best": self.best, "min": self.lowest, "max": self.highest}
        return {
            "count": self.count,
            "not_finite": self.bad,
            **{name: None if value is None else value.to_dict() for name, value in found.items()},
            "points": [
                {
                    "x": point.x, "until": point.until, "count": point.samples, "not_finite": point.bad,
                    "min": point.low, "max": point.high,
                }
                for point in self.points
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of all runs. `standings` says of every run but the first how its curve stands to the first's."""

    name: str
    mode: Mode | None
    """Which way is better, from the rules of the runs; None if none says so, or they contradict each other."""
    runs: tuple[RunMetric, ...]
    standings: tuple[Standing, ...]
    """With `ahead` 0 for the first run and 1 for the other; without a mode it is None."""

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        pairs = zip(names[1:], self.standings, strict=True)
        return {
            "name": self.name,
            "mode": self.mode,
            "runs": [run.to_dict() for run in self.runs],
            "standings": [
                {
                    "first": names[0], "second": other, "aligned": standing.aligned,
                    "ahead": None if standing.ahead is None else (names[0], other)[standing.ahead],
                    "since": standing.since,
                }
                for other, standing in pairs
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One side of a comparison: what it was called by, its last commit, and what it has of its own."""

    name: str
    last: CommitInfo
    commits: int
    """Commits that lead to the last one and are not in common."""
    first: CommitInfo | None
    """The oldest of those on its line; None if it has none of its own."""
    rule: str | None
    """What `best` means in its run, as `val/loss:min`."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "last": self.last.to_dict(),
            "commits": self.commits,
            "first": None if self.first is None else self.first.to_dict(),
            "rule": self.rule,
        }


@dataclass(frozen=True, slots=True)
class TipDiff:
    """What differs between the states of the last commits of the first run and another."""

    run: str
    diff: Diff | None
    problem: str | None
    """Why there is no diff: a state was dropped."""

    def to_dict(self) -> dict[str, Any]:
        diff = None if self.diff is None else self.diff.to_dict()
        return {"run": self.run, "diff": diff, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What became of a check, for one run against the first."""

    check: str
    run: str
    failed: bool
    first: Number
    second: Number
    change: Number
    """By how much `second` is above `first`, in percent if the check is."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "check": self.check, "run": self.run, "failed": self.failed, "first": json_number(self.first),
            "second": json_number(self.second), "change": json_number(self.change),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two or more runs side by side, from where they part. The first is what the others are compared with."""

    runs: tuple[ComparedRun, ...]
    fork: CommitInfo | None
    """The newest commit that all have in common."""
    shared: int
    """How many commits they have in common."""
    axis: Axis
    metadata: MetadataDifferences
    """What differs in the config, environment, code and data of their last commits."""
    metrics: tuple[MetricComparison, ...]
    """The one that decides first, then those of most runs."""
    verdict: Verdict
    tips: tuple[TipDiff, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the runs were called by."""
        return tuple(run.name for run in self.runs)

    @property
    def better(self) -> str | None:
        """The run that is better on the metric of the rule; None if none is, or there is no rule."""
        return None if self.verdict.better is None else self.runs[self.verdict.better].name

    @property
    def why(self) -> str:
        """Why that one is better, or none."""
        return self.verdict.why

    def check(self, text: str) -> tuple[CheckResult, ...]:
        """Whether other runs are worse than the first by more than a check allows, as `val/loss > +2%`.

        Raises:
            InvalidCheck: the text is no check.
            MetricNotFound: a run has no number for the metric.
        """
        check = parse_check(text)
        metric = next((one for one in self.metrics if one.name == check.metric), None)
        if metric is None:
            known = ", ".join(one.name for one in self.metrics)
            raise MetricNotFound(metric=check.metric, problem=f"compared are {known}" if known else "there is none")
        values = [_checked(check, run, metric.name, name) for run, name in zip(metric.runs, self.names, strict=True)]
        return tuple(
            CheckResult(
                *(str(check), name, check.fails(values[0], value), values[0], value, check.change(values[0], value))
            )
            for name, value in zip(self.names[1:], values[1:], strict=True)
        )

    def require(self, text: str) -> None:
        """Raise `CheckFailed` if another run is worse than the first by more than a check allows."""
        for result in self.check(text):
            if result.failed:
                problem = f"{result.run} has {result.second:.6g} against {result.first:.6g} of {self.runs[0].name}"
                raise CheckFailed(check=result.check, problem=problem)

    def to_dict(self) -> dict[str, Any]:
        return {
            "runs": [run.to_dict() for run in self.runs],
            "fork": None if self.fork is None else self.fork.to_dict(),
            "shared": self.shared,
            "axis": self.axis,
            "verdict": self.verdict.to_dict(self.names),
            **self.metadata.to_dict(),
            "metrics": [metric.to_dict(self.names) for metric in self.metrics],
            "tips": [tip.to_dict() for tip in self.tips],
        }


def _checked(check: Check, run: RunMetric, metric: str, name: str) -> Number:
    best = run.lowest if check.mode == "min" else run.highest
    found = best if check.of == "best" else run.last
    if found is not None:
        return found.value
    if not run.count:
        raise MetricNotFound(metric=metric, problem=f"{name} has no number for it")
    return math.nan  # it was measured, and no completed commit has a number for it
