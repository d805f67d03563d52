"""Ends of pins: dates, times and durations from now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import UsageError
from casckpt.plan.until import parse_until

NOW = 1_700_000_000_123_456_789
SECOND = 10**9


def ns(*fields: int) -> int:
    return int(datetime(*fields, tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("text", "seconds"), [("1min", 60), ("12h", 43_200), ("30d", 30 * 86_400), ("4w", 28 * 86_400), ("999999w", None)]
)
def test_a_duration_counts_from_now(text: str, seconds: int | None) -> None:
    if seconds is None:
        with pytest.raises(UsageError):
            parse_until(text, NOW)
    else:
        assert parse_until(text, NOW) == (NOW // 1000) * 1000 + seconds * SECOND


def test_a_date_counts_to_its_end_and_a_time_to_itself() -> None:
    assert parse_until("2027-01-31", NOW) == ns(2027, 2, 1)
    assert parse_until("2027-01-31T12:30", NOW) == ns(2027, 1, 31, 12, 30)
    assert parse_until("2027-01-31T12:30+02:00", NOW) == ns(2027, 1, 31, 10, 30)
    assert parse_until("2027-01-31 12:30:05Z", NOW) == ns(2027, 1, 31, 12, 30, 5)


def test_a_datetime_is_taken_by_its_zone_else_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert parse_until(datetime(2027, 1, 31, 12, tzinfo=east), NOW) == ns(2027, 1, 31, 10)
    assert parse_until(datetime(2027, 1, 31, 12), NOW) == ns(2027, 1, 31, 12)


@pytest.mark.parametrize(
    "text",
    ["", "30", "0d", "-1d", "1.5h", "30 d", "30D", "d", "tomorrow", "2027-02-30", "2027-13-01", "9999-12-31", "1m"],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_until(text, NOW)


def test_what_is_over_is_refused() -> None:
    for past in ("2023-11-13", "2023-11-14T22:13", datetime(2020, 1, 1)):
        with pytest.raises(UsageError, match="not in the future"):
            parse_until(past, NOW)
    assert parse_until("2023-11-14", NOW) == ns(2023, 11, 15)


@given(st.text(max_size=30))
def test_no_text_ends_in_another_error(text: str) -> None:
    try:
        assert parse_until(text, NOW) > NOW
    except UsageError:
        return
