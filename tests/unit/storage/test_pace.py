"""How long an upload may take, by those before it."""

from __future__ import annotations

from casckpt.storage.pace import SLOWEST, Pace

MB = 10**6


def test_an_upload_on_an_unknown_line_has_the_time_of_the_slowest() -> None:
    assert Pace().seconds(10 * SLOWEST) == 10


def test_what_went_well_shortens_the_time_of_the_next() -> None:
    pace = Pace()
    pace.went_well(32 * MB, 4.0)
    assert pace.seconds(32 * MB) == 32.0
    pace.went_well(32 * MB, 2.0)
    assert pace.seconds(12 * MB) == 8.0


def test_no_time_is_shorter_than_on_the_slowest_line() -> None:
    pace = Pace()
    pace.went_well(MB, 1000.0)
    assert pace.seconds(SLOWEST) == 1


def test_small_uploads_say_nothing_of_the_line() -> None:
    pace = Pace()
    pace.went_well(1000, 0.0001)
    assert pace.seconds(SLOWEST) == 1


def test_after_a_failure_the_line_is_unknown_again() -> None:
    pace = Pace()
    pace.went_well(32 * MB, 1.0)
    pace.failed()
    assert pace.seconds(10 * SLOWEST) == 10
