"""The size of groups follows from what records cost on this machine and how well a leaf compresses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.elements import element_code
from casckpt.format.ids import ObjectId
from casckpt.plan.group_size import Ratios, WordCosts, largest_group, measure, restore_speeds
from casckpt.plan.groups import GROUP_SIZES, Version, groups

NS = 1e-9
COSTS = WordCosts(
    plain=((0.8, 1 * NS),), one=((0.0, 0.2 * NS), (0.6, 0.8 * NS)), two=((0.0, 0.4 * NS), (0.5, 0.9 * NS))
)
RATIOS = Ratios(0.8, 0.6, 0.5)


def test_the_deepest_version_needs_one_plain_record_one_of_a_base_and_one_for_each_level() -> None:
    for levels, size in enumerate(GROUP_SIZES, 1):
        assert 1 / restore_speeds(COSTS, RATIOS, size).worst == pytest.approx((1 + 0.8 + levels * 0.9) * NS)


@pytest.mark.parametrize("size", GROUP_SIZES)
def test_the_mean_is_that_of_a_planned_group(size: int) -> None:
    versions = [Version(ObjectId(number.to_bytes(32, "big")), 1, 12) for number in range(size)]
    (frames,) = groups(versions, size)
    levels = [frame.cost - 2 for frame in frames]
    seconds = [1 if level < 0 else 1.8 + level * 0.9 for level in levels]
    assert 1 / restore_speeds(COSTS, RATIOS, size).mean == pytest.approx(sum(seconds) / size * NS)


def test_costs_lie_on_the_line_between_what_was_measured() -> None:
    half = Ratios(0.7, 0.3, 0.25)
    assert 1 / restore_speeds(COSTS, half, 5).worst == pytest.approx((1 + 0.5 + 0.65) * NS)
    beyond = Ratios(1.0, 0.9, 2.0)
    assert 1 / restore_speeds(COSTS, beyond, 5).worst == pytest.approx((1 + 0.8 + 0.9) * NS)


def test_the_largest_group_that_is_fast_enough_is_taken() -> None:
    costs, element = {4: COSTS}, element_code("float32")
    for size in GROUP_SIZES:
        speeds = restore_speeds(COSTS, RATIOS, size)
        for least in ({"worst": speeds.worst, "mean": 1}, {"worst": 1, "mean": speeds.mean}, speeds._asdict()):
            assert largest_group(costs, element, RATIOS, **least) == size
            faster = {name: speed * 1.001 for name, speed in least.items()}
            assert largest_group(costs, element, RATIOS, **faster) == max(GROUP_SIZES[0], _before(size))
    assert largest_group(costs, element, RATIOS) == 17
    assert largest_group(costs, element, RATIOS, worst=1e12) == GROUP_SIZES[0]


def test_where_deltas_save_nothing_every_version_is_plain_and_groups_may_be_large() -> None:
    for size in GROUP_SIZES:
        assert restore_speeds(COSTS, Ratios(0.8, 0.79, 0.8), size) == pytest.approx((1e9, 1e9))
    assert largest_group({4: COSTS}, element_code("float32"), Ratios(0.8, 0.79, 0.8)) == GROUP_SIZES[-1]


def _before(size: int) -> int:
    return max((one for one in GROUP_SIZES if one < size), default=0)


@given(ratios=st.tuples(*[st.floats(0, 1)] * 3), worst=st.floats(1e6, 1e9), mean=st.floats(1e6, 1e9))
def test_what_compresses_better_is_never_given_smaller_groups(
    ratios: tuple[float, ...], worst: float, mean: float
) -> None:
    costs, element = {2: COSTS}, element_code("bfloat16")
    better = Ratios(*(ratio / 2 for ratio in ratios))
    size = largest_group(costs, element, Ratios(*ratios), worst=worst, mean=mean)
    assert largest_group(costs, element, better, worst=worst, mean=mean) >= size


def test_every_width_of_words_is_measured_with_the_clock_that_is_given() -> None:
    ticks = itertools.count()
    costs = measure(lambda: next(ticks) * 1e-3, chunk_bytes=1 << 14)
    assert set(costs) == {1, 2, 4, 8}
    for one in costs.values():
        assert len(one.plain) == 1
        # The clock says a millisecond for each call, and two are timed for the plain one: record and id.
        assert [seconds for _, seconds in one.plain] == [pytest.approx(2e-3 / (1 << 14))]
        for curve in (one.one, one.two):
            assert len(curve) >= 3
            assert list(curve) == sorted(curve)
            assert [seconds * (1 << 14) for _, seconds in curve] == pytest.approx([1e-3] * len(curve))
            assert 0 < curve[0][0] < 0.01 < curve[-1][0] < 1
    for name in ("float32", "bfloat16", "int64", "complex128", "bool", "bytes"):
        assert largest_group(costs, element_code(name), RATIOS, worst=1e3) in GROUP_SIZES
