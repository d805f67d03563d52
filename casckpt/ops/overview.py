"""Runs and the store at a glance: what goes on in each run, how its metric went lately, what is wrong in it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from casckpt.errors import MetricNotFound
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId
from casckpt.odb.database import Database
from casckpt.ops import history, lookup
from casckpt.ops.values import Activity, RunInfo, Status

RECENT = 32
"""So many of a run's newest commits say how it goes."""
QUIET_INTERVALS = 3
"""A run is taken to go on until so many of its usual intervals have passed without a commit."""
QUIET_MIN_NS = 60 * 10**9
FIRST_NS = 3600 * 10**9
"""How long a run with a single commit is taken to go on."""
ENDED = ("failed", "cancelled", "preempted")
SORTS = ("time", "name", "commits")


def runs(database: Database, where: str | None = None, sort: str = "time") -> list[RunInfo]:
    """All runs with their recent activity.

    Args:
        where: only those whose newest commit a filter wants.
        sort: `time` (of the newest commit, newest first), `name`, `commits` (most first) or a metric: best first by
            the run's rule, else smallest first; the value is that of the best commit if the rule is by that metric,
            else of the newest.

    Raises:
        MetricNotFound: no run has the metric to sort by.

    Cost: a few index look-ups a run and recent commit.
    """
    found = history.runs(database)
    if where is not None:
        line = ((_id(run), commit) for run in found if (commit := database.commit(_id(run))) is not None)
        kept = {identity for identity, _ in history.narrowed(database, line, where)}
        found = [run for run in found if _id(run) in kept]
    totals = database.totals()
    now_ns = time.time_ns()
    found = [replace(run, activity=_activity(database, run, totals.get(run.name, (0, 0))[1], now_ns)) for run in found]
    if sort == "name":
        return sorted(found, key=lambda run: run.name)
    if sort == "commits":
        return sorted(found, key=lambda run: -run.commits)
    return found if sort == "time" else _by_metric(found, sort)


def status(database: Database) -> Status:
    """The store at a glance. Cost: as of `runs`, and an index scan of packs."""
    return replace(history.status(database), runs=tuple(runs(database)))


def _id(run: RunInfo) -> CommitId:
    return CommitId(ObjectId(bytes.fromhex(run.last.id)))


def _activity(database: Database, run: RunInfo, nbytes: int, now_ns: int) -> Activity:
    recent = list(_recent(database, run))
    pauses = sorted(new.time_ns - old.time_ns for new, old in pairwise(recent))
    interval = pauses[len(pauses) // 2] if pauses else None
    metric = run.rule.rpartition(":")[0] if run.rule else next(iter(run.last.metrics), None)
    bad = [commit for commit in recent if not all(map(math.isfinite, commit.metrics.values()))]
    return Activity(
        state=_state(database, run, interval, now_ns),
        interval_ns=interval,
        metric=metric,
        recent=() if metric is None else tuple(commit.metrics.get(metric) for commit in reversed(recent)),
        commits=len(recent),
        bad=len(bad),
        bad_since=bad[-1].step if bad else None,
        nbytes=nbytes,
    )


def _recent(database: Database, run: RunInfo) -> Iterator[Commit]:
    """The newest commits of a run along first parents, newest first."""
    identity: CommitId | None = _id(run)
    for _ in range(RECENT):
        commit = None if identity is None else database.commit(identity)
        if commit is None or commit.run != run.last.run:
            return
        yield commit
        identity = next(iter(commit.parents), None)


def _state(database: Database, run: RunInfo, interval: int | None, now_ns: int) -> str:
    finished = database.run_settings(run.name).get("finished")
    if type(finished) is dict and type(finished.get("time")) is int and finished["time"] >= run.last.time_ns:
        return str(finished["status"]) if finished.get("status") in ENDED else "finished"
    if run.last.status in ENDED:
        return run.last.status
    if run.last.kind == "final":
        return "finished"
    quiet_ns = FIRST_NS if interval is None else max(QUIET_INTERVALS * interval, QUIET_MIN_NS)
    return "running" if now_ns - run.last.time_ns < quiet_ns else "stopped"


def _by_metric(found: list[RunInfo], metric: str) -> list[RunInfo]:
    def key(run: RunInfo) -> tuple[bool, float]:
        name, _, mode = (run.rule or "").rpartition(":")
        chosen = run.best if run.best is not None and name == metric else run.last
        value = float(chosen.metrics.get(metric, math.nan))
        return math.isnan(value), 0.0 if math.isnan(value) else -value if mode == "max" and name == metric else value

    known = {name for run in found for name in run.last.metrics} | {
        name for run in found if run.best is not None for name in run.best.metrics
    }
    if found and metric not in known:
        close = lookup.did_you_mean(lookup.close_names(metric, {*known, *SORTS}))
        raise MetricNotFound(metric=metric, problem=close or f"runs are sorted by {', '.join(SORTS)} or a metric")
    return sorted(found, key=key)
