from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from casckpt.errors import InvalidRevision
from casckpt.plan.moments import Moment
from casckpt.plan.names import TEXTS
from casckpt.plan.revision import (
    Best,
    Fork,
    Range,
    Revision,
    Suffix,
    When,
    With,
    id_prefix,
    parse_range,
    parse_revision,
    split_path,
)

# Names as runs and tags have them, which never begin like a call; metrics may be spelled in any way that is balanced.
NAMES = st.from_regex(r"[a-z0-9(),+_-]{1,8}(\.[a-z0-9]{1,3})?", fullmatch=True).filter(
    lambda name: not name.startswith(("best(", "fork("))
)
PLAIN = st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True)
METRICS = st.from_regex(r"[a-z/:~^@{}.,]{1,6}(\([a-z,]{0,3}\)[a-z]{0,3})?", fullmatch=True)
BASES = st.one_of(
    NAMES,
    st.builds("{}/{}".format, NAMES, st.sampled_from(["last", "best", "recovery", "first"])),
    st.builds("{}/{}".format, st.sampled_from(["runs", "tags"]), NAMES | st.just("best(x)")),
    st.builds("id:{}".format, st.text("0123456789abcdef", min_size=4, max_size=64)),
    st.just("@"),
)
CALLED = st.none() | PLAIN | st.sampled_from(["best(x,min)", "fork(a", "a(b)"])
BESTS = st.builds(Best, CALLED, METRICS, st.sampled_from([None, "min", "max"])).filter(
    lambda best: best.mode is not None or not best.metric.endswith((",min", ",max"))
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SUFFIXES = st.one_of(
    st.builds(Suffix, st.sampled_from(["back", "parent"]), st.integers(0, 1 << 32)),
    st.builds(With, st.just("step"), st.integers(-(1 << 63), (1 << 63) - 1)),
    st.builds(With, st.just("epoch"), st.integers(0, 1 << 40) | FINITE),
    st.builds(
        With,
        st.from_regex(r"[a-z_/]{1,8}(\.[a-z]{1,3})?", fullmatch=True).filter(
            lambda key: key not in (*TEXTS, "step", "epoch") and not key.startswith("config.")
        ),
        st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False),
    ),
    st.builds(
        With,
        st.sampled_from(TEXTS) | st.from_regex(r"config\.[a-z]{1,4}(\.[a-z0-9]{1,4})?", fullmatch=True),
        st.from_regex(r"[a-zA-Z0-9=+/_ -]{0,6}(\.[a-z]{1,3})?", fullmatch=True),
    ),
)
LINES = st.lists(SUFFIXES, max_size=3).map(tuple)
MOMENTS = st.integers(0, 1 << 62).map(Moment) | st.builds(Moment, st.just(None), st.integers(0, 1 << 30))
EARLIER = st.builds(Suffix, st.just("earlier"), st.integers(0, 1 << 32)) | st.builds(When, MOMENTS)


def with_forks(sides: st.SearchStrategy[Revision]) -> st.SearchStrategy[Revision]:
    return st.builds(Revision, st.builds(Fork, sides, sides), LINES)


# Within fork(,) a name has no comma or parenthesis of its own.
INNER = PLAIN | BESTS.filter(lambda best: best.run is None or "(" not in best.run)
SIDES = st.recursive(st.builds(Revision, INNER, LINES), with_forks, max_leaves=4)
REVISIONS = st.one_of(
    st.builds(Revision, BASES | BESTS, LINES),
    st.builds(
        lambda base, earlier, rest: Revision(base, (earlier, *rest)),
        BASES.filter(lambda base: not base.startswith("id:")), EARLIER, LINES,
    ),
    SIDES,
)  # fmt: skip


@given(REVISIONS)
@example(Revision(Fork(Revision(Best("a", "x..y", "min")), Revision("b", (Suffix("earlier", 2),)))))
def test_the_text_of_a_revision_is_parsed_back_to_it(revision: Revision) -> None:
    assert parse_revision(str(revision)) == revision
    assert parse_range(str(revision)) is None


@given(st.builds(Range, REVISIONS, REVISIONS, st.booleans()))
def test_the_text_of_a_range_is_parsed_back_to_it(found: Range) -> None:
    assert parse_range(str(found)) == found
    with pytest.raises(InvalidRevision, match="range"):
        parse_revision(str(found))


@given(
    st.text(st.sampled_from("ab/~^@=.-+0123456789ste:po\n {}(),"))
    | st.from_regex(r"(fork\(|best\(|[a-c,.)~]){1,12}")
    | st.from_regex(r"a(@\{|\}|yesterday|2026-11-05|T12:00|2 hours| ago|@kind=|@x=|nan|final){1,6}")
)
@example("@")
@example("@step=3")
@example("~")
@example("@{1}")
@example("best(x,min,max)")
@example("fork(a,fork(b,c))..")
def test_any_text_is_a_revision_or_range_that_says_itself_or_is_refused(text: str) -> None:
    parse: list[Callable[[str], object]] = [parse_revision, parse_range]
    for one in parse:
        try:
            found = one(text)
        except InvalidRevision:
            continue
        assert found is None or one(str(found)) == found


@pytest.mark.parametrize(
    ("text", "base", "suffixes"),
    [
        ("main", "main", []),
        ("main/best", "main/best", []),
        ("@", "@", []),
        ("@~", "@", [("back", 1)]),
        ("@~3", "@", [("back", 3)]),
        ("v1^", "v1", [("parent", 1)]),
        ("v1^2~4", "v1", [("parent", 2), ("back", 4)]),
        ("@step=7", "@", [("step", 7)]),
        ("run@step=4000~2", "run", [("step", 4000), ("back", 2)]),
        ("run@epoch=1.5", "run", [("epoch", 1.5)]),
        ("run@epoch=2", "run", [("epoch", 2)]),
        ("run@step=-1", "run", [("step", -1)]),
        ("0123abcd~~", "0123abcd", [("back", 1), ("back", 1)]),
        ("x^0", "x", [("parent", 0)]),
        ("a@val/loss=0.25", "a", [("val/loss", 0.25)]),
        ("a@val/loss=inf~", "a", [("val/loss", float("inf")), ("back", 1)]),
        ("@kind=final", "@", [("kind", "final")]),
        ("a@author=", "a", [("author", "")]),
        ("a@message=two words=3", "a", [("message", "two words=3")]),
        ("a@config.optim.lr=1e-4@step=3", "a", [("config.optim.lr", "1e-4"), ("step", 3)]),
        ("a@{1}", "a", [("earlier", 1)]),
        ("a/best@{0}~2", "a/best", [("earlier", 0), ("back", 2)]),
        ("@{3}", "@", [("earlier", 3)]),
        ("@@{3}", "@", [("earlier", 3)]),
        ("best(val/loss,min)", Best(None, "val/loss", "min"), []),
        ("best( val/loss )~", Best(None, "val/loss", None), [("back", 1)]),
        ("a(1)/best(f(x, y), max)", Best("a(1)", "f(x, y)", "max"), []),
        ("runs/a/best(x)", Best("a", "x", None), []),
        ("runs/best(x)", "runs/best(x)", []),
        ("tags/fork(a,b)", "tags/fork(a,b)", []),
        ("fork(a, b~2)^", Fork(Revision("a"), Revision("b", (Suffix("back", 2),))), [("parent", 1)]),
        ("fork(a/best(x,min),@)", Fork(Revision(Best("a", "x", "min")), Revision("@")), []),
    ],
)
def test_the_grammar(text: str, base: str | Best | Fork, suffixes: list[tuple[str, int | float | str]]) -> None:
    found = parse_revision(text)
    assert found == Revision(base, tuple(suffixes))  # type: ignore[arg-type]
    counts = ("back", "parent", "earlier")
    assert [type(one) for one in found.suffixes] == [Suffix if kind in counts else With for kind, _ in suffixes]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("gpt@{yesterday}", Moment(ago_s=86400)),
        ("gpt/best@{2 hours ago}~2", Moment(ago_s=7200)),
        ("@{3d ago}", Moment(ago_s=3 * 86400)),
        ("@@{1970-01-02}", Moment(86_400_000_000_000)),
        ("tags/v1@{1970-01-01T00:00:01+00:00}@step=3", Moment(1_000_000_000)),
    ],
)
def test_a_time_in_braces_asks_for_what_the_name_meant_then(text: str, moment: Moment) -> None:
    assert parse_revision(text).suffixes[0] == When(moment)


def test_a_metric_that_is_not_a_number_can_be_asked_for() -> None:
    assert str(parse_revision("gpt@grad_norm=nan")) == "gpt@grad_norm=nan"


@pytest.mark.parametrize(
    "text",
    [
        *("", "~", "^2", "~3", "a@", "a@2", "a@step", "a@step=", "a@step=x", "a@step=1.5", "a@epoch=..", "a~b"),
        *("a^2x", "a@step=1_0", "a~4294967297", "@@", "a@lost=low", "@x", "a@=3", "a@x="),
        *(
            "a@{}",
            "a@{-1}",
            "a@{x}",
            "a@{2026-13-01}",
            "a@{2d}",
            "a~@{yesterday}",
            "a@{yesterday}@{1}",
            "id:face@{yesterday}",
            "best(x)@{yesterday}",
            "a@{yesterday",
            "a@epoch=nan",
            "a@epoch=inf",
            "a~@{1}",
            "a@{1}@{1}",
            "id:face@{1}",
            "best(x)@{1}",
            "fork(a,b)@{1}",
            "a@{4294967297}",
        ),
        *("best()", "best(", "best(,min)", "a/best(x", "best(x)y", "fork(a)", "fork(a,b,c)", "fork(,b)", "fork(a,b"),
        *("a..b", "..", "fork(a..b,c)", "fork(" * 17 + "a" + ",a)" * 17),
    ],
)
def test_text_outside_of_the_grammar_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidRevision) as raised:
        parse_revision(text)
    assert repr(text) in raised.value.message


@pytest.mark.parametrize(
    ("text", "left", "right", "symmetric"),
    [
        ("a..b", "a", "b", False),
        ("a...b", "a", "b", True),
        ("a~2..", "a~2", "@", False),
        ("lr-1.5..best~2", "lr-1.5", "best~2", False),
        ("a@epoch=1...b", "a@epoch=1", "b", True),
        ("best(x..y,min)..fork(a,b)", "best(x..y,min)", "fork(a,b)", False),
        ("@..@{1}", "@", "@@{1}", False),
        ("a..b/best(x,min)", "a", "b/best(x,min)", False),
        ("a...runs/best(x)", "a", "runs/best(x)", True),
    ],
)
def test_two_or_three_dots_make_a_range(text: str, left: str, right: str, symmetric: bool) -> None:
    found = parse_range(text)
    assert found is not None
    assert (str(found.left), str(found.right), found.symmetric) == (left, right, symmetric)


@pytest.mark.parametrize("text", ["..b", "...b", "a...", "..", "a..b..c", "~..b"])
def test_a_range_without_its_sides_is_refused(text: str) -> None:
    with pytest.raises(InvalidRevision):
        parse_range(text)


@pytest.mark.parametrize("text", ["a~" + "9" * 5000, "a@step=" + "9" * 5000])
def test_a_number_of_any_length_is_refused_as_a_revision(text: str) -> None:
    try:
        parse_revision(text)
    except InvalidRevision:
        return
    raise AssertionError("it was accepted")


def test_an_epoch_beyond_all_floats_is_refused_or_said() -> None:
    try:
        revision = parse_revision("a@epoch=1e999")
    except InvalidRevision:
        return
    assert parse_revision(str(revision)) == revision


@pytest.mark.parametrize(
    ("base", "prefix"),
    [
        ("abcd", (b"\xab\xcd", "")),
        ("abcde", (b"\xab\xcd", "e")),
        ("id:face", (b"\xfa\xce", "")),
        ("f" * 64, (b"\xff" * 32, "")),
        ("abc", None),
        ("ABCD", None),
        ("f" * 65, None),
        ("face/last", None),
        ("id:", None),
        ("gggg", None),
        ("", None),
    ],
)
def test_what_can_be_the_prefix_of_an_id(base: str, prefix: tuple[bytes, str] | None) -> None:
    assert id_prefix(base) == prefix


@pytest.mark.parametrize(
    ("text", "revision", "path"),
    [
        ("gpt/best", "gpt/best", None),
        ("gpt/best:out/model.bin", "gpt/best", "out/model.bin"),
        ("gpt@step=4000~2:a:b", "gpt@step=4000~2", "a:b"),
        ("id:face", "id:face", None),
        ("id:face:model/weight", "id:face", "model/weight"),
        ("runs/id:weight", "runs/id", "weight"),
        ("@:", "@", ""),
        (":weight", "", "weight"),
        ("id:face:", "id:face", ""),
        ("best(a:b,min):c:d", "best(a:b,min)", "c:d"),
        ("fork(id:face,b):w", "fork(id:face,b)", "w"),
        ("fork(a,b", "fork(a,b", None),
        ("a@{2026-11-05T12:30}:b:c", "a@{2026-11-05T12:30}", "b:c"),
        ("@{2026-11-05T12:30}~2", "@{2026-11-05T12:30}~2", None),
        ("a@kind=final:b", "a@kind=final", "b"),
        ("a@{2026-11-05T12:b", "a@{2026-11-05T12", "b"),
    ],
)
def test_a_path_follows_after_the_first_colon_that_is_not_that_of_an_id(
    text: str, revision: str, path: str | None
) -> None:
    assert split_path(text) == (revision, path)


@given(REVISIONS.filter(lambda revision: not str(revision.base).startswith("id/") and revision.base != "id"))
def test_every_revision_can_be_given_any_path(revision: Revision) -> None:
    for path in ("", "model/weight", "id:face", ":meta"):
        assert split_path(f"{revision}:{path}") == (str(revision), path)
