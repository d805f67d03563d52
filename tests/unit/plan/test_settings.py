"""Settings: what they may say, which place wins, and what is said about mistakes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.errors import DamagedSettings, InvalidSetting, UnknownSetting
from casckpt.plan.policy import Retention
from casckpt.plan.settings import (
    CALL,
    ENVIRONMENT,
    SETTINGS,
    STORE,
    USER,
    Settings,
    alias_problem,
    call_layer,
    environment_layer,
    parse_value,
)
from casckpt.plan.settings_file import file_layer

COMMANDS = ["log", "show"]


def test_the_stronger_place_wins_and_is_named() -> None:
    layers = [
        file_layer(USER, "/u/config.toml", 'run = "user"\ncompress = "off"\ntime = "utc"'),
        file_layer(STORE, "/s/config.toml", 'run = "store"\ncompress = "always"'),
        environment_layer({"CASCKPT_RUN": "variable"}),
        call_layer(["run=call"]),
    ]
    expected = [("user", USER), ("store", STORE), ("variable", ENVIRONMENT), ("call", CALL)]
    for count, found in enumerate(expected, 1):
        settled = Settings(layers[:count]).settled("run")
        assert (settled.value, settled.origin) == found
    settings = Settings(layers)
    assert settings.settled("compress").place == "/s/config.toml"
    assert settings.settled("time").origin == USER
    assert settings.settled("threads") == (None, "built-in", "")
    assert Settings(layers[:3]).settled("run").place == "CASCKPT_RUN"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("run", "gpt-2", "gpt-2"),
        ("compress", "off", "off"),
        ("threads", "4", 4),
        ("ascii", "1", True),
        ("ascii", "No", False),
        ("pager", "", ""),
        ("pager", "less -R", "less -R"),
        ("alias.best", "log -n 1", "log -n 1"),
    ],
)
def test_a_value_is_read_from_its_text(key: str, text: str, value: object) -> None:
    found = parse_value(key, text, "-c", COMMANDS)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(("run", name) for name in ("", "a b", "last", "a~1", "x" * 201)),
        *(("threads", count) for count in ("0", "-1", "1025", "many", "1.5", "")),
        *(("compress", "Auto"), ("color", "pink"), ("ascii", "maybe"), ("pager", "less\x1b[2J")),
        *(
            ("alias.log", "show"),
            ("alias.x", "sh -c id"),
            ("alias.x", "!id"),
            ("alias.x", "log 'open"),
            ("alias.x", ""),
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(key: str, text: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_value(key, text, "the place", COMMANDS)
    assert caught.value.facts["key"] == key
    assert "the place" in caught.value.reason


@pytest.mark.parametrize(
    ("key", "near"), [("colr", "'color'"), ("thread", "'threads'"), ("alias", "'alias.NAME'"), ("zzz", "there are run")]
)
def test_an_unknown_key_names_what_is_near(key: str, near: str) -> None:
    with pytest.raises(UnknownSetting) as caught:
        call_layer([f"{key}=1"])
    assert near in caught.value.reason


@pytest.mark.parametrize("key", ["alias.", "alias.a b", "alias.-x", "alias.a.b", "alias.\x1b"])
def test_an_alias_has_a_plain_name(key: str) -> None:
    with pytest.raises(UnknownSetting):
        parse_value(key, "log", "-c", COMMANDS)


def test_a_mistake_in_a_file_names_file_and_line_and_leaves_the_rest() -> None:
    layer = file_layer(USER, "/u", 'time = "utc"\n# note\ncolor = "pink"\ncolr = 1\n[alias]\nbest = 3\n[core]\nx = 1\n')
    assert layer.values == {"time": "utc"}
    assert [type(problem) for problem in layer.problems] == [
        InvalidSetting, UnknownSetting, InvalidSetting, UnknownSetting,
    ]  # fmt: skip
    reasons = [problem.reason for problem in layer.problems]
    assert [reason.partition(":")[0] for reason in reasons] == [f"/u, line {line}" for line in (3, 4, 6, 8)]


def test_a_policy_is_used_as_a_whole_or_not_at_all() -> None:
    text = (
        'threads = 0\n[retention]\nkeep_last_n = 3\nthin = {keep_last = ["opt*"]}\n[retention.runs."v1.*"]\ndaily = 7\n'
    )
    layer = file_layer(STORE, "/s", text)
    assert layer.policy == Retention(keep_last=3, thin={"keep_last": ["opt*"]}, runs={"v1.*": {"daily": 7}})
    assert Settings([layer]).policy() == layer.policy
    assert layer.values == {
        "retention.keep_last": 3, "retention.thin": {"keep_last": ["opt*"]}, "retention.runs.v1.*.daily": 7,
    }  # fmt: skip
    assert Settings([layer]).get("retention.max_checkpoints") == 3
    wrong = file_layer(STORE, "/s", text + "dayly = 1\n[retention.runs.x]\nkeep_last = true\n")
    assert wrong.policy is None
    assert wrong.values == layer.values
    places = [problem.reason.partition(":")[0] for problem in wrong.problems]
    assert places == [f"/s, line {line}" for line in (1, 7, 9)]
    with pytest.raises(UnknownSetting, match=r"did you mean daily\?"):
        Settings([wrong]).policy()
    [inner] = file_layer(STORE, "/s", "[retention]\nkeep_last = 1\nthin = {keep_lst = []}\n").problems
    assert (inner.facts["key"], inner.facts["place"]) == ("retention.thin.keep_lst", "/s, line 3")


def test_a_policy_stands_in_the_file_of_a_store_alone() -> None:
    layer = file_layer(USER, "/u", "[retention]\nkeep_last = 3\n")
    [problem] = layer.problems
    assert "only the file of a store can say it" in problem.reason
    assert not layer.values
    assert environment_layer({"CASCKPT_RETENTION": "3"}).values == {}
    with pytest.raises(InvalidSetting, match="only the file of a store"):
        call_layer(["retention.keep_last=3"])


def test_what_is_no_toml_is_one_problem_with_its_line() -> None:
    layer = file_layer(USER, "/u", 'time = "utc"\nrun gpt\n')
    [problem] = layer.problems
    assert isinstance(problem, DamagedSettings)
    assert "line 2" in problem.reason
    assert not layer.values


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = {" * 5000, "x = 1" + "0" * 10_000])
def test_hostile_toml_is_a_problem_and_no_crash(text: str) -> None:
    assert file_layer(STORE, "/s", text).problems


@pytest.mark.parametrize("line", ['pager = "sh -c id"', '[alias]\nx = "log"', 'color = "always"', "ascii = true"])
def test_the_file_of_a_store_says_only_what_belongs_to_its_commits(line: str) -> None:
    layer = file_layer(STORE, "/s", line)
    [problem] = layer.problems
    assert "the file of a store cannot say it" in problem.reason
    assert not layer.values


def test_a_problem_stops_only_those_who_need_the_setting() -> None:
    settings = Settings([file_layer(USER, "/u", 'threads = "x"\nrun = "gpt"')])
    assert settings.need("run") == "gpt"
    assert settings.get("threads") is None
    with pytest.raises(InvalidSetting):
        settings.need("threads")
    broken = Settings([file_layer(STORE, "/s", "=")])
    assert broken.get("run") is None
    with pytest.raises(DamagedSettings):
        broken.need("run")


def test_variables_that_are_empty_say_nothing_but_an_empty_pager_means_none() -> None:
    layer = environment_layer({"CASCKPT_RUN": "", "CASCKPT_PAGER": "", "CASCKPT_THREADS": "x", "CASCKPT_STORE": "/s"})
    assert layer.values == {"pager": ""}
    [problem] = layer.problems
    assert "CASCKPT_THREADS" in problem.reason


@pytest.mark.parametrize("pair", ["run", "alias.x=log", "time=x", "=1"])
def test_a_wrong_assignment_on_the_line_is_refused(pair: str) -> None:
    with pytest.raises((InvalidSetting, UnknownSetting)):
        call_layer([pair])


def test_a_file_of_mistakes_is_not_echoed() -> None:
    layer = file_layer(STORE, "/s", "".join(f"key{number} = 1\n" for number in range(5000)) + 'run = "gpt"')
    assert len(layer.problems) == 11
    assert isinstance(layer.problems[-1], DamagedSettings)
    assert not layer.values
    for text in (
        "threads = 1979-05-27",
        f"run = '{'x' * 60_000}'",
        f"{'k' * 60_000} = 1",
        "threads = 1e999",
        "run = [1]",
    ):
        [problem] = file_layer(STORE, "/s", text).problems
        assert len(str(problem)) < 400
        json.dumps(problem.facts)


@given(st.text(max_size=300))
def test_any_text_is_a_layer(text: str) -> None:
    layer = file_layer(STORE, "/s", text)
    of_store = {key for key, setting in SETTINGS.items() if setting.of_store}
    assert all(key in of_store or key.startswith("retention.") for key in layer.values)


@given(st.text(max_size=40))
def test_an_alias_that_is_accepted_starts_with_a_command(words: str) -> None:
    if not alias_problem("x", words, COMMANDS):
        assert (
            words.lstrip().lstrip("'\"\\").startswith(("log", "show")) or "'" in words or '"' in words or "\\" in words
        )
