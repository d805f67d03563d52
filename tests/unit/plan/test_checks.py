"""Checks: their grammar, and when they fail."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import InvalidCheck
from casckpt.plan.checks import Check, parse_check


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("val/loss > +2%", Check("val/loss", "best", ">", 2, True)),
        ("  best( val/loss )>=+0.5 % ", Check("val/loss", "best", ">=", 0.5, True)),
        ("last(acc) < -1e-3", Check("acc", "last", "<", -0.001, False)),
        ("acc<=-.5", Check("acc", "best", "<=", -0.5, False)),
        ("'my loss' > +1", Check("my loss", "best", ">", 1, False)),
        (r'last("a\"b") > -0', Check('a"b', "last", ">", -0.0, False)),
        ("best > +18446744073709551616", Check("best", "best", ">", 2.0**64, False)),
    ],
)
def test_a_check_is_read(text: str, check: Check) -> None:
    assert parse_check(text) == check


@pytest.mark.parametrize(
    "text",
    [
        "", "loss", "loss >", "loss > 2%", "loss > 0.4", "loss = +1", "loss > +nan", "loss > +inf", "loss > +1e999",
        "loss > +1_0", "loss > +٣", "my loss > +1", "first(loss) > +1", "best(loss > +1", "best() > +1", "'loss > +1",
        "loss > +1 %%", "loss > +1; import os", "loss > +1 and acc < -1", "loss\n> +1\n\n;",
    ],
)  # fmt: skip
def test_what_is_no_check_is_refused(text: str) -> None:
    with pytest.raises(InvalidCheck) as caught:
        parse_check(text)
    assert repr(text) in caught.value.message


AMOUNTS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 63), (1 << 63) - 1)
CHECKS = st.builds(
    Check,
    st.text(min_size=1),
    st.sampled_from(["best", "last"]),
    st.sampled_from(["<", "<=", ">", ">="]),
    AMOUNTS,
    st.booleans(),
)


@given(CHECKS)
def test_a_printed_check_is_read_as_itself(check: Check) -> None:
    found = parse_check(str(check))
    assert found == check
    assert str(found) == str(check)


@given(st.text())
def test_any_text_is_a_check_or_refused(text: str) -> None:
    try:
        found = parse_check(text)
    except InvalidCheck:
        return
    assert parse_check(str(found)) == found


@pytest.mark.parametrize(
    ("text", "first", "second", "fails"),
    [
        ("loss > +2%", 1.0, 1.021, True), ("loss >= +2%", 100, 102, True),
        ("loss > +2%", -1.0, -0.9, True), ("loss > +2%", 1.0, 0.1, False), ("loss > +2%", 100, 102, False),
        ("acc < -0.5", 90, 89.5, False),
        ("acc < -0.5", 90, 89, True), ("loss > -2%", 1.0, 0.99, True), ("loss > -2%", 1.0, 0.97, False),
        ("loss > +0%", 0.0, 0.0, False), ("loss > +900%", 0.0, 0.1, True), ("loss > +900%", 0, -0.1, False),
        ("loss > +2%", 1.0, math.nan, True), ("loss > +2%", math.nan, 1.0, False),
        ("acc < -2%", math.nan, math.nan, False), ("loss > +2%", math.inf, math.inf, False),
        ("loss > +2%", 1.0, math.inf, True), ("acc < -2%", math.inf, 1.0, True), ("loss > +2", math.inf, 1.0, False),
    ],
)  # fmt: skip
def test_a_check_fails_if_the_second_is_worse_by_the_amount(
    text: str, first: float, second: float, fails: bool
) -> None:
    assert parse_check(text).fails(first, second) == fails


@given(CHECKS, st.floats(), st.floats())
def test_any_two_numbers_can_be_checked(check: Check, first: float, second: float) -> None:
    assert check.fails(first, second) in (True, False)
    assert not math.isnan(check.change(first, second)) or math.isnan(first) or math.isnan(second)


def test_the_operator_says_which_value_is_best() -> None:
    assert (parse_check("loss > +1").mode, parse_check("acc <= -1").mode) == ("min", "max")
