"""Which commits of a store to keep, which to drop and what to thin, with every reason.

    alive commits of each run -> what every rule wants -> caps -> components to thin -> one decision for each commit

A commit is *sound* if it is completed, has no recorded damage and, where that is looked at, no NaN or Inf. Commits that
are not sound never take the place of a sound one: they are never best or a recovery, and rules that count or spread
commits take one only where there is no sound one to take. Otherwise a run whose commits all end as failed would lose
them to the rules that say how many to keep.

Newest is by time, and of equal times by id; times grow along parents. Nothing here looks at another run than the one
it decides, so a run never costs another its commits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from casckpt.errors import InvalidRetention
from casckpt.format.ids import CommitId
from casckpt.plan.decision import FOREVER, CommitFacts, Decision, Notice, Plan, Reason
from casckpt.plan.policy import BUCKETS, WEAK, Every, Retention, effective, refuse_empty
from casckpt.state.select import compile_patterns
from casckpt.units import DAY, HOUR, parse_duration, rfc3339

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decide(
    facts: Sequence[CommitFacts],
    policy: Retention | Sequence[Retention],
    now_ns: int,
    *,
    best: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """What becomes of every commit; the order of `facts` does not matter.

    Args:
        facts: of all commits of the runs in question, each once.
        policy: or several, which are laid over each other: what the store says, then what the call says.
        now_ns: the time, in nanoseconds since 1970, UTC.
        best: the runs' own rules for their best commit, as (metric, mode), by run.

    Raises:
        InvalidRetention: the policy is empty, or empty for one of the runs; or a metric is to be compared in a run
            and nothing says whether its least or its greatest value is best.

    Cost: O(n log n), about 20 us for each commit.
    """
    layers = (policy,) if isinstance(policy, Retention) else tuple(policy)
    refuse_empty(layers)
    decisions: list[Decision] = []
    notices: list[Notice] = []
    line = sorted(facts, key=lambda commit: (commit.run, commit.time_ns, commit.id), reverse=True)
    runs = {run: list(commits) for run, commits in groupby(line, key=lambda commit: commit.run)}
    for run in sorted(runs):
        decided = _Run(run, runs[run], effective(layers, run), now_ns, (best or {}).get(run))
        decisions += decided.decisions()
        notices += decided.notices
    return Plan(tuple(decisions), tuple(notices))


class _Run:
    """The decisions about one run, whose commits are given newest first."""

    def __init__(
        self, run: str, commits: list[CommitFacts], policy: Retention, now_ns: int, own: tuple[str, str] | None
    ) -> None:
        self._run = run
        self._commits = commits
        self._alive = [commit for commit in commits if commit.dropped_ns is None]
        self._policy = policy
        self._now_ns = now_ns
        self._own = own
        self.notices: list[Notice] = []

    def decisions(self) -> Iterator[Decision]:
        wanted: dict[CommitId, list[Reason]] = {commit.id: [] for commit in self._alive}
        for commit, reason in self._wishes():
            wanted[commit.id].append(reason)
        gone = dict(self._let_go(wanted))
        thinning = _Thinning(self._policy)
        grace_ns = self._policy.grace_ns
        final_ns = self._now_ns + grace_ns
        for commit in self._commits:
            if commit.dropped_ns is not None:
                yield Decision(commit.id, self._run, "dropped", (), final_ns=commit.dropped_ns + grace_ns)
                continue
            reasons, by = tuple(wanted[commit.id]), gone.get(commit.id)
            if by is not None:
                yield Decision(commit.id, self._run, "drop", reasons, by, final_ns=final_ns)
            else:
                thin = thinning.of(commit, reasons)
                yield Decision(commit.id, self._run, "keep", reasons, thin=thin, final_ns=final_ns if thin else None)

    def _wishes(self) -> Iterator[tuple[CommitFacts, Reason]]:
        """What every rule wants, rule by rule in the order of `RULES`."""
        policy, is_ruled = self._policy, self._policy.speaks_of_rules()
        for commit in self._alive:
            if commit.heads:
                yield commit, Reason("head", {"heads": " and ".join(commit.heads)})
            if not is_ruled:
                yield commit, Reason("unruled")
            until = commit.pinned_until
            if until is not None and until > self._now_ns:
                yield commit, Reason("keep_pins", {} if until == FOREVER else {"until": rfc3339(until)})
            if commit.tags and policy.keep_tags is not False:
                yield commit, Reason("keep_tags", {"tags": ", ".join(sorted(commit.tags))})
            if commit.unpushed and policy.protect_unpushed:
                yield commit, Reason("protect_unpushed")
        if is_ruled:
            yield from self._newest(policy.keep_last or 0)
            yield from self._best()
            yield from self._recoveries(policy.keep_recovery or 0)
            for every in policy.periods:
                yield from self._periodic(every)
            for rule in BUCKETS:
                yield from self._buckets(rule, getattr(policy, rule) or 0)
            yield from self._young(policy.within or "0s")

    def _newest(self, count: int) -> Iterator[tuple[CommitFacts, Reason]]:
        # The sort is stable, so both the sound ones and the others stay newest first.
        preferred = sorted(self._alive, key=lambda commit: bool(commit.unsound))
        for rank, commit in enumerate(preferred[:count], 1):
            yield commit, _chosen(commit, "keep_last", rank=rank, of=count)

    def _best(self) -> Iterator[tuple[CommitFacts, Reason]]:
        own_metric, own_mode = self._own or ("", "")
        metric = self._policy.metric or own_metric
        count = self._policy.keep_best
        if count is None:
            count = 1 if metric else 0
        if not count:
            return
        # Oldest first and stable, so ties go to the older; also if the greatest is best, for a reversed sort is stable.
        numbers = [
            (commit.metrics[metric], commit)
            for commit in reversed(self._alive)
            if metric in commit.metrics and not commit.unsound and not math.isnan(commit.metrics[metric])
        ]
        if not numbers:
            if self._policy.keep_best:
                missing = f"no sound commit has a number for {metric!r}" if metric else "no metric is named"
                self.notices.append(Notice(self._run, "keep_best", missing))
            return
        mode = self._policy.mode or (own_mode if metric == own_metric else "")
        if not mode:
            problem = f"say min or max: the run {self._run!a} has no rule of its own for {metric!r}"
            raise InvalidRetention(key="mode", problem=problem)
        numbers.sort(key=lambda found: found[0], reverse=mode == "max")
        for rank, (value, commit) in enumerate(numbers[:count], 1):
            going_by = {"metric": metric, "mode": mode, "value": value}
            yield commit, Reason("keep_best", {"rank": rank, "of": count, **going_by})

    def _recoveries(self, count: int) -> Iterator[tuple[CommitFacts, Reason]]:
        sound = [commit for commit in self._alive if commit.kind == "recovery" and not commit.unsound]
        for rank, commit in enumerate(sound[:count], 1):
            yield commit, Reason("keep_recovery", {"rank": rank, "of": count})

    def _periodic(self, every: Every) -> Iterator[tuple[CommitFacts, Reason]]:
        """Of every stretch the first: the commit at its beginning, or the next after that.

        Of commits of one step the newest, which a resumed training made in place of the others.
        """
        first: dict[int | float, tuple[bool, int | float, CommitFacts]] = {}
        for commit in self._alive:
            number = _number(commit, every.of)
            if number is not None:
                found = (bool(commit.unsound), number, commit)
                known = first.setdefault(number // every.length, found)
                if found[:2] < known[:2]:
                    first[number // every.length] = found
        if self._alive and not first:
            self.notices.append(Notice(self._run, "keep_periodic", f"no commit has a number for {every.of}"))
        for stretch, (_, _, commit) in first.items():
            start = int(stretch) * every.length
            shown = rfc3339(start) if every.of == "time" else f"{every.of} {start}"
            yield commit, _chosen(commit, "keep_periodic", start=shown, every=str(every))

    def _buckets(self, rule: str, count: int) -> Iterator[tuple[CommitFacts, Reason]]:
        """Of each of so many newest hours, days (...) that have commits the newest."""
        if not count:
            return
        found = groupby(self._alive, key=lambda commit: _BUCKET[rule](commit.time_ns))
        for rank, (bucket, group) in enumerate(found, 1):
            if rank > count:
                return
            commit = min(group, key=lambda commit: bool(commit.unsound))
            yield commit, _chosen(commit, rule, bucket=bucket, rank=rank, of=count)

    def _young(self, duration: str) -> Iterator[tuple[CommitFacts, Reason]]:
        since_ns = self._now_ns - (parse_duration(duration) or 0)
        if since_ns < self._now_ns:
            for commit in self._alive:
                if commit.time_ns > since_ns:
                    yield commit, Reason("within", {"duration": duration})

    def _let_go(self, wanted: Mapping[CommitId, Sequence[Reason]]) -> Iterator[tuple[CommitId, Reason]]:
        """The commits that go, and what lets them go: no rule, then the caps, oldest first."""
        kept: list[CommitFacts] = []
        days = self._policy.cleanup_older_than_days or 0
        before_ns = self._now_ns - int(days * DAY)
        for commit in reversed(self._alive):
            reasons = wanted[commit.id]
            if not reasons:
                yield commit.id, Reason("unwanted")
            elif days and commit.time_ns < before_ns and _is_weak(reasons):
                yield commit.id, Reason("cleanup_older_than_days", {"days": days})
            else:
                kept.append(commit)
        limit = self._policy.max_total or 0
        excess = len(kept) - limit if limit else 0
        for commit in kept:
            if excess > 0 and _is_weak(wanted[commit.id]):
                excess -= 1
                yield commit.id, Reason("max_total", {"of": limit})
        if excess > 0:
            problem = f"{limit + excess} commits are kept by rules that no cap touches"
            self.notices.append(Notice(self._run, "max_total", problem))


class _Thinning:
    """Which components the commits of a run lose."""

    def __init__(self, policy: Retention) -> None:
        self._selects = {rule: compile_patterns(patterns) for rule, patterns in policy.thinning.items()}

    def of(self, commit: CommitFacts, wanted: Sequence[Reason]) -> tuple[str, ...]:
        """The components that every rule which wants the commit lists, ascending."""
        selects = [self._selects.get(reason.rule) for reason in wanted]
        if None in selects:
            return ()
        lost = (name for name in commit.components if name and all(one(name) for one in selects if one is not None))
        return tuple(sorted(lost))


def _is_weak(reasons: Sequence[Reason]) -> bool:
    return all(reason.rule in WEAK for reason in reasons)


def _chosen(commit: CommitFacts, rule: str, **facts: int | str) -> Reason:
    """The reason of a rule that takes what is not sound only for want of a sound one."""
    return Reason(rule, facts | {"unsound": commit.unsound} if commit.unsound else facts)


def _number(commit: CommitFacts, of: str) -> int | float | None:
    """Where a commit lies on the scale of a period, None if nowhere."""
    number = {"step": commit.step, "epoch": commit.epoch, "time": commit.time_ns}[of]
    return None if number is None or not math.isfinite(number) else number


def _day(time_ns: int) -> datetime:
    return _EPOCH + timedelta(days=time_ns // DAY)


def _hour(time_ns: int) -> str:
    return f"{_day(time_ns):%Y-%m-%d} {time_ns // HOUR % 24:02}:00"


def _week(time_ns: int) -> str:
    year, week, _ = _day(time_ns).isocalendar()
    return f"{year}-W{week:02}"


_BUCKET: dict[str, Callable[[int], str]] = {
    "hourly": _hour,
    "daily": lambda time_ns: f"{_day(time_ns):%Y-%m-%d}",
    "weekly": _week,
    "monthly": lambda time_ns: f"{_day(time_ns):%Y-%m}",
    "yearly": lambda time_ns: f"{_day(time_ns):%Y}",
}
"""The hour, day, week from Monday, month or year that a time lies in, in UTC."""
