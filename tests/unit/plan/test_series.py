"""Curves of runs and how they stand to each other, against the plainest way to say the same."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.plan.series import Axis, Mode, Number, Sample, aligned, better, placed, points, samples, standing

BASE = Commit(TreeId(ObjectId(bytes(32))), (), "gpt", 0)
NAN = math.nan


def line(*commits: tuple[int | None, float | None]) -> list[tuple[CommitId, Commit]]:
    """Commits with a step and a loss, the oldest given first, a second apart."""
    made = [
        replace(BASE, step=step, time_ns=10**18 + number * 10**9, metrics={} if loss is None else {"loss": loss})
        for number, (step, loss) in enumerate(commits)
    ]
    return [(CommitId(object_id(Kind.COMMIT, commit.encode())), commit) for commit in reversed(made)]


def curve(*commits: tuple[int | None, float | None], axis: Axis = "step") -> list[Sample]:
    return samples(placed(line(*commits), axis), "loss")


def test_a_curve_has_gaps_where_nothing_was_measured() -> None:
    assert curve((0, 1.0), (10, None), (None, 5.0), (30, 3.0)) == [(0, 1.0), (30, 3.0)]


def test_what_was_measured_again_after_going_back_is_the_newer() -> None:
    assert curve((0, 5.0), (10, 4.0), (20, 3.0), (10, 4.5), (15, 3.5)) == [(0, 5.0), (10, 4.5), (15, 3.5)]


def test_a_commit_without_the_metric_does_not_hide_the_one_before_at_its_step() -> None:
    assert curve((0, 5.0), (10, 4.0), (10, None)) == [(0, 5.0), (10, 4.0)]
    assert curve((0, 5.0), (10, 4.0), (5, None)) == [(0, 5.0)]


def test_time_counts_from_the_first_commit_of_the_line() -> None:
    assert curve((7, 1.0), (7, 2.0), (3, 3.0), axis="time") == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert placed([], "time") == []


def test_epochs_that_are_no_place_are_left_out() -> None:
    commits = [(identity, replace(commit, epoch=commit.step)) for identity, commit in line((1, 1.0), (2, 2.0))]
    odd = [(CommitId(ObjectId(bytes(32))), replace(BASE, epoch=epoch)) for epoch in (NAN, math.inf, None)]
    assert samples(placed([*odd, *commits], "epoch"), "loss") == [(1, 1.0), (2, 2.0)]


STEPS = st.one_of(st.none(), st.integers(0, 12))
VALUES = st.sampled_from([1.0, 2.0, 3.0, NAN, math.inf, -math.inf])
COMMITS = st.lists(st.tuples(STEPS, st.one_of(st.none(), VALUES)), max_size=14)


@given(COMMITS)
def test_a_curve_is_what_nothing_newer_took_back(commits: list[tuple[int | None, float | None]]) -> None:
    expected: dict[int, float] = {}
    for step, loss in commits:
        if step is not None:
            expected = {at: value for at, value in expected.items() if at <= step}
            if loss is not None:
                expected[step] = loss
    assert repr(curve(*commits)) == repr([Sample(*item) for item in sorted(expected.items())])


CURVES = st.dictionaries(st.integers(0, 12), VALUES, max_size=9).map(
    lambda values: [Sample(*item) for item in sorted(values.items())]
)


@given(CURVES, CURVES)
def test_curves_meet_where_both_have_a_value(left: list[Sample], right: list[Sample]) -> None:
    expected = [(x, a, b) for x, a in left for y, b in right if x == y]
    assert repr(list(aligned(left, right, carried=False))) == repr(expected)


@given(CURVES, CURVES)
def test_carried_curves_have_their_newest_values(left: list[Sample], right: list[Sample]) -> None:
    expected = []
    for x in range(13):
        before = [[value for at, value in one if at <= x] for one in (left, right)]
        if all(before) and any(at == x for at, _ in (*left, *right)):
            expected.append((x, before[0][-1], before[1][-1]))
    assert repr(list(aligned(left, right, carried=True))) == repr(expected)


@pytest.mark.parametrize("mode", ["min", "max"])
@given(left=CURVES, right=CURVES)
def test_the_one_ahead_is_better_at_every_place_from_there_on(
    mode: Mode, left: list[Sample], right: list[Sample]
) -> None:
    pairs = list(aligned(left, right, carried=False))
    found = standing(pairs, mode)
    assert found.aligned == len(pairs)
    winners = [better(a, b, mode) for _, a, b in pairs]
    runs = [start for start in range(len(pairs)) if winners[start] is not None and len({*winners[start:]}) == 1]
    assert (found.ahead, found.since) == ((winners[-1], pairs[runs[0]][0]) if runs else (None, None))


@pytest.mark.parametrize(
    ("left", "right", "mode", "winner"),
    [
        (1, 2, "min", 0), (1, 2, "max", 1), (2, 2.0, "min", None), (NAN, 1, "min", 1), (1, NAN, "max", 0),
        (NAN, NAN, "min", None), (-math.inf, 1, "min", 0), (math.inf, 1, "min", 1), (NAN, math.inf, "min", 1),
    ],
)  # fmt: skip
def test_nan_is_worse_than_any_number(left: Number, right: Number, mode: Mode, winner: int | None) -> None:
    assert better(left, right, mode) == winner


PLACES = st.one_of(st.integers(0, 1 << 62), st.floats(allow_nan=False, allow_infinity=False))


@given(st.dictionaries(PLACES, st.floats(), min_size=1, max_size=40), st.integers(1, 12), st.data())
def test_points_hide_no_extreme_and_no_nan(values: dict[Number, float], count: int, data: st.DataObject) -> None:
    whole = [Sample(*item) for item in sorted(values.items())]
    wide = data.draw(st.booleans())
    span = (whole[0].x, whole[-1].x) if not wide else (min(-1e308, whole[0].x), max(1e308, whole[-1].x))
    found = points(whole, span, count)
    assert len(found) <= max(count, 1) or len(found) == len(whole) <= count
    assert sum(point.samples for point in found) == len(whole)
    assert sum(point.bad for point in found) == sum(not math.isfinite(value) for value in values.values())
    finite = [value for value in values.values() if math.isfinite(value)]
    lows = [point.low for point in found if point.low is not None]
    highs = [point.high for point in found if point.high is not None]
    assert (min(lows, default=None), max(highs, default=None)) == (min(finite, default=None), max(finite, default=None))
    for point in found:
        inside = [value for x, value in whole if point.x <= x <= point.until]
        assert len(inside) == point.samples
        assert all(not math.isfinite(value) or point.low <= value <= point.high for value in inside)  # type: ignore[operator]
