"""The size of groups follows from what records cost on this machine and how well a leaf compresses."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.elements import element_code
from casckpt.format.ids import ObjectId
from casckpt.plan.group_size import (
    Grouping,
    Ratios,
    WordCosts,
    measure,
    restore_speeds,
    smallest_groups,
    stored_ratio,
)
from casckpt.plan.groups import GROUP_SIZES, Version, groups

NS = 1e-9
COSTS = WordCosts(
    record=0.0,
    plain=((0.8, 1 * NS),),
    one=((0.0, 0.2 * NS), (0.6, 0.8 * NS)),
    two=((0.0, 0.4 * NS), (0.5, 0.9 * NS)),
    classed=((0.0, 1.0 * NS), (0.5, 1.5 * NS)),
)
RATIOS = Ratios(0.8, 0.6, 0.5, 0.5)
GROUPINGS = [Grouping(size, classed) for number, size in enumerate(GROUP_SIZES, 1) for classed in range(number + 1)]


def test_the_deepest_version_needs_one_plain_record_one_of_a_base_and_one_for_each_level() -> None:
    for levels, size in enumerate(GROUP_SIZES, 1):
        assert 1 / restore_speeds(COSTS, RATIOS, Grouping(size)).worst == pytest.approx((1 + 0.8 + levels * 0.9) * NS)


@pytest.mark.parametrize("size", GROUP_SIZES)
def test_the_mean_is_that_of_a_planned_group(size: int) -> None:
    versions = [Version(ObjectId(number.to_bytes(32, "big")), 1, 12) for number in range(size)]
    (frames,) = groups(versions, size)
    levels = [frame.cost - 2 for frame in frames]
    seconds = [1 if level < 0 else 1.8 + level * 0.9 for level in levels]
    assert 1 / restore_speeds(COSTS, RATIOS, Grouping(size)).mean == pytest.approx(sum(seconds) / size * NS)


def test_short_versions_cost_more_per_byte() -> None:
    costs = replace(COSTS, record=1e6 * NS)
    assert 1 / restore_speeds(costs, RATIOS, Grouping(5), 10**6).worst == pytest.approx((2.7 + 3) * NS)
    for nbytes in (0, 1, 1 << 17):  # short ones do not count for less
        assert 1 / restore_speeds(costs, RATIOS, Grouping(5), nbytes).worst == pytest.approx(
            (2.7 + 3e6 / (1 << 17)) * NS
        )


def test_costs_lie_on_the_line_between_what_was_measured() -> None:
    half = Ratios(0.7, 0.3, 0.25, 0.2)
    assert 1 / restore_speeds(COSTS, half, Grouping(5)).worst == pytest.approx((1 + 0.5 + 0.65) * NS)
    beyond = Ratios(1.0, 0.9, 2.0, 2.0)
    assert 1 / restore_speeds(COSTS, beyond, Grouping(5)).worst == pytest.approx((1 + 0.8 + 0.9) * NS)


def test_the_largest_group_that_is_fast_enough_is_taken() -> None:
    costs, element = {4: COSTS}, element_code("float32")
    for size in GROUP_SIZES:
        speeds = restore_speeds(COSTS, RATIOS, Grouping(size))
        for least in ({"worst": speeds.worst, "mean": 1}, {"worst": 1, "mean": speeds.mean}, speeds._asdict()):
            assert smallest_groups(costs, element, RATIOS, **least) == Grouping(size)
            faster = {name: speed * 1.001 for name, speed in least.items()}
            assert smallest_groups(costs, element, RATIOS, **faster).size == max(GROUP_SIZES[0], _before(size))
    assert smallest_groups(costs, element, RATIOS, worst=150e6, mean=250e6) == (17, 0)
    assert smallest_groups(costs, element, RATIOS, worst=1e12) == (GROUP_SIZES[0], 0)


def test_where_deltas_save_nothing_every_version_is_plain_and_groups_may_be_large() -> None:
    for size in GROUP_SIZES:
        assert restore_speeds(COSTS, Ratios(0.8, 0.79, 0.8, 0.8), Grouping(size)) == pytest.approx((1e9, 1e9))
    assert smallest_groups({4: COSTS}, element_code("float32"), Ratios(0.8, 0.79, 0.8, 0.8)) == Grouping(
        GROUP_SIZES[-1]
    )


def _before(size: int) -> int:
    return max((one for one in GROUP_SIZES if one < size), default=0)


@given(ratios=st.tuples(*[st.floats(0, 1)] * 4), worst=st.floats(1e6, 1e9), mean=st.floats(1e6, 1e9))
def test_no_other_groups_that_are_fast_enough_take_fewer_bytes(
    ratios: tuple[float, ...], worst: float, mean: float
) -> None:
    sampled = Ratios(*ratios)
    found = smallest_groups({2: COSTS}, element_code("bfloat16"), sampled, worst=worst, mean=mean)
    speeds = {one: restore_speeds(COSTS, sampled, one) for one in GROUPINGS}
    enough = [one for one in GROUPINGS if speeds[one].worst >= worst and speeds[one].mean >= mean]
    assert found in (enough or [(GROUP_SIZES[0], 0)])
    least = min((stored_ratio(sampled, one) for one in enough), default=1.0)
    alike = [speeds[one].mean for one in enough if stored_ratio(sampled, one) <= 1.005 * least]
    assert not enough or (stored_ratio(sampled, found) <= 1.005 * least and speeds[found].mean == max(alike))


def test_classes_are_taken_on_the_deepest_levels_as_far_as_the_speed_allows() -> None:
    costs, element, ratios = {4: COSTS}, element_code("float32"), Ratios(0.8, 0.6, 0.5, 0.45)
    for classed in range(4):
        grouping = Grouping(17, classed)
        speeds = restore_speeds(COSTS, ratios, grouping)
        assert 1 / speeds.worst == pytest.approx((1.8 + (3 - classed) * 0.9 + classed * 1.45) * NS)
        found = smallest_groups(costs, element, ratios, worst=speeds.worst, mean=1)
        assert stored_ratio(ratios, found) <= 1.005 * stored_ratio(ratios, grouping)
    found = smallest_groups(costs, element, ratios, worst=1, mean=1)
    assert found.size == 65
    assert found.classed >= 4
    assert stored_ratio(ratios, Grouping(9, 1)) == pytest.approx((0.8 + 2 * 0.6 + 2 * 0.5 + 4 * 0.45) / 9)


def test_every_width_of_words_is_measured_with_the_clock_that_is_given() -> None:
    ticks = itertools.count()
    costs = measure(lambda: next(ticks) * 1e-3, chunk_bytes=1 << 14)
    assert set(costs) == {1, 2, 4, 8}
    for one in costs.values():
        assert len(one.plain) == 2
        # The clock says a millisecond for each call, and two are timed for a plain one: record and id.
        assert [seconds for _, seconds in one.plain] == [pytest.approx(2e-3 / (1 << 14))] * 2
        for curve in (one.one, one.two, one.classed):
            assert len(curve) >= 3
            assert list(curve) == sorted(curve)
            assert [seconds * (1 << 14) for _, seconds in curve] == pytest.approx([1e-3] * len(curve))
            assert 0 < curve[0][0] < 0.01 < curve[-1][0] < 1
    for name in ("float32", "bfloat16", "int64", "complex128", "bool", "bytes"):
        assert smallest_groups(costs, element_code(name), RATIOS, worst=1e3) in GROUPINGS
