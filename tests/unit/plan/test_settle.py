from __future__ import annotations

import math
from typing import Any

import pytest

from casckpt.errors import ConflictError, UsageError
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId, TreeId
from casckpt.plan.settle import parse_best, ref_moves, settle_parents


def commit_id(name: str) -> CommitId:
    return CommitId(ObjectId(name.encode().ljust(32, b"\0")))


def commit(**facts: Any) -> Commit:
    return Commit(TreeId(ObjectId(bytes(32))), (), facts.pop("run", "r"), 1, **facts)


NEW, OLD = commit_id("new"), commit_id("old")


def moved(new: Commit, old: Commit | None = None, rule: Any = ("loss", "min")) -> dict[str, CommitId | None]:
    """Refs that a commit moves when the run's best is `old`."""
    refs = {} if old is None else {"runs/r/best": OLD, "runs/r/last": OLD}
    commits = {} if old is None else {OLD: old}
    settings = {} if rule is None else {"best": list(rule)}
    moves = ref_moves(NEW, new, settings, refs.get, commits.get)
    assert all(move.new == NEW and move.old == refs.get(move.name) for move in moves)
    return {move.name.removeprefix("runs/r/"): move.old for move in moves}


def test_last_always_moves() -> None:
    assert set(moved(commit(), rule=None)) == {"last"}
    assert set(moved(commit(status="failed", kind="recovery"), rule=None)) == {"last"}


def test_recovery_moves_for_completed_commits_of_that_kind() -> None:
    assert set(moved(commit(kind="recovery"), rule=None)) == {"last", "recovery"}
    assert set(moved(commit(kind="final"), rule=None)) == {"last"}


@pytest.mark.parametrize(
    ("mode", "old", "new", "moves"),
    [
        ("min", 1.0, 0.5, True),
        ("min", 1.0, 1.0, False),
        ("min", 1.0, 2.0, False),
        ("max", 1.0, 2.0, True),
        ("max", 1.0, 1.0, False),
        ("max", 1.0, 0.5, False),
        ("min", 1, 1.0, False),
        ("min", math.nan, 5.0, True),
        ("min", 5.0, math.nan, False),
        ("min", math.nan, math.nan, False),
        ("min", math.inf, 5.0, True),
        ("min", 5.0, -math.inf, True),
        ("max", -math.inf, -math.inf, False),
        ("min", None, 5.0, True),
        ("min", 5.0, None, False),
        ("min", None, math.nan, False),
        ("min", 0.0, -0.0, False),
    ],
)
def test_best_goes_to_the_better_ties_to_the_older_and_never_to_nan(
    mode: str, old: float | None, new: float | None, moves: bool
) -> None:
    before, after = ({} if value is None else {"loss": value} for value in (old, new))
    assert ("best" in moved(commit(metrics=after), commit(metrics=before), ("loss", mode))) == moves


def test_the_first_with_the_metric_is_best() -> None:
    assert "best" in moved(commit(metrics={"loss": 1e9}))
    assert "best" not in moved(commit(metrics={"acc": 1.0}))
    assert "best" not in moved(commit(metrics={"loss": math.nan}))


def test_only_completed_commits_become_best() -> None:
    for status in ("started", "running", "failed", "cancelled", "preempted"):
        assert "best" not in moved(commit(metrics={"loss": 0.0}, status=status))


@pytest.mark.parametrize("rule", [None, [], ["loss"], "loss:min", ["loss", "min", "x"], {"loss": "min"}])
def test_a_rule_of_another_form_is_no_rule(rule: Any) -> None:
    settings = {} if rule is None else {"best": rule}
    moves = ref_moves(NEW, commit(metrics={"loss": 1}), settings, {}.get, {}.get)
    assert [move.name for move in moves] == ["runs/r/last"]


@pytest.mark.parametrize(
    ("text", "found"),
    [("loss:min", ("loss", "min")), ("a:b:max", ("a:b", "max")), ("val/loss:min", ("val/loss", "min"))],
)
def test_a_rule_is_read(text: str, found: tuple[str, str]) -> None:
    assert parse_best(text) == found


@pytest.mark.parametrize("text", ["", "loss", "loss:", ":min", "loss:least", "loss:MIN", "min"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_best(text)


def test_parents_are_what_the_caller_says_else_the_last_of_the_run() -> None:
    refs = {"runs/r/last": OLD}.get
    assert settle_parents("r", None, None, refs) == (OLD,)
    assert settle_parents("new", None, None, refs) == ()
    assert settle_parents("r", (), None, refs) == ()
    assert settle_parents("r", (NEW, OLD), OLD, refs) == (NEW, OLD)
    assert settle_parents("r", None, OLD, refs) == (OLD,)


@pytest.mark.parametrize(("run", "actual"), [("r", OLD.hex()[:12]), ("new", "nothing")])
@pytest.mark.parametrize("parents", [None, (NEW,)])
def test_another_last_than_expected_is_a_conflict(run: str, actual: str, parents: Any) -> None:
    with pytest.raises(ConflictError) as raised:
        settle_parents(run, parents, NEW, {"runs/r/last": OLD}.get)
    assert raised.value.facts == {"ref": run, "expected": NEW.hex()[:12], "actual": actual}


def unsound(new: Commit, best: CommitId | None, others: dict[CommitId, Commit], *, is_sound: bool) -> dict[str, Any]:
    """Refs that a commit moves, and where to, while `best` names an unsound commit and should name another."""
    refs = {"runs/r/best": OLD, "runs/r/last": OLD}
    moves = ref_moves(
        *(NEW, new, {"best": ["loss", "min"]}, refs.get, others.get),
        is_sound=is_sound,
        standing=lambda old, metric, mode: best if (old, metric, mode) == (OLD, "loss", "min") else old,
    )
    assert all(move.old == refs.get(move.name) for move in moves)
    return {move.name.removeprefix("runs/r/"): move.new for move in moves}


def test_an_unsound_commit_becomes_the_last_and_nothing_else() -> None:
    new = commit(metrics={"loss": 0.0}, kind="recovery")
    assert unsound(new, OLD, {OLD: commit(metrics={"loss": 1.0})}, is_sound=False) == {"last": NEW}
    assert unsound(new, None, {}, is_sound=False) == {"last": NEW}


@pytest.mark.parametrize(
    ("best", "loss", "expected"),
    [(None, 2.0, NEW), (OTHER := commit_id("other"), 2.0, OTHER), (OTHER, 0.5, NEW), (OTHER, math.nan, OTHER)],
)
def test_best_leaves_an_unsound_commit_for_the_best_of_the_others(
    best: CommitId | None, loss: float, expected: CommitId
) -> None:
    others = {OLD: commit(metrics={"loss": 0.0}), OTHER: commit(metrics={"loss": 1.0})}
    assert unsound(commit(metrics={"loss": loss}), best, others, is_sound=True)["best"] == expected


def test_best_stays_where_it_is_while_no_other_commit_could_be_it() -> None:
    assert set(unsound(commit(metrics={"acc": 1.0}), None, {}, is_sound=True)) == {"last"}
