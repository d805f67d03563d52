"""Foreign text obeys the reader, columns line up, times read as ages."""

import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.view import text as t
from casckpt.view.text import Cell, Look, columns, fields, safe, width

DAY_S = 86400
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"])))
def test_safe_text_commands_no_terminal_and_stays_on_its_line(text: str) -> None:
    shown = safe(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not set(shown) & set(BIDI)
    assert shown.splitlines() in ([shown], [])
    shown.encode()
    assert safe(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï 検証", "plain ünï 検証"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u2028b\xa0c", "a\\u2028b\\xa0c"),
    ],
)
def test_what_is_not_printable_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize(("text", "size"), [("", 0), ("abc", 3), ("検証", 4), ("e\u0301", 1), ("ü", 1)])
def test_width_counts_columns_of_a_terminal(text: str, size: int) -> None:
    assert width(text) == size


def test_columns_align_by_width_drop_empty_columns_and_trailing_spaces() -> None:
    rows = [
        [Cell("検証"), Cell(""), Cell("1", right=True), Cell("x")],
        [Cell("a"), Cell(""), Cell("1,000", right=True), Cell("")],
        [Cell("b")],
    ]
    assert list(columns(rows, Look(0))) == ["検証      1  x", "a     1,000", "b"]
    assert list(columns(rows[:1], Look(0), indent="> ")) == ["> 検証  1  x"]
    assert list(columns([], Look(0))) == []


names = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=12)


@given(st.lists(st.lists(st.builds(Cell, names, st.sampled_from([t.ID, t.PLAIN, t.BAD]), st.booleans()), max_size=4)))
def test_paint_never_moves_a_column(rows: list[list[Cell]]) -> None:
    painted = Look(0, paint=lambda role, text: click.style(text, fg="red") if text else text)
    assert [click.unstyle(line) for line in columns(rows, painted)] == list(columns(rows, Look(0)))


def test_fields_leave_out_what_is_empty() -> None:
    assert list(fields([("run", "gpt"), ("refs", ""), ("message", Cell("hi", t.MUTED))], Look(0))) == [
        "run      gpt",
        "message  hi",
    ]


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [(-5, "just now"), (0, "just now"), (59, "59 s ago"), (6 * DAY_S, "6 d ago"), (7 * DAY_S, "1970-01-11 00:00 UTC")],
)
def test_times_are_ages_for_a_week_and_then_dates(age_s: int, shown: str) -> None:
    then_ns = 10 * DAY_S * 10**9
    assert Look(then_ns + age_s * 10**9).when(then_ns) == shown


def test_a_time_no_calendar_has_is_still_shown() -> None:
    assert Look(1 << 63).when(-(1 << 70))


def test_metrics_are_cut_to_a_number_of_them() -> None:
    values = {"loss": 0.123456, "steps": 12345, "bad\x1b": float("nan")}
    assert t.metrics(values) == "loss 0.1235  steps 12,345  bad\\x1b nan"
    assert t.metrics(values, 1) == "loss 0.1235  +2 more"
    assert t.metrics(values, 3) == t.metrics(values)
    assert t.metrics({}, 3) == ""


@pytest.mark.parametrize(
    ("done", "total", "seconds", "shown"),
    [
        (1 << 20, 1 << 21, 2.0, "commit 1.0 MiB of 2.0 MiB  50 %  512.0 KiB/s"),
        (5, 2, 1.0, "commit 5 B of 2 B  100 %  5 B/s"),
        (5, None, 1.0, "commit 5 B  5 B/s"),
        (0, 0, 0.0, "commit 0 B"),
    ],
)
def test_progress_tells_bytes_share_and_rate(done: int, total: int | None, seconds: float, shown: str) -> None:
    assert t.progress("commit", done, total, seconds) == shown


@given(st.text(), st.integers(0, 40), st.sampled_from(["…", "..."]))
def test_a_cut_text_fits_and_keeps_both_ends(text: str, size: int, ellipsis: str) -> None:
    shown = t.cut(text, size, ellipsis)
    assert width(shown) <= max(size, len(ellipsis))
    if width(text) <= size:
        assert shown == text
    elif width(shown) > len(ellipsis) + 4:
        assert (shown[0], shown[-1]) == (text[0], text[-1])


@given(
    st.lists(st.lists(st.builds(Cell, st.text(max_size=60).map(safe), cut=st.booleans()), max_size=5), max_size=4),
    st.integers(1, 120),
)
def test_rows_fit_the_terminal_as_far_as_their_cells_may_be_cut(rows: list[list[Cell]], room: int) -> None:
    whole = list(columns(rows, Look(0)))
    shown = list(columns(rows, Look(0, width=room)))
    assert len(shown) == len(whole)
    if all(width(line) <= room for line in whole):
        assert [line.rstrip() for line in shown] == [line.rstrip() for line in whole]
    for row, line in zip(rows, shown, strict=True):
        for cell in row:
            assert cell.cut or cell.text in line


def test_the_widest_column_is_cut_first_and_equal_ones_take_turns() -> None:
    sizes = [30, 20, 5]
    t.fit(sizes, [True, True, True], 49, 2)
    assert sizes == [20, 20, 5]
    t.fit(sizes, [True, True, True], 43, 2)
    assert sizes == [17, 17, 5]
    t.fit(sizes, [True, True, True], 1, 2)
    assert sizes == [12, 12, 5]


def test_times_are_written_as_asked() -> None:
    moment = 1_700_000_000 * 10**9
    assert Look(moment + 90 * 10**9).when(moment) == "1 min ago"
    assert Look(moment, time="utc").when(moment) == "2023-11-14 22:13 UTC"
    assert Look(moment, time="iso").when(moment) == "2023-11-14T22:13:20.000Z"
    assert Look(moment, time="local").when(moment).startswith("2023-11-1")


def test_ids_are_short_unless_asked() -> None:
    assert Look(0).id("ab" * 32) == "ab" * 6
    assert Look(0, full_id=True).id("ab" * 32) == "ab" * 32
