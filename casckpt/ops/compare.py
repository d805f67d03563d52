"""compare: runs side by side, from the newest commit they have in common.

    revisions -> last commits -> fork -> line of each since then -> configurations | curves | verdict | states

The line of a run leads from its last commit along first parents to the fork, which ends it as the place from which all
started; what was merged into it from the side counts as a commit, and is no part of its curves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Unpack, cast

from casckpt.errors import CommitDropped, CommitThinned, MetricNotFound, UsageError
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.comparison import ComparedRun, Comparison, MetricComparison, MetricValue, RunMetric, TipDiff
from casckpt.ops.diff import DiffWords, diff_commits
from casckpt.ops.history import describe, refs_by_commit, resolve
from casckpt.ops.inspect import metadata
from casckpt.ops.lookup import close_names, did_you_mean
from casckpt.plan import series
from casckpt.plan.fields import metadata_differences
from casckpt.plan.graph import ancestors, between, newest_common
from casckpt.plan.series import AXES, Axis, Mode, Number, Sample, Standing
from casckpt.plan.verdict import Verdict, verdict
from casckpt.units import format_count

POINTS = 200
_Rule = tuple[str, Mode]


@dataclass(frozen=True, slots=True)
class _Side:
    """One run of a comparison, with what its curves are made from."""

    name: str
    tip: CommitId
    commits: int
    line: list[tuple[CommitId, Commit]]
    """The newest first; the fork is its last."""
    placed: list[tuple[Number, Commit]]
    states: frozenset[CommitId]
    """Those of the line that may be best: completed, and not dropped."""
    first: CommitId | None
    rule: _Rule | None


def compare_runs(
    database: Database,
    revisions: Sequence[str],
    *,
    metrics: Sequence[str] | None = None,
    x: Axis = "step",
    points: int = POINTS,
    values: bool = False,
    threads: int = 1,
    **words: Unpack[DiffWords],
) -> Comparison:
    """Compare runs, or any commits with what led to them, with the first of them.

    Args:
        metrics: names, with `:min` or `:max` if the runs have no rule that says which way is better; None for all.
        x: what curves are aligned by.
        points: into how many a long curve is gathered at most.
        values, words: as of a diff, for the states of the last commits.

    Raises:
        UsageError: fewer than two revisions, or an argument that is none.
        MetricNotFound: no run has one of the metrics.

    Cost: two look-ups for a commit since the fork, one for a commit before it, which is but counted; the trees of the
    last commits. Memory for the commits since the fork.
    """
    if len(revisions) < 2:
        raise UsageError(problem="a comparison needs two revisions or more")
    if x not in AXES:
        raise UsageError(problem=f"x is one of {', '.join(AXES)}, not {x!r}")
    if type(points) is not int or points < 1:
        raise UsageError(problem=f"points must be 1 or more, not {points!r}")
    tips = [resolve(database, text) for text in revisions]
    fork = _common(database, tips)
    sides = [_side(database, name, tip, fork, x) for name, tip in zip(revisions, tips, strict=True)]
    rules = [side.rule for side in sides if side.rule is not None]
    chosen = _chosen(sides, rules, metrics)
    found = [_metric(name, mode, sides, x, points) for name, mode in chosen]
    refs = refs_by_commit(database)
    return Comparison(
        runs=tuple(
            ComparedRun(
                side.name,
                describe(database, side.tip, refs),
                side.commits,
                None if side.first is None else describe(database, side.first, refs),
                None if side.rule is None else ":".join(side.rule),
            )
            for side in sides
        ),
        fork=None if fork is None else describe(database, fork, refs),
        shared=0 if fork is None else sum(1 for _ in ancestors([fork], database.commit)),
        axis=x,
        metadata=metadata_differences([metadata(database, tip) for tip in tips]),
        metrics=tuple(found),
        verdict=_verdict(sides, found, x),
        tips=tuple(_tip(database, sides[0], side, values, threads, words) for side in sides[1:]),
    )


def _common(database: Database, tips: Sequence[CommitId]) -> CommitId | None:
    def common(left: CommitId | None, right: CommitId) -> CommitId | None:
        return None if left is None else newest_common(left, right, database.commit)

    first: CommitId | None = tips[0]
    return reduce(common, tips[1:], first)


def _side(database: Database, name: str, tip: CommitId, fork: CommitId | None, axis: Axis) -> _Side:
    if fork is None:
        own = dict(ancestors([tip], database.commit))
    else:
        walk = between(fork, tip, database.commit)
        own = {identity: commit for identity, commit, is_inside in walk if is_inside}
    line = list(_first_parents(tip, own))
    has_own = bool(line)
    start = None if fork is None else database.commit(fork)
    if fork is not None and start is not None:
        line.append((fork, start))
    # A run that goes on days after its fork would seem slow: its time is counted from its own first commit.
    placed = series.placed(line[:-1] if axis == "time" and has_own and start is not None else line, axis)
    states = frozenset(identity for identity, commit in line if _may_be_best(database, identity, commit))
    run = line[0][1].run if line else ""
    first = line[-1 if start is None else -2][0] if has_own else None
    return _Side(name, tip, len(own), line, placed, states, first, _rule(database, run))


def _rule(database: Database, run: str) -> _Rule | None:
    rule = database.run_settings(run).get("best")
    if type(rule) is not list or len(rule) != 2 or type(rule[0]) is not str or rule[1] not in ("min", "max"):
        return None
    return rule[0], rule[1]


def _may_be_best(database: Database, identity: CommitId, commit: Commit) -> bool:
    drop = database.drop(identity)
    return commit.status == "completed" and (drop is None or drop.parts is not None)


def _first_parents(tip: CommitId, own: dict[CommitId, Commit]) -> Iterator[tuple[CommitId, Commit]]:
    identity: CommitId | None = tip
    while identity is not None and identity in own:
        commit = own[identity]
        yield identity, commit
        identity = commit.parents[0] if commit.parents else None


def _chosen(
    sides: Sequence[_Side], rules: Sequence[_Rule], wanted: Sequence[str] | None
) -> list[tuple[str, Mode | None]]:
    """The metrics to compare with their modes, the one that decides first."""
    having: dict[str, int] = {}
    for side in sides:
        for name in {name for _, commit in side.line for name in commit.metrics}:
            having[name] = having.get(name, 0) + 1

    def mode(name: str) -> Mode | None:
        modes = {way for metric, way in rules if metric == name}
        return modes.pop() if len(modes) == 1 else None

    if wanted is not None:
        return [_asked(text, having, mode) for text in dict.fromkeys(wanted)]
    deciding = [metric for metric, _ in rules if metric in having][:1]
    names = sorted(having, key=lambda name: (name not in deciding, -having[name], name))
    return [(name, mode(name)) for name in names]


def _asked(text: str, known: dict[str, int], mode: Callable[[str], Mode | None]) -> tuple[str, Mode | None]:
    name, _, way = text.rpartition(":")
    if text not in known and way in ("min", "max"):
        text, given = name, cast("Mode | None", way)
    else:
        given = mode(text)
    if text not in known:
        names = ", ".join(sorted(known)[:5])
        problem = did_you_mean(close_names(text, known)) or (f"there are {names}" if names else "there is none")
        raise MetricNotFound(metric=text, problem=problem)
    return text, given


def _metric(name: str, mode: Mode | None, sides: Sequence[_Side], axis: Axis, count: int) -> MetricComparison:
    curves = [series.samples(side.placed, name) for side in sides]
    places = [sample.x for curve in curves for sample in curve]
    span = (min(places), max(places)) if places else (0, 0)
    standings = []
    for curve in curves[1:]:
        pairs = list(series.aligned(curves[0], curve, carried=axis == "time"))
        standings.append(series.standing(pairs, mode) if mode else Standing(len(pairs), None, None))
    runs = [_run_metric(name, mode, side, curve, span, count) for side, curve in zip(sides, curves, strict=True)]
    return MetricComparison(name, mode, tuple(runs), tuple(standings))


def _run_metric(
    name: str, mode: Mode | None, side: _Side, curve: list[Sample], span: tuple[Number, Number], count: int
) -> RunMetric:
    measured = [(identity, commit, commit.metrics[name]) for identity, commit in side.line if name in commit.metrics]
    numbers = [one for one in measured if one[0] in side.states and not math.isnan(one[2])]
    # The newest comes first, and of equal ones the oldest is the best, as for the ref `best`.
    lowest = min(reversed(numbers), key=lambda one: one[2], default=None)
    highest = max(reversed(numbers), key=lambda one: one[2], default=None)
    best = {"min": lowest, "max": highest}.get(mode or "")
    return RunMetric(
        count=len(measured),
        bad=sum(not math.isfinite(value) for _, _, value in measured),
        last=_value(measured[0] if measured else None),
        best=_value(best),
        lowest=_value(lowest),
        highest=_value(highest),
        points=tuple(series.points(curve, span, count)),
    )


def _value(found: tuple[CommitId, Commit, Number] | None) -> MetricValue | None:
    if found is None:
        return None
    identity, commit, value = found
    return MetricValue(value, identity.hex(), commit.step, commit.epoch)


def _verdict(sides: Sequence[_Side], metrics: Sequence[MetricComparison], axis: Axis) -> Verdict:
    """By the first metric of which it is known which way is better."""
    if not metrics:
        return Verdict(None, None, None, "they have no metrics since they parted")
    metric = next((one for one in metrics if one.mode is not None), None)
    if metric is None or metric.mode is None:
        why = f"no rule says whether a lower {metrics[0].name} is better; name a metric as {metrics[0].name}:min"
        return Verdict(None, None, None, why)
    bests = [None if run.best is None else (run.best.value, _place(run.best)) for run in metric.runs]
    standing = metric.standings[0] if len(metric.standings) == 1 else None
    return verdict(metric.name, metric.mode, [side.name for side in sides], bests, standing, axis)


def _place(value: MetricValue) -> str:
    if value.step is not None:
        return f" at step {format_count(value.step)}"
    return "" if value.epoch is None else f" at epoch {value.epoch:.4g}"


def _tip(database: Database, left: _Side, right: _Side, values: bool, threads: int, words: DiffWords) -> TipDiff:
    try:
        diff = diff_commits(database, left.tip, right.tip, values, threads, ("tree",), **words)
    except (CommitDropped, CommitThinned) as error:
        return TipDiff(right.name, None, f"{error.summary}; {error.reason}")
    return TipDiff(right.name, diff, None)
