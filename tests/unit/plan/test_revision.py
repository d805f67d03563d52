from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from casckpt.errors import InvalidRevision
from casckpt.plan.revision import Revision, Suffix, id_prefix, parse_revision, split_path

BASES = st.text(st.characters(exclude_characters="~^@", exclude_categories=("Cs",)), min_size=1) | st.just("@")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SUFFIXES = st.one_of(
    st.builds(Suffix, st.sampled_from(["back", "parent"]), st.integers(0, 1 << 32)),
    st.builds(Suffix, st.just("step"), st.integers(1 - 10**18, 10**18 - 1)),
    st.builds(Suffix, st.just("epoch"), st.integers(0, 1 << 40) | FINITE),
)


@given(BASES, st.lists(SUFFIXES, max_size=4))
def test_the_text_of_a_revision_is_parsed_back_to_it(base: str, suffixes: list[Suffix]) -> None:
    revision = Revision(base, tuple(suffixes))
    assert parse_revision(str(revision)) == revision


@given(st.text(st.sampled_from("ab/~^@=.-+0123456789ste:po\n ")))
@example("@")
@example("@step=3")
@example("~")
def test_any_text_is_a_revision_that_says_itself_or_is_refused(text: str) -> None:
    try:
        revision = parse_revision(text)
    except InvalidRevision:
        return
    assert parse_revision(str(revision)) == revision


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
    ],
)
def test_the_grammar(text: str, base: str, suffixes: list[tuple[str, int | float]]) -> None:
    assert parse_revision(text) == Revision(base, tuple(Suffix(*suffix) for suffix in suffixes))


@pytest.mark.parametrize(
    "text",
    [
        *("", "~", "^2", "~3", "a@", "a@2", "a@step", "a@step=", "a@step=x", "a@step=1.5", "a@epoch=..", "a~b"),
        *("a^2x", "a@step=1_0", "a~4294967297", "a@{1}", "@@", "a@lost=3", "@x"),
    ],
)
def test_text_outside_of_the_grammar_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidRevision) as raised:
        parse_revision(text)
    assert repr(text) in raised.value.message


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
    ],
)
def test_a_path_follows_after_the_first_colon_that_is_not_that_of_an_id(
    text: str, revision: str, path: str | None
) -> None:
    assert split_path(text) == (revision, path)


NAMES = BASES.filter(lambda base: ":" not in base and base != "id")


@given(st.builds(Revision, NAMES, st.lists(SUFFIXES, max_size=3).map(tuple)))
def test_every_revision_can_be_given_any_path(revision: Revision) -> None:
    for path in ("", "model/weight", "id:face", ":meta"):
        assert split_path(f"{revision}:{path}") == (str(revision), path)
