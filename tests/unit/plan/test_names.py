from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import InvalidName
from casckpt.plan.names import HEADS, check_name, head_ref, run_of, tag_ref
from casckpt.plan.revision import parse_revision


@pytest.mark.parametrize(
    "name", ["main", "gpt-2.final", "run_7", "a", "ä" * 100, "学習", "x+y", "v1.0", "1", "a=b", "$x"]
)
def test_names_people_use_are_allowed(name: str) -> None:
    assert check_name("run", name) == name


@pytest.mark.parametrize("name", ["", "a" * 201, "ä" * 101, "-x", ".x", "a..b", "a b", "a\tb", "a\n", "a\0", "\ud800"])
@pytest.mark.parametrize("kind", ["run", "tag"])
def test_names_that_break_lines_or_paths_are_refused(kind: str, name: str) -> None:
    with pytest.raises(InvalidName) as raised:
        check_name(kind, name)
    assert raised.value.facts["kind"] == kind


@pytest.mark.parametrize("char", "~^:@{}/\\*?[]\"'")
def test_characters_with_a_meaning_in_revisions_are_refused(char: str) -> None:
    with pytest.raises(InvalidName):
        check_name("run", f"a{char}b")


@pytest.mark.parametrize("name", [*HEADS, "runs", "tags", "remotes", "first"])
def test_words_with_a_meaning_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        check_name("tag", name)


@given(st.text(min_size=1, max_size=30))
def test_an_allowed_name_is_a_revision_of_itself_and_its_refs_lead_back_to_it(name: str) -> None:
    try:
        check_name("run", name)
    except InvalidName:
        return
    assert str(parse_revision(name)) == name
    for head in HEADS:
        assert parse_revision(f"{name}/{head}").suffixes == ()
        assert run_of(head_ref(name, head)) == (name, head)
    assert run_of(tag_ref(name)) is None


@pytest.mark.parametrize("ref", ["tags/v1", "runs/last", "last", "", "runs/", "other/a/last"])
def test_what_is_no_ref_of_a_run(ref: str) -> None:
    assert run_of(ref) is None
