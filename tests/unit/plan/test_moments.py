from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.plan.moments import Moment, duration_text, parse_duration, parse_moment
from casckpt.units import SECOND

NOON = 1_793_880_000 * SECOND
"""2026-11-05T12:00:00Z"""
FIRST, LAST = -62_135_596_800, 253_402_300_799
"""The first and last second that a date of four digits has."""

MOMENTS = st.one_of(
    st.integers(FIRST * SECOND, LAST * SECOND).map(Moment),
    st.builds(Moment, st.just(None), st.integers(0, 604_800_000)),
)


@given(MOMENTS)
def test_the_text_of_a_moment_is_parsed_back_to_it(moment: Moment) -> None:
    assert parse_moment(str(moment)) == moment


@given(st.integers(0, 604_800_000))
def test_the_text_of_a_duration_is_parsed_back_to_it(seconds: int) -> None:
    assert parse_duration(duration_text(seconds)) == seconds


@given(st.text(st.sampled_from("0123456789-:.TZ+ agohdmsyesterday")))
def test_any_text_is_a_moment_that_says_itself_or_none(text: str) -> None:
    moment = parse_moment(text)
    assert moment is None or parse_moment(str(moment)) == moment


@pytest.mark.parametrize(
    ("text", "before_noon_s"),
    [
        ("2026-11-05", 12 * 3600),
        ("2026-11-05T12:00", 0),
        ("2026-11-05 11:59:30", 30),
        ("2026-11-05t12:00:00z", 0),
        ("2026-11-05T14:00+02:00", 0),
        ("2026-11-05T05:30:00-05:30", 3600),
        (" yesterday ", 86400),
        ("3d ago", 3 * 86400),
        ("2 hours ago", 7200),
        ("90min ago", 5400),
        ("1 week ago", 7 * 86400),
        ("0s ago", 0),
    ],
)
def test_a_moment_is_where_its_text_says(text: str, before_noon_s: int) -> None:
    moment = parse_moment(text)
    assert moment is not None
    assert moment.at(NOON) == NOON - before_noon_s * SECOND


def test_a_fraction_is_exact_to_the_nanosecond() -> None:
    moment = parse_moment("2026-11-05T12:00:00.123456789Z")
    assert moment == Moment(NOON + 123_456_789)
    assert str(moment) == "2026-11-05T12:00:00.123456789Z"


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026", "2026-13-01", "2026-02-30", "2026-11-05T25:00", "2026-11-05T12", "2026-11-05T12:00:60Z",
        "2026-11-05T12:00+24", "2d", "ago", "2 ago", "2 months ago", "-1d ago", "1.5h ago", "٣d ago", "9999999999s ago",
        "0001-01-01T00:00+01:00", "9999-12-31T23:59:59-00:01",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_none(text: str) -> None:
    assert parse_moment(text) is None
