from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.units import DAY, HOUR, MINUTE, SECOND, duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", 30 * DAY),
        ("12h", 12 * HOUR),
        ("10min", 10 * MINUTE),
        ("10m", 10 * MINUTE),
        ("1w", 7 * DAY),
        ("45s", 45 * SECOND),
        (" 3 hours ", 3 * HOUR),
        ("1 week", 7 * DAY),
        ("0d", 0),
        ("", None),
        ("30", None),
        ("d", None),
        ("-1d", None),
        ("1.5h", None),
        ("5ms", None),
        ("1D", None),
        ("1d12h", None),
        ("1\nd", None),
        ("٣d", None),
        ("1234567890s", None),
        ("3 fortnights", None),
    ],
)
def test_a_length_of_time_is_read(text: str, expected: int | None) -> None:
    assert parse_duration(text) == expected


@given(st.integers(0, 10**9 - 1))
def test_a_length_of_time_is_read_back_from_its_text(seconds: int) -> None:
    assert parse_duration(duration_text(seconds * SECOND)) == seconds * SECOND


def test_a_length_of_time_is_said_in_its_largest_whole_unit() -> None:
    assert [duration_text(n) for n in (0, 90 * MINUTE, 36 * HOUR, 14 * DAY, 61 * SECOND)] == [
        "0s", "90min", "36h", "2w", "61s",
    ]  # fmt: skip
