"""What retention decides, worked out the slow way: for every commit and every rule from the words of the reference.

Policies are plain tables here, so that nothing of how policies are read and laid over each other is shared with the
code under test. Every question is answered by comparing a commit with all others.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from casckpt.plan.decision import FOREVER, CommitFacts

Table = dict[str, Any]
SECONDS = {"h": 3600, "d": 86_400}
WEAK = {"keep_periodic", "hourly", "daily", "weekly", "monthly", "yearly", "within"}


class Answer(NamedTuple):
    outcome: str
    wanted: tuple[str, ...]
    by: str | None
    thin: tuple[str, ...]


def answers(facts: Sequence[CommitFacts], layers: Sequence[Table], now: int, own: dict[str, Any]) -> dict[Any, Answer]:
    """Outcome, codes of the rules that want it, what lets it go and lost components, by id."""
    found: dict[Any, Answer] = {}
    for one in facts:
        run = [other for other in facts if other.run == one.run and other.dropped_ns is None]
        if one.dropped_ns is not None:
            found[one.id] = Answer("dropped", (), None, ())
            continue
        table = holding(layers, one.run)
        wants = {other.id: codes(other, run, table, now, own.get(one.run)) for other in run}
        gone = let_go(run, wants, table, now)
        if one.id in gone:
            found[one.id] = Answer("drop", tuple(wants[one.id]), gone[one.id], ())
        else:
            found[one.id] = Answer("keep", tuple(wants[one.id]), None, lost(one, wants[one.id], table))
    return found


def holding(layers: Sequence[Table], run: str) -> Table:
    """What holds for a run: a table and its patterns, then the next table."""
    table: Table = {}
    for layer in layers:
        for key, value in layer.items():
            if key != "runs":
                table[key] = value
        for pattern, inner in layer.get("runs", {}).items():
            if fits(run, pattern):
                table.update(inner)
    return table


def is_sound(one: CommitFacts) -> bool:
    return one.status == "completed" and not one.damaged and not one.nonfinite


def newer(one: CommitFacts, other: CommitFacts) -> bool:
    return (one.time_ns, one.id) > (other.time_ns, other.id)


def nanoseconds(text: str) -> int:
    return int(text[:-1]) * SECONDS[text[-1]] * 10**9


def codes(
    one: CommitFacts, run: Sequence[CommitFacts], table: Table, now: int, own: tuple[str, str] | None
) -> list[str]:
    """The codes of all rules that want a commit, in the order of the reference."""
    found = []
    if one.heads:
        found.append("head")
    ruled = any(key in table for key in (*WEAK, "keep_last", "keep_best", "keep_recovery", "max_total"))
    ruled = ruled or "cleanup_older_than_days" in table
    if not ruled:
        found.append("unruled")
    if one.pinned_until is not None and (one.pinned_until == FOREVER or now < one.pinned_until):
        found.append("keep_pins")
    if one.tags and table.get("keep_tags", True):
        found.append("keep_tags")
    if one.unpushed and table.get("protect_unpushed", False):
        found.append("protect_unpushed")
    if not ruled:
        return found
    if among(one, run, table.get("keep_last", 0), before_in_last):
        found.append("keep_last")
    if is_among_best(one, run, table, own):
        found.append("keep_best")
    recoveries = [other for other in run if other.kind == "recovery" and is_sound(other)]
    if one in recoveries and among(one, recoveries, table.get("keep_recovery", 0), newer):
        found.append("keep_recovery")
    periods = table.get("keep_periodic", [])
    texts = [
        f"{one} epochs" if isinstance(one, int) else one
        for one in (periods if isinstance(periods, list) else [periods])
    ]
    for every in dict.fromkeys(texts):
        if every != "0 epochs" and begins_a_stretch(one, run, every):
            found.append("keep_periodic")
    for rule in ("hourly", "daily", "weekly", "monthly", "yearly"):
        if is_bucket_choice(one, run, rule, table.get(rule, 0)):
            found.append(rule)
    if one.time_ns > now - nanoseconds(table.get("within", "0d")) and table.get("within", "0d") != "0d":
        found.append("within")
    return found


def among(
    one: CommitFacts, all_of: Sequence[CommitFacts], count: int, before: Callable[[CommitFacts, CommitFacts], bool]
) -> bool:
    """Whether fewer than so many others come before a commit."""
    return sum(before(other, one) for other in all_of if other.id != one.id) < count


def before_in_last(one: CommitFacts, other: CommitFacts) -> bool:
    if is_sound(one) != is_sound(other):
        return is_sound(one)
    return newer(one, other)


def is_among_best(one: CommitFacts, run: Sequence[CommitFacts], table: Table, own: tuple[str, str] | None) -> bool:
    metric = table["metric"] if "metric" in table else own[0] if own else None
    if metric is None:
        return False
    mode = table["mode"] if "mode" in table else own[1] if own and own[0] == metric else None
    able = [
        other
        for other in run
        if is_sound(other) and metric in other.metrics and other.metrics[metric] == other.metrics[metric]
    ]

    def better(first: CommitFacts, second: CommitFacts) -> bool:
        a, b = first.metrics[metric], second.metrics[metric]
        if a == b:
            return newer(second, first)
        return a < b if mode == "min" else a > b

    return one in able and among(one, able, table.get("keep_best", 1), better)


def begins_a_stretch(one: CommitFacts, run: Sequence[CommitFacts], every: str) -> bool:
    def position(commit: CommitFacts) -> float | None:
        value = commit.time_ns
        if every.endswith(("steps", "step")):
            value = commit.step
        if every.endswith(("epochs", "epoch")):
            value = commit.epoch
        return value if value is not None and math.isfinite(value) else None

    number, _, word = every.partition(" ")
    length = int(number) if word else nanoseconds(every)
    here = position(one)
    if here is None:
        return False
    for other in run:
        there = position(other)
        if other.id == one.id or there is None or math.floor(there / length) != math.floor(here / length):
            continue
        if is_sound(other) and not is_sound(one):
            return False
        if is_sound(other) == is_sound(one) and (there < here or (there == here and newer(other, one))):
            return False
    return True


def bucket(time_ns: int, rule: str) -> tuple[int, ...]:
    moment = datetime.datetime.fromtimestamp(time_ns // 10**9, datetime.UTC)
    return {
        "hourly": (moment.year, moment.month, moment.day, moment.hour),
        "daily": (moment.year, moment.month, moment.day),
        "weekly": tuple(moment.isocalendar())[:2],
        "monthly": (moment.year, moment.month),
        "yearly": (moment.year,),
    }[rule]


def is_bucket_choice(one: CommitFacts, run: Sequence[CommitFacts], rule: str, count: int) -> bool:
    here = bucket(one.time_ns, rule)
    for other in run:
        if bucket(other.time_ns, rule) == here and other.id != one.id and before_in_last(other, one):
            return False
    return len({bucket(other.time_ns, rule) for other in run if bucket(other.time_ns, rule) > here}) < count


def let_go(run: Sequence[CommitFacts], wants: dict[Any, list[str]], table: Table, now: int) -> dict[Any, str]:
    """What lets go of which commit: no rule, then age, then one by one until the number fits."""
    gone: dict[Any, str] = {}
    days = table.get("cleanup_older_than_days", 0)
    for one in run:
        if not wants[one.id]:
            gone[one.id] = "unwanted"
        elif days and now - one.time_ns > days * 86_400 * 10**9 and set(wants[one.id]) <= WEAK:
            gone[one.id] = "cleanup_older_than_days"
    while table.get("max_total", 0) and len(run) - len(gone) > table["max_total"]:
        weak = [one for one in run if one.id not in gone and set(wants[one.id]) <= WEAK]
        oldest = [one for one in weak if not any(newer(one, other) for other in weak)]
        if not oldest:
            break
        gone[oldest[0].id] = "max_total"
    return gone


def lost(one: CommitFacts, wants: Sequence[str], table: Table) -> tuple[str, ...]:
    """The components that all rules which want the commit list; never the root, which has no name."""
    gone = set(one.components) - {""}
    for rule in wants:
        patterns = table.get("thin", {}).get(rule, [])
        gone &= {name for name in gone if any(fits(name, pattern) for pattern in patterns)}
    return tuple(sorted(gone))


def fits(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern with at most one `*`, at the end."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
