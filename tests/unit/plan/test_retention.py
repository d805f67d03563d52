from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from casckpt.errors import InvalidRetention
from casckpt.format.ids import CommitId, ObjectId
from casckpt.plan.decision import FOREVER, RULES, CommitFacts, Decision, Plan, Reason
from casckpt.plan.policy import KEEPS, WEAK, Retention
from casckpt.plan.retention import decide
from casckpt.units import DAY, HOUR, parse_duration
from tests.support import retention_oracle

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


NOW = ns(datetime(2026, 1, 2, 12, 30, tzinfo=UTC))
"""Near the turn of a day, a week, a month and a year."""


def commit_id(name: str) -> CommitId:
    return CommitId(ObjectId(name.encode().ljust(32, b"\0")))


def facts(name: str, time_ns: int = NOW, **more: Any) -> CommitFacts:
    return CommitFacts(id=commit_id(name), run=more.pop("run", "r"), time_ns=time_ns, **more)


# ---- spaces ----

COMPONENTS = ("model", "optimizer", "optimizer_2", "rng")
NUMBERS = (None, None, 0.5, 1, 1.0, 2, -1.5, math.nan, math.inf, -math.inf)
EPOCHS = (None, 0, 1, 2, 3, 4, 5, 6, 0.5, 2.5, 4.25, math.nan, math.inf)


def some_commit(number: int, given: bytes) -> CommitFacts:
    """A commit of which each byte says one thing; all zeros is the plainest. Far quicker than a draw for each."""
    name, run, unit, age, step, epoch, kind, status, loss, acc, last, tag, pin, unpushed, dropped, parts = given
    flaw = {1: "failed", 2: "running", 3: "damaged", 4: "nonfinite"}.get(status % 12, "completed")
    metrics = {"loss": NUMBERS[loss % 10], "acc": NUMBERS[acc % 10]}
    return CommitFacts(
        id=commit_id(f"{name % 9}-{number}"),
        run=("a", "a", "b2")[run % 3],
        time_ns=NOW - (age % 40 - 3) * (HOUR // 2, DAY, 19 * HOUR, 500 * HOUR)[unit % 4],
        step=(None, *range(9))[step % 10],
        epoch=EPOCHS[epoch % 13],
        kind=("step", "step", "recovery", "final")[kind % 4],
        status=flaw if flaw in ("failed", "running") else "completed",
        metrics={key: value for key, value in metrics.items() if value is not None},
        heads={1: ("last",), 2: ("last", "best"), 3: ("recovery",)}.get(last % 13, ()),
        tags=("v1",) if tag % 9 == 1 else (),
        pinned_until={1: FOREVER, 2: NOW + 1, 3: NOW, 4: NOW - 1}.get(pin % 16),
        damaged=flaw == "damaged",
        nonfinite=flaw == "nonfinite",
        unpushed=unpushed % 4 == 1,
        dropped_ns=NOW - DAY if dropped % 9 == 1 else None,
        components=((), COMPONENTS, COMPONENTS[:2], ("", "model"))[parts % 4],
    )


COMMITS = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=12).map(
    lambda rows: [some_commit(number, row) for number, row in enumerate(rows)]
)
"""Commits of two runs, close enough together to meet in steps, stretches, hours, metrics and times."""

COUNTS = (1, 2, 3, 0)
PERIODS = ("2 steps", "3 steps", "2 epochs", "6h", "3d", 2)
KEEP_VALUES: dict[str, Sequence[Any]] = {
    "keep_last": COUNTS, "keep_best": COUNTS, "keep_recovery": COUNTS, "hourly": COUNTS, "daily": COUNTS,
    "weekly": COUNTS, "monthly": COUNTS, "yearly": COUNTS, "within": ("3h", "2d", "30d", "0d"),
    "keep_periodic": (*PERIODS, ["3 steps", "6h"], [2, "2 epochs"], 0),
}  # fmt: skip
CAP_VALUES: dict[str, Sequence[Any]] = {"cleanup_older_than_days": (1, 20, 0.5, 0), "max_total": (1, 2, 4, 6, 0)}
OTHER_VALUES: dict[str, Sequence[Any]] = {
    "metric": ("loss", "acc"), "mode": ("min", "max"), "keep_tags": (False, True), "protect_unpushed": (True, False),
    "thin": (
        {rule: ["optimizer*"] for rule in KEEPS},
        {"keep_periodic": ["optimizer", "rng"], "daily": ["optimizer*"], "keep_last": ["*"]},
        {"within": ["model", "rng"], "hourly": ["*"], "keep_best": ["optimizer"]},
    ),
}  # fmt: skip
VALUES = KEEP_VALUES | OTHER_VALUES | CAP_VALUES


def some_table(given: bytes, without: Sequence[str] = ()) -> dict[str, Any]:
    """A policy in which a third of the keys is said; all zeros says nothing."""
    found = {}
    for byte, (key, values) in zip(given, VALUES.items(), strict=True):
        choice = byte % (3 * len(values))
        if 0 < choice <= len(values) and key not in without:
            found[key] = values[choice - 1]
    return found


ROWS = st.binary(min_size=len(VALUES), max_size=len(VALUES))
TABLES = ROWS.map(some_table)
PATTERNS = st.dictionaries(st.sampled_from(["a", "b*", "*"]), TABLES.filter(bool), max_size=2)
LAYERS = st.tuples(TABLES, PATTERNS, TABLES | st.just({})).map(
    lambda given: [table for table in (given[0] | ({"runs": given[1]} if given[1] else {}), given[2]) if table]
)
"""What a store says, with patterns of runs, and perhaps a call."""

OWN = st.dictionaries(
    st.sampled_from(["a", "b2"]), st.tuples(st.sampled_from(["loss", "acc"]), st.sampled_from(["min", "max"]))
)


def decided(given_facts: Sequence[CommitFacts], policies: Sequence[dict[str, Any]], own: dict[str, Any]) -> Plan:
    """The plan; examples whose policy is refused are not meant here."""
    try:
        return decide(given_facts, [Retention.from_dict(table) for table in policies], NOW, best=own)
    except InvalidRetention:
        assume(False)
        raise


def answer(one: Decision) -> retention_oracle.Answer:
    by = None if one.by is None else one.by.rule
    return retention_oracle.Answer(one.outcome, tuple(reason.rule for reason in one.wanted), by, one.thin)


# ---- against the oracle, and what holds for all ----


@settings(max_examples=500)
@given(COMMITS, LAYERS, OWN)
def test_decisions_are_those_that_the_definitions_give_commit_by_commit(
    found: list[CommitFacts], policies: list[dict[str, Any]], own: dict[str, Any]
) -> None:
    plan = decided(found, policies, own)
    assert len(plan.decisions) == len(found)
    expected = retention_oracle.answers(found, policies, NOW, own)
    assert {one.id: answer(one) for one in plan.decisions} == expected


@given(COMMITS, TABLES, OWN, st.randoms())
def test_the_order_of_the_facts_does_not_matter(
    found: list[CommitFacts], table: dict[str, Any], own: dict[str, Any], random: Any
) -> None:
    plan = decided(found, [table], own)
    random.shuffle(found)
    assert decided(found, [table], own) == plan


@given(COMMITS, TABLES, OWN)
def test_a_run_is_decided_as_if_there_were_no_other(
    found: list[CommitFacts], table: dict[str, Any], own: dict[str, Any]
) -> None:
    plan = decided(found, [table], own)
    alone = [decided([one for one in found if one.run == run], [table], own) for run in ("a", "b2")]
    assert plan.decisions == alone[0].decisions + alone[1].decisions


@given(COMMITS, TABLES, OWN)
def test_what_is_protected_is_never_dropped(
    found: list[CommitFacts], table: dict[str, Any], own: dict[str, Any]
) -> None:
    dropped = {one.id for one in decided(found, [table], own).dropped}
    for run in ("a", "b2"):
        alive = [one for one in found if one.run == run and one.dropped_ns is None]
        for one in alive:
            pinned = one.pinned_until is not None and one.pinned_until > NOW
            if one.heads or pinned or (one.tags and table.get("keep_tags", True)):
                assert one.id not in dropped
        sound = [one for one in alive if one.status == "completed" and not one.damaged and not one.nonfinite]
        recoveries = [one for one in sound if one.kind == "recovery"]
        if recoveries and table.get("keep_recovery"):
            assert max(recoveries, key=lambda one: (one.time_ns, one.id)).id not in dropped
        metric, mode = own.get(run, (None, None))
        numbers = [
            one.metrics[metric] for one in sound if metric in one.metrics and one.metrics[metric] == one.metrics[metric]
        ]
        if numbers and table.get("keep_best", 1) and not {"metric", "mode"} & table.keys():
            best = min(numbers) if mode == "min" else max(numbers)
            first = min((one.time_ns, one.id) for one in sound if one.metrics.get(metric) == best)
            assert first[1] not in dropped


@given(COMMITS, TABLES, OWN)
def test_deciding_again_on_what_is_kept_changes_nothing(
    found: list[CommitFacts], table: dict[str, Any], own: dict[str, Any]
) -> None:
    first = {one.id: one for one in decided(found, [table], own).kept}
    kept = [one for one in found if one.id in first]
    thinned = [
        replace(one, components=tuple(name for name in one.components if name not in first[one.id].thin))
        for one in kept
    ]
    again = decided(thinned, [table], own)
    assert not again.dropped
    assert not again.thinned
    for one in again.kept:
        # Reasons may be more, where a cap took the commit that a rule had chosen before this one; never fewer.
        assert {reason.rule for reason in first[one.id].wanted} <= {reason.rule for reason in one.wanted}


@given(COMMITS, ROWS.map(lambda row: some_table(row, without=["max_total"])), st.data(), OWN)
def test_one_more_rule_never_drops_nor_thins_more(
    found: list[CommitFacts], table: dict[str, Any], data: st.DataObject, own: dict[str, Any]
) -> None:
    before = decided(found, [table], own)
    assume(not any(reason.rule == "unruled" for one in before.kept for reason in one.wanted))
    key = data.draw(st.sampled_from(list(KEEP_VALUES)))
    more = dict(table)
    if key == "within":
        more[key] = "30d"
    elif key == "keep_periodic":
        periods = table.get(key, [])
        periods = [] if periods == 0 else periods if isinstance(periods, list) else [periods]
        more[key] = [*periods, data.draw(st.sampled_from(PERIODS))]
    else:
        more[key] = table.get(key, 1 if key == "keep_best" else 0) + data.draw(st.integers(0, 2))
    after = decided(found, [more], own)
    assert {one.id for one in after.dropped} <= {one.id for one in before.dropped}
    lost = {one.id: set(one.thin) for one in before.kept}
    # What is kept only now is thinned for the first time.
    assert all(set(one.thin) <= lost[one.id] for one in after.thinned if one.id in lost)


@given(COMMITS, ROWS.map(lambda row: some_table(row, without=["max_total"])), OWN, st.sampled_from([1, HOUR, 9 * DAY]))
def test_time_that_goes_by_only_lets_go(
    found: list[CommitFacts], table: dict[str, Any], own: dict[str, Any], later_ns: int
) -> None:
    dropped = {one.id for one in decided(found, [table], own).dropped}
    later = decide(found, Retention.from_dict(table), NOW + later_ns, best=own)
    assert dropped <= {one.id for one in later.dropped}


def test_with_max_total_a_rule_can_cost_what_only_weak_rules_want() -> None:
    """The one place where more rules keep less: the number stays, so others go for what the new rule wants."""
    found = [facts(f"{n}", NOW - n * DAY, kind="recovery" if n == 9 else "step", step=n) for n in range(10)]
    policy = Retention(within="8d", max_total=4)
    more = Retention(within="8d", max_total=4, keep_recovery=1)
    dropped = {one.id for one in decide(found, policy, NOW).dropped}
    assert {one.id for one in decide(found, more, NOW).dropped} - dropped == {commit_id("3")}


# ---- single promises ----


def test_an_empty_policy_is_refused() -> None:
    for policy in (Retention(keep_tags=True), Retention(grace="2d", protect_unpushed=True), [], [Retention(thin={})]):
        with pytest.raises(InvalidRetention, match="say at least one of keep_last"):
            decide([], policy, NOW)


@pytest.mark.parametrize(
    "table", [{"keep_last": 0}, {"max_total": 5}, {"within": "0h", "keep_periodic": 0, "hourly": 0}]
)
def test_a_policy_with_every_rule_off_is_refused_for_the_run(table: dict[str, Any]) -> None:
    with pytest.raises(InvalidRetention, match="for the run 'r' no rule is on"):
        decide([facts("x")], Retention.from_dict(table), NOW)


@pytest.mark.parametrize("key", KEEP_VALUES)
def test_one_rule_alone_is_a_policy(key: str) -> None:
    policy = Retention.from_dict({key: {"keep_periodic": "1 step", "within": "1d"}.get(key, 1)})
    found = [facts("x", kind="recovery", step=1, metrics={"loss": 1})]
    assert decide(found, policy, NOW, best={"r": ("loss", "min")}).counts[key] == 1


def test_a_run_of_which_nothing_is_said_is_left_alone() -> None:
    found = [
        facts("s1", run="sweep-1"),
        facts("s2", NOW + 1, run="sweep-1"),
        facts("m", run="main"),
        facts("n", run="main"),
    ]
    plan = decide(found, Retention(runs={"sweep-*": {"keep_last": 1}}), NOW)
    assert [one.id for one in plan.dropped] == [commit_id("s1")]
    assert plan.counts == {"unruled": 2, "keep_last": 1}


def test_a_metric_of_which_nothing_says_what_is_best_is_refused() -> None:
    found = [facts("x", metrics={"acc": 0.5})]
    with pytest.raises(InvalidRetention, match="mode: say min or max"):
        decide(found, Retention(keep_best=1, metric="acc"), NOW, best={"r": ("loss", "max")})
    assert decide(found, Retention(keep_best=1, metric="acc"), NOW, best={"r": ("acc", "max")}).counts == {
        "keep_best": 1
    }
    assert decide(found, Retention(keep_last=1, keep_best=0, metric="acc"), NOW).counts == {"keep_last": 1}


def test_a_rule_that_finds_nothing_to_choose_from_is_told() -> None:
    found = [facts("x", metrics={"loss": math.nan}), facts("y", run="s")]
    policy = Retention(keep_last=1, keep_best=2, keep_periodic=["5 epochs", "2 steps"])
    assert [
        (one.run, one.rule, one.problem) for one in decide(found, policy, NOW, best={"r": ("loss", "min")}).notices
    ] == [
        ("r", "keep_best", "no sound commit has a number for 'loss'"),
        ("r", "keep_periodic", "no commit has a number for epoch"),
        ("r", "keep_periodic", "no commit has a number for step"),
        ("s", "keep_best", "no metric is named"),
        ("s", "keep_periodic", "no commit has a number for epoch"),
        ("s", "keep_periodic", "no commit has a number for step"),
    ]


def test_a_cap_that_cannot_be_met_is_told() -> None:
    found = [facts(f"{n}", NOW - n * DAY) for n in range(9)]
    plan = decide(found, Retention(keep_last=5, within="7d", max_total=3), NOW)
    assert len(plan.kept) == 5
    assert [notice.problem for notice in plan.notices] == ["5 commits are kept by rules that no cap touches"]


def test_a_drop_is_final_when_its_grace_ends() -> None:
    found = [facts("new", NOW), facts("old", NOW - DAY), facts("gone", NOW - 2 * DAY, dropped_ns=NOW - HOUR)]
    for grace, grace_ns in ((None, DAY), ("2d", 2 * DAY), ("0s", 0)):
        plan = decide(found, Retention(keep_last=1, grace=grace), NOW)
        assert [one.final_ns for one in plan.decisions] == [None, NOW + grace_ns, NOW - HOUR + grace_ns]


def test_times_at_the_edges_of_what_a_commit_can_have_are_decided_on() -> None:
    found = [facts("a", -(1 << 63)), facts("b", (1 << 64) - 1), facts("c", 0), facts("d", -1)]
    policy = Retention(hourly=9, daily=9, weekly=9, monthly=9, yearly=9, within="36500d", keep_periodic=["1w", "1h"])
    assert len(decide(found, policy, NOW).kept) == 4
    assert len(decide(found, Retention(within="36500d", cleanup_older_than_days=36500), NOW).kept) == 3


def test_ten_thousand_commits_need_one_pass_of_every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how often it is asked whether a commit is sound stays a small multiple of the commits."""
    asked = 0
    plain = CommitFacts.unsound

    def counted(one: CommitFacts) -> str:
        nonlocal asked
        asked += 1
        return plain.fget(one)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr(CommitFacts, "unsound", property(counted))
    found = [
        facts(f"{n}", NOW - n * HOUR, run=f"r{n % 3}", step=n, epoch=n / 10, metrics={"loss": n}) for n in range(10_000)
    ]
    counts = dict.fromkeys(("keep_last", "keep_best", "keep_recovery", "hourly", "daily", "weekly", "monthly"), 10_000)
    policy = Retention(
        **counts, metric="loss", mode="min", keep_periodic=["7 steps", "1 epoch", "5h"], within="99d", max_total=50
    )
    assert len(decide(found, policy, NOW).decisions) == 10_000
    assert asked < 20 * 10_000


def test_reasons_say_their_facts_in_words_and_for_json() -> None:
    reason = Reason("keep_best", {"rank": 1, "of": 3, "metric": "loss", "mode": "max", "value": math.inf})
    assert reason.text == "best 1 of 3 by loss (max): inf"
    assert reason.to_dict() == {
        "rule": "keep_best", "text": reason.text, "rank": 1, "of": 3, "metric": "loss", "mode": "max",
        "value": "Infinity",
    }  # fmt: skip


def test_a_plan_is_plain_values_for_json() -> None:
    def periodic(start: str) -> dict[str, str]:
        return {
            "rule": "keep_periodic",
            "text": f"first from {start} on, every 1 step",
            "start": start,
            "every": "1 step",
        }

    found = [
        facts("new", step=2, heads=("last",)),
        facts("old", NOW - 9 * DAY, step=1, components=("model", "rng")),
        facts("gone", NOW - 10 * DAY, dropped_ns=NOW - DAY),
        facts("out", NOW - 10 * DAY),
    ]
    plan = decide(found, Retention(keep_periodic="1 step", thin={"keep_periodic": "rng"}, keep_best=1), NOW)
    assert plan.to_dict() == {
        "counts": {"head": 1, "keep_periodic": 2},
        "decisions": [
            {
                "id": commit_id("new").hex(), "run": "r", "outcome": "keep", "by": None, "thin": [], "final": None,
                "wanted": [
                    {"rule": "head", "text": "last of its run", "heads": "last"},
                    periodic("step 2"),
                ],
            },
            {
                "id": commit_id("old").hex(), "run": "r", "outcome": "keep", "by": None, "thin": ["rng"],
                "final": "2026-01-03T12:30:00.000Z",
                "wanted": [
                    periodic("step 1"),
                ],
            },
            {
                "id": commit_id("out").hex(), "run": "r", "outcome": "drop", "wanted": [], "thin": [],
                "by": {"rule": "unwanted", "text": "no rule keeps it"}, "final": "2026-01-03T12:30:00.000Z",
            },
            {
                "id": commit_id("gone").hex(), "run": "r", "outcome": "dropped", "wanted": [], "by": None, "thin": [],
                "final": "2026-01-02T12:30:00.000Z",
            },
        ],
        "notices": [{"run": "r", "rule": "keep_best", "problem": "no metric is named"}],
    }  # fmt: skip


# ---- golden cases ----

CASES = (Path(__file__).parent / "retention.txt").read_text(encoding="utf-8")
FIELDS = {"step": int, "epoch": float, "kind": str, "status": str, "damaged": bool, "nonfinite": bool, "unpushed": bool}
HEADS = ("last", "best", "recovery")


def cases() -> Iterator[tuple[str, list[list[str]]]]:
    """The title of every case and its parts: policy, commits, expected lines."""
    for text in re.split(r"(?m)^== ", CASES)[1:]:
        title, _, body = text.partition("\n")
        yield title, [part.splitlines() for part in re.split(r"\n\n+", body.strip())]


def moment(text: str) -> int:
    """`3d` before now, or a time in UTC."""
    ago = parse_duration(text)
    return NOW - ago if ago is not None else ns(datetime.fromisoformat(text + "+00:00"))


def read_commit(line: str) -> tuple[str, CommitFacts]:
    """`name when word key=value ...`; what is no field is a metric."""
    name, when, *words = shlex.split(line)
    run, _, short = name.rpartition("/")
    more: dict[str, Any] = {"metrics": {}}
    for word in words:
        key, _, value = word.partition("=")
        if key == "tag":
            more["tags"] = (*more.get("tags", ()), value)
        elif key == "pin":
            more["pinned_until"] = NOW + (parse_duration(value) or 0) if value else FOREVER
        elif key == "dropped":
            more["dropped_ns"] = moment(value)
        elif key == "components":
            more["components"] = tuple(value.split(","))
        elif key in HEADS:
            more["heads"] = (*more.get("heads", ()), key)
        elif key in FIELDS:
            more[key] = FIELDS[key](value) if value else True
        else:
            more["metrics"][key] = float(value)
    return name, facts(short, moment(when), run=run or "r", **more)


def rendered(plan: Plan, names: dict[tuple[str, CommitId], str]) -> list[str]:
    """A line for each decision and notice."""
    lines = []
    for one in plan.decisions:
        words = [f"[{one.by.rule}: {one.by.text}]"] if one.by else []
        words += [f"{reason.rule}: {reason.text}" for reason in one.wanted]
        words += [f"[thin: {', '.join(one.thin)}]"] if one.thin else []
        lines.append(" · ".join([f"{names[one.run, one.id]} {one.outcome}", *words]))
    return lines + [f"! {one.run} {one.rule}: {one.problem}" for one in plan.notices]


@pytest.mark.parametrize(("title", "parts"), [pytest.param(*case, id=case[0]) for case in cases()])
def test_a_case_is_decided_as_written(title: str, parts: list[list[str]]) -> None:
    policy, commit_lines, expected = parts
    own = {}
    toml = []
    for line in policy:
        found = re.fullmatch(r"best of (\S+) is (\S+):(\S+)", line)
        if found:
            own[found[1]] = (found[2], found[3])
        else:
            toml.append(line)
    read = dict(map(read_commit, commit_lines))
    plan = decide(list(read.values()), Retention.from_toml("\n".join(toml)), NOW, best=own)
    names = {(one.run, one.id): name for name, one in read.items()}
    assert rendered(plan, names) == expected


def test_the_cases_show_every_rule_and_everything_that_lets_go() -> None:
    for code in (*RULES, "unwanted", "cleanup_older_than_days", "max_total"):
        assert re.search(rf"(?m)^\S+ (keep|drop) .*\b{code}: ", CASES), code
    assert set(WEAK) < set(RULES)
