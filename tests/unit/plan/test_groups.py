"""Groups decode from what lies before, within a bound, and no version is lost or depends on more than it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import UsageError
from casckpt.format import limits
from casckpt.format.ids import ObjectId
from casckpt.plan.groups import (
    EVEN,
    GROUP_SIZES,
    LONGEST_CHAIN,
    Frame,
    Version,
    balanced,
    chain,
    closure_costs,
    distinct,
    groups,
    heights,
    pyramid,
    pyramid_cost,
    weight_between,
)

SIZES = st.sampled_from(GROUP_SIZES)


def version(number: int, **other: int | bool) -> Version:
    return Version(ObjectId(number.to_bytes(32, "big")), other.pop("length", 100), 12, number * 10, **other)


def versions(count: int, *plain: int) -> list[Version]:
    return [version(number, plain=number in plain) for number in range(count)]


def numbers(frames: tuple[Frame, ...]) -> list[int]:
    return [frame.version.when // 10 for frame in frames]


def closure(frames: tuple[Frame, ...], number: int) -> set[int]:
    return {number}.union(*(closure(frames, base) for base in frames[number].bases))


def check(frames: tuple[Frame, ...], highest: int) -> None:
    """What every group promises."""
    order = numbers(frames)
    for number, frame in enumerate(frames):
        assert all(0 <= base < number for base in frame.bases)
        assert frame.cost == len(closure(frames, number)) <= highest <= limits.MAX_DECODE_COST
        assert all(frame.cost > frames[base].cost for base in frame.bases)
        assert len(frame.bases) <= 2
        assert (1 <= frame.weight <= 15) == (len(frame.bases) == 2) != (frame.weight == 0)
        assert not (frame.version.plain and frame.bases)
        if len(frame.bases) == 2:
            first, second = (order[base] for base in frame.bases)
            assert first < order[number] < second
    plain = sum(frame.version.plain for frame in frames)
    assert max(1, plain) <= sum(not frame.bases for frame in frames) <= plain + 1


# ---- pyramids


def test_a_pyramid_of_nine_is_as_it_is_drawn() -> None:
    (frames,) = groups(versions(9), 9)
    assert numbers(frames) == [4, 0, 8, 2, 6, 1, 3, 5, 7]
    assert [frame.bases for frame in frames] == [(), (0,), (0,), (1, 0), (0, 2), (1, 3), (3, 0), (0, 4), (4, 2)]
    assert [frame.cost for frame in frames] == [1, 2, 2, 3, 3, 4, 4, 4, 4]


@pytest.mark.parametrize(("size", "cost"), [*zip(GROUP_SIZES, (3, 4, 5, 6, 7), strict=True)])
def test_the_cost_grows_with_the_logarithm_of_the_group(size: int, cost: int) -> None:
    (frames,) = groups(versions(size), size)
    assert max(frame.cost for frame in frames) == cost == pyramid_cost(size)


@pytest.mark.parametrize("count", range(1, 70))
def test_a_pyramid_of_any_length_and_keyframe_costs_what_is_said(count: int) -> None:
    for keyframe in range(count):
        links = pyramid(count, keyframe)
        place = {found: number for number, (found, _) in enumerate(links)}
        assert sorted(place) == list(range(count))
        costs = closure_costs([[place[base] for base in bases] for _, bases in links])
        assert max(costs) == pyramid_cost(count, keyframe)
        for found, bases in links[1:]:
            assert len(bases) == (1 if found in (0, count - 1) else 2)
    assert pyramid_cost(count) == pyramid_cost(count, count // 2)


@given(count=st.integers(0, 300), size=SIZES, plain=st.sets(st.integers(0, 299), max_size=5), timed=st.booleans())
def test_every_version_is_in_one_group_and_decodes_from_before_it(
    count: int, size: int, plain: set[int], timed: bool
) -> None:
    found = list(groups(versions(count, *plain), size, timed=timed))
    assert [number for frames in found for number in sorted(numbers(frames))] == list(range(count))
    for frames in found:
        check(frames, pyramid_cost(size))


@given(count=st.integers(0, 300), size=st.integers(1, LONGEST_CHAIN), plain=st.sets(st.integers(0, 299), max_size=5))
def test_chains_keep_within_what_a_reader_decodes(count: int, size: int, plain: set[int]) -> None:
    found = list(groups(versions(count, *plain), size, chains=True))
    assert [number for frames in found for number in sorted(numbers(frames))] == list(range(count))
    for frames in found:
        check(frames, min(size // 2 + 1, limits.MAX_DECODE_COST))
        assert len(frames) > 31 or plain or all(len(frame.bases) <= 1 for frame in frames)


def test_a_chain_goes_both_ways_from_its_middle() -> None:
    assert chain(5, 2) == [(2, ()), (1, (2,)), (0, (1,)), (3, (2,)), (4, (3,))]
    (frames,) = groups(versions(31), LONGEST_CHAIN, chains=True)
    assert max(frame.cost for frame in frames) == limits.MAX_DECODE_COST


def test_the_links_of_a_long_chain_go_over_as_few_versions_as_needed() -> None:
    (frames,) = groups(versions(33), LONGEST_CHAIN, chains=True)
    assert max(frame.cost for frame in frames) == limits.MAX_DECODE_COST
    between = {frame.version.when: sorted(frames[base].version.when for base in frame.bases) for frame in frames}
    assert {when for when, bases in between.items() if len(bases) == 2} == {150, 170}
    assert (between[150], between[170]) == ([140, 160], [160, 180])
    (longest,) = groups(versions(LONGEST_CHAIN), LONGEST_CHAIN, chains=True)
    assert max(frame.cost for frame in longest) == limits.MAX_DECODE_COST


# ---- cutting


@given(count=st.integers(0, 1000), size=st.integers(1, 65))
def test_parts_are_as_few_and_as_equal_as_can_be(count: int, size: int) -> None:
    whole = versions(count)
    parts = list(balanced(whole, size))
    assert [one for part in parts for one in part] == whole
    assert len(parts) == -(-count // size)
    assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


def test_eleven_versions_are_no_nine_and_two() -> None:
    assert [len(part) for part in balanced(versions(11), 9)] == [5, 6]


def test_what_repeats_is_packed_once_where_it_was_first() -> None:
    one, two, three = versions(3)
    again = [one, one, two, one._replace(when=99, plain=True), three, two]
    assert distinct(again) == [one._replace(plain=True), two, three]
    assert distinct([]) == []


def test_versions_of_another_length_or_type_are_never_bases() -> None:
    mixed = [*versions(4), *(version(number, length=7) for number in range(4, 6)), version(6)._replace(element=3)]
    found = list(groups(mixed, 9))
    assert [len(frames) for frames in found] == [4, 2, 1]
    assert found[2][0].bases == ()


# ---- keyframes


def test_a_version_that_is_plain_anyway_saves_the_keyframe() -> None:
    for plain in (6, 8, 10):  # gaps of at most 10 need as many levels as those of 8 do
        (frames,) = groups(versions(17, plain), 33)
        assert numbers(frames)[0] == plain
        assert sum(not frame.bases for frame in frames) == 1


def test_a_plain_version_that_would_make_ways_longer_saves_nothing() -> None:
    (frames,) = groups(versions(17, 16), 17)
    assert numbers(frames)[0] == 8
    assert {frame.version.when // 10 for frame in frames if not frame.bases} == {8, 16}
    assert max(frame.cost for frame in frames) == pyramid_cost(17)


def test_the_plain_version_nearest_the_middle_is_the_keyframe_and_all_of_them_are_plain() -> None:
    (frames,) = groups(versions(9, 0, 3, 8), 33)
    assert numbers(frames)[0] == 3
    assert {frame.version.when // 10 for frame in frames if not frame.bases} == {0, 3, 8}


# ---- weights and costs


@given(first=st.integers(-100, 100), when=st.integers(-100, 100), second=st.integers(-100, 100))
def test_weights_follow_the_time_between_two_bases(first: int, when: int, second: int) -> None:
    weight = weight_between(first, when, second)
    assert 1 <= weight <= 15
    if first < when < second:
        exact = 16 * (when - first) / (second - first)
        assert abs(weight - exact) <= (1.5 if weight == EVEN else 1)
    else:
        assert weight == EVEN


def test_time_counts_only_if_asked_for() -> None:
    uneven = [version(number)._replace(when=when) for number, when in enumerate((0, 1, 100, 104, 108))]
    assert [frame.weight for frame in next(groups(uneven, 5))] == [0, 0, 0, EVEN, EVEN]
    assert [frame.weight for frame in next(groups(uneven, 5, timed=True))] == [0, 0, 0, 1, EVEN]


def test_costs_count_the_records_that_must_be_decoded() -> None:
    assert closure_costs([]) == []
    assert closure_costs([(), (0,), (0,), (1, 0), (3, 1), ()]) == [1, 2, 2, 3, 4, 1]
    assert closure_costs([(), *((number,) for number in range(15))])[-1] == limits.MAX_DECODE_COST


@pytest.mark.parametrize("bases", [[(0,)], [(), (2,)], [(), (-1,)], [(), *((number,) for number in range(16))]])
def test_bases_that_no_reader_takes_are_refused(bases: list[tuple[int, ...]]) -> None:
    with pytest.raises(UsageError):
        closure_costs(bases)


@pytest.mark.parametrize(("size", "chains"), [(0, False), (4, False), (129, False), (0, True), (60, True)])
def test_sizes_of_no_group_are_refused(size: int, chains: bool) -> None:
    with pytest.raises(UsageError):
        list(groups(versions(3), size, chains=chains))


@pytest.mark.parametrize("size", GROUP_SIZES)
def test_half_of_a_pyramid_is_needed_by_no_other_version(size: int) -> None:
    (frames,) = groups(versions(size), size)
    found = heights(frames)
    assert found.count(0) == (size - 1) // 2
    assert found[0] == max(found) == (size - 1).bit_length() - 1
    for number, frame in enumerate(frames):
        assert all(found[base] > found[number] for base in frame.bases)
