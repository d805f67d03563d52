"""Sparklines, bars and curves: what they show, and that any numbers fit any width."""

import math

from hypothesis import given
from hypothesis import strategies as st

from casckpt.view.charts import Curve, Point, bar, line_chart, sparkline
from casckpt.view.text import Look, width

UNICODE, ASCII = Look(0), Look(0, ascii=True)
NUMBERS = st.one_of(st.floats(), st.integers(-(1 << 63), (1 << 64) - 1))
POINTS = st.lists(st.builds(Point, NUMBERS, NUMBERS, NUMBERS, st.booleans()), max_size=30)


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8, ascii=True) == "_.-:=+*#"
    assert sparkline([3.5, 3.5], 8) == "▄▄"
    assert sparkline([-1.7e308, 1.7e308], 8) == sparkline([0, 5e-324], 8) == "▁█"


def test_a_sparkline_marks_what_is_not_finite_and_leaves_gaps() -> None:
    assert sparkline([1.0, math.nan, None, 2.0, math.inf], 8) == "▁! █!"
    assert sparkline([math.nan], 1) == "!"
    assert sparkline([], 8) == sparkline([1], 0) == ""


def test_a_sparkline_of_many_numbers_shows_every_peak_and_every_nan() -> None:
    numbers: list[float] = [1.0] * 1000
    numbers[333], numbers[555], numbers[777] = 9.0, -7.0, math.nan
    assert sparkline(numbers, 10) == "▅▅▅█▅▁▅!▅▅"


def test_a_bar_is_empty_or_full_only_if_its_share_is_exactly_that() -> None:
    assert [bar(share, 2) for share in (0, 1e-9, 0.5, 1 - 1e-9, 1, 7, -1, math.nan, math.inf)] == [
        "", "▏", "█", "█▉", "██", "██", "", "!", "██",
    ]  # fmt: skip
    assert [bar(share, 4, ascii=True) for share in (0, 1e-9, 0.5, 1 - 1e-9, 1)] == ["", "#", "##", "###", "####"]
    assert bar(0.5, 0) == bar(math.nan, 0) == ""


def line(*ys: float) -> list[Point]:
    return [Point(x, y, y) for x, y in enumerate(ys)]


CROSSING = (Curve("up", line(0, 1, 2, 3)), Curve("down", line(3, 2, 1, 0)))


def test_curves_are_drawn_in_dots_and_named_where_they_end() -> None:
    assert list(line_chart(CROSSING, UNICODE, width=33, height=4, ends=("0", "3"))) == [
        "3┤ ⠉⠒⠢⠤⣀⣀             ⣀⣀⠤⠔⠒⠉ up",
        " ┤       ⠉⠑⠒⠤⠤⣀⣀⣀⠤⠤⠒⠊⠉",
        " ┤       ⣀⡠⠤⠒⠒⠉⠉⠉⠒⠒⠤⢄⣀",
        "0┤ ⣀⠤⠔⠒⠊⠉             ⠉⠑⠒⠢⠤⣀ down",
        "   0                       3",
    ]


def test_curves_in_ascii_have_a_letter_each_and_a_sign_where_they_meet() -> None:
    assert list(line_chart(CROSSING, ASCII, width=33, height=4, ends=("0", "3"))) == [
        "3| oooo                 **** up",
        " |     oooooooo#********",
        " |      ******* ooooooo",
        "0| *****               ooooo down",
        "   0                       3",
    ]


def test_a_curve_is_interrupted_and_marked_where_it_is_not_finite() -> None:
    curve = Curve("loss", [*line(0, 0, 0), Point(3, math.nan, math.nan), *(Point(x, 7, 7) for x in (5, 6, 7))])
    assert list(line_chart([curve], ASCII, width=11, height=2)) == [
        "7|      ***",
        "0| ***",
        "!|    !",
    ]
    assert list(line_chart([Curve("loss", [Point(0, math.nan, math.inf)])], ASCII, width=11)) == []


def test_a_peak_in_a_crowded_column_is_drawn_to_its_height() -> None:
    points = [Point(x, 0, 9 if x == 500 else 1) for x in range(1000)]
    drawn = list(line_chart([Curve("loss", points)], ASCII, width=14, height=3))
    assert drawn[0] == "9|      *" and drawn[-1].startswith("0| *****")


def test_curves_that_end_in_one_row_are_named_in_rows_of_their_own() -> None:
    drawn = list(line_chart([Curve(name, line(0, 1)) for name in "abc"], ASCII, width=40, height=3))
    assert [text[-1] for text in drawn] == ["a", "b", "c"]


def test_colours_follow_the_curve_and_leave_out_where_several_meet() -> None:
    painted: list[tuple[str, str]] = []

    def paint(role: str, text: str) -> str:
        painted.append((role, text))
        return text

    look = Look(0, ascii=True, paint=paint)
    list(line_chart([Curve("a", line(1, 0), "ra"), Curve("b", line(1, 1), "rb")], look, width=5, height=2))
    assert painted == [("", "##"), ("rb", "ooo"), ("", "  "), ("ra", "***")]


@given(st.lists(st.one_of(st.none(), NUMBERS), max_size=60), st.integers(-1, 20), st.booleans())
def test_any_numbers_make_a_sparkline_of_one_column_each_up_to_the_width(
    numbers: list[int | float | None], columns: int, ascii: bool
) -> None:
    drawn = sparkline(numbers, columns, ascii=ascii)
    assert width(drawn) == min(len(numbers), max(columns, 0)) and (drawn.isascii() or not ascii)
    bad = any(number is not None and not math.isfinite(number) for number in numbers)
    assert ("!" in drawn) == (bad and columns > 0)


@given(NUMBERS, st.integers(-1, 20), st.booleans())
def test_any_share_makes_a_bar_within_its_width(share: float, columns: int, ascii: bool) -> None:
    drawn = bar(share, columns, ascii=ascii)
    assert width(drawn) <= max(columns, 0) and (drawn.isascii() or not ascii)
    if share == share and columns > 1:
        assert (not drawn, width(drawn) == columns and drawn[-1] in "█#") == (share <= 0, share >= 1)


@given(
    st.lists(st.builds(Curve, st.text(max_size=20), POINTS), max_size=4),
    st.integers(1, 100),
    st.integers(1, 12),
    st.booleans(),
    st.tuples(st.text(max_size=9), st.text(max_size=9)),
)
def test_any_curves_fit_any_width(
    curves: list[Curve], columns: int, height: int, ascii: bool, ends: tuple[str, str]
) -> None:
    look = ASCII if ascii else UNICODE
    drawn = list(line_chart(curves, look, width=columns, height=height, ends=ends))
    points = [point for curve in curves for point in curve.points if math.isfinite(point.x)]
    finite = [point for point in points if math.isfinite(point.low) or math.isfinite(point.high)]
    assert bool(drawn) == bool(finite) and len(drawn) <= height + 2
    assert all(width(text) <= columns and text == text.rstrip() for text in drawn)
