from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from casckpt.errors import InvalidFilter
from casckpt.format.commit import Commit
from casckpt.format.ids import ObjectId, TreeId
from casckpt.plan.filters import (
    FLAGS,
    TEXTS,
    TIMES,
    Condition,
    Filter,
    Flag,
    Has,
    Key,
    Not,
    Several,
    Subject,
    parse_filter,
)
from casckpt.plan.moments import Moment
from casckpt.plan.names import NUMBERS
from casckpt.units import SECOND

COMMIT = Commit(
    TreeId(ObjectId(bytes(32))), (), "gpt-2", 1, step=1200, kind="recovery", message="warm restart\nit's",
    metrics={"val/loss": 0.25, "n": 1 << 62, "broken": math.nan, "far": math.inf, "step": 3, "or": 1, "a b": 2},
)  # fmt: skip

SUBJECT = Subject(COMMIT, now_ns=2 * 86400 * SECOND, tags=("v1", "paper"))

ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
METRICS = (ANY_TEXT | st.sampled_from([*NUMBERS, *TEXTS, *TIMES, *FLAGS, "or", "has", "nan", "3", "val/loss"])).map(
    lambda name: Key(name, is_metric=True)
)
NUMBER_KEYS = METRICS | st.sampled_from([Key(name, is_metric=False) for name in NUMBERS])
TEXT_KEYS = st.sampled_from([Key(name, is_metric=False) for name in TEXTS])
VALUES = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.just(math.nan)
CONDITIONS = st.one_of(
    st.builds(Condition, NUMBER_KEYS, st.sampled_from(["<", "<=", ">", ">=", "=", "!="]), VALUES),
    st.builds(Condition, TEXT_KEYS, st.sampled_from(["=", "!=", "~"]), ANY_TEXT),
    st.builds(Condition, st.just(Key("age", False)), st.sampled_from(["<", ">="]), st.integers(0, 1 << 29)),
    st.builds(
        Condition,
        st.just(Key("time", False)),
        st.sampled_from(["<=", ">"]),
        st.integers(0, 1 << 62).map(Moment) | st.builds(Moment, st.just(None), st.integers(0, 1 << 29)),
    ),
    st.builds(Has, NUMBER_KEYS | TEXT_KEYS),
    st.builds(Flag, st.sampled_from(FLAGS)),
)


def built(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    """`or` of `or` and `and` of `and` are other filters than their flat forms, with the same meaning."""
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, parts) | st.builds(Several, st.sampled_from(["and", "or"]), several)


FILTERS = st.recursive(CONDITIONS, built, max_leaves=8)


@given(FILTERS)
@example(Several("or", (Several("and", (Has(Key("a", True)), Has(Key("b", True)))), Not(Not(Has(Key("c", True)))))))
def test_the_text_of_a_filter_is_parsed_back_to_it(wanted: Filter) -> None:
    assert parse_filter(str(wanted)) == wanted


@given(st.text(st.sampled_from("ab1. <>=!~()'\"\\")) | st.from_regex(r"((not|has|and|or|step|run|x|[<=~(])\s?){1,8}"))
def test_any_text_is_a_filter_that_says_itself_or_is_refused_with_its_place(text: str) -> None:
    try:
        wanted = parse_filter(text)
    except InvalidFilter as error:
        column = error.facts["column"]
    else:
        column = 1
        assert parse_filter(str(wanted)) == wanted
        assert wanted.matches(SUBJECT) in (True, False)
    assert 1 <= column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val/loss<0.4", True),
        ("val/loss < 2.5e-1", False),
        ("val/loss <= .25 and step>1000", True),
        ("step>=1201 or kind=recovery", True),
        ("kind=step or kind = final or step = 1200.0", True),
        ("not kind=step and not (step<1000 or has epoch)", True),
        ("step=1 and step=2 or step=1200", True),
        ("step=1 and (step=2 or step=1200)", False),
        ("run = gpt-2", True),
        ("run ~ gpt-*", True),
        ("run ~ gpt", False),
        ("run != 'gpt'", True),
        ("message ~ '*restart*'", True),
        (r"message ~ '*it\'s'", True),
        ('status = "completed"', True),
        ("author = ''", True),
        ("has author", False),
        ("has message and has 'a b'", True),
        ("epoch != 3", False),
        ("missing < 3 or missing != 3", False),
        ("not missing < 3", True),
        ("'step' = 3 and 'or' = 1", True),
        ("n = 4611686018427387904", True),
        ("n = 4611686018427387905", False),
        ("broken = nan", True),
        ("broken != nan or broken < 1 or broken >= nan", False),
        ("val/loss != nan", True),
        ("broken != 3", True),
        ("has broken", True),
        ("far = inf and far > -inf", True),
        ("nan(broken) and not nan(val/loss)", True),
        ("nan('broken')", True),
        ("nan(missing)", False),
        ("age < 3d and age > '47 hours'", True),
        ("age < 1d", False),
        ("time > 1969-12-31", True),
        ("time < 1970-01-01T00:00:01Z and time > '2d ago'", True),
        ("time > yesterday", False),
        ("tag = v1 and tag = paper", True),
        ("tag != v1", True),
        ("not tag = v1", False),
        ("tag ~ 'v*' and has tag", True),
        ("tag = v2", False),
        ("has time and has age", True),
    ],
)
def test_what_a_filter_wants(text: str, expected: bool) -> None:
    assert parse_filter(text).matches(SUBJECT) is expected


@pytest.mark.parametrize(
    ("text", "marked", "problem"),
    [
        ("", "", "expected a metric or one of step"),
        ("step >", "", "expected a number after >"),
        ("step > x", "x", "x is no number, which step is compared with"),
        ("loss < 1,000", "1,000", "no number"),
        ("knd = final", "final", "texts are run, kind, status"),
        ("loss = 'low'", "'low'", "no number"),
        ("loss", "", "expected one of <"),
        ("loss == 3", "= 3", "written once"),
        ("loss ! 3", "! 3", "'!' means nothing"),
        ("run < b", "< b", "run is a text"),
        ("loss ~ 3", "~ 3", "compares texts"),
        ("3 < loss", "3 < loss", "expected a metric"),
        ("step>1 && step<2", "&& step<2", "expected 'and', 'or' or the end"),
        ("step>1 step<2", "step<2", "expected 'and', 'or' or the end"),
        ("(step>1", "", "the '(' at character 1"),
        ("step>1)", ")", "closes nothing"),
        ("step>1 and", "", "expected a metric"),
        ("and step>1", "and step>1", "expected a metric"),
        ("not not has step", "not has step", "expected a metric"),
        ("run = 'gpt", "'gpt", "not closed"),
        ("has (step)", "(step)", "expected a metric"),
        ("nan", "", "the '(' of nan(METRIC)"),
        ("nan(run)", "run)", "never NaN"),
        ("nan(x", "", "the ')' of nan(METRIC)"),
        ("age < yesterday", "yesterday", "no age"),
        ("age = 2d", "= 2d", "exact to the nanosecond"),
        ("time < 3", "3", "no time"),
        ("time >", "", "expected a time"),
        ("tag < v1", "< v1", "tag is a text"),
        ("(" * 33 + "has step" + ")" * 33, "(has step" + ")" * 33, "more than 32 deep"),
        ("step = " + "9" * 5000 + "x", "9" * 5000 + "x", "no number"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_at_its_place(text: str, marked: str, problem: str) -> None:
    with pytest.raises(InvalidFilter) as raised:
        parse_filter(text)
    assert text[raised.value.facts["column"] - 1 :] == marked
    assert problem in raised.value.message
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_no_commit_without_a_tag_has_one() -> None:
    for text in ("tag = v1", "tag != v1", "tag ~ '*'", "has tag"):
        assert not parse_filter(text).matches(Subject(COMMIT))


def test_a_pattern_of_many_stars_takes_no_longer_than_its_text() -> None:
    text = "a" * 60_000
    assert not parse_filter(f"message ~ '{'*a' * 40}b'").matches(Subject(replace(COMMIT, message=text)))


def test_a_long_chain_is_no_deep_one() -> None:
    assert parse_filter(" or ".join(["step = 1"] * 20_000) + " or step = 1200").matches(SUBJECT)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_word_alone_asks_what_was_found_out_about_a_commit(flag: str) -> None:
    hit = SUBJECT._replace(flags=(flag,))
    for text, expected in (
        (flag, True),
        (f"not {flag}", False),
        (f"{flag} and step=1200", True),
        (f"'{flag}'>0", False),
    ):
        assert parse_filter(text).matches(hit) is expected
        assert parse_filter(text).matches(SUBJECT) is (text == f"not {flag}")
    assert not list(parse_filter(flag).compared())
    for text in (f"{flag}>0", f"has {flag}", f"nan({flag})", f"step={flag} {flag}"):
        with pytest.raises(InvalidFilter):
            parse_filter(text)
