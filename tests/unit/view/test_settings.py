"""Settings as text and as plain values."""

from __future__ import annotations

import pytest

from casckpt.plan.settings import Settings, Value, call_layer, environment_layer
from casckpt.plan.settings_file import file_layer
from casckpt.view.settings import list_lines, origin_text, setting_dict, value_text
from casckpt.view.text import Look

SETTINGS = Settings(
    [file_layer("user", "/u/\x1b.toml", 'time = "utc"\n[alias]\nx = "log"'), environment_layer({"CASCKPT_ASCII": "1"})]
)


@pytest.mark.parametrize(("value", "text"), [(None, ""), (True, "true"), (4, "4"), ("a\x1b", "a\\x1b")])
def test_a_value_is_shown_as_it_would_be_typed(value: Value, text: str) -> None:
    assert value_text(value) == text


def test_a_line_says_key_value_and_where_from() -> None:
    found = list(list_lines(SETTINGS, ["run", "time", "ascii", "alias.x"], Look(0), origin=True))
    assert found == [
        "run      -     built in",
        "time     utc   /u/\\x1b.toml",
        "ascii    true  CASCKPT_ASCII",
        "alias.x  log   /u/\\x1b.toml",
    ]
    assert list(list_lines(SETTINGS, ["time"], Look(0), origin=False)) == ["time  utc  How times are shown."]


def test_plain_values() -> None:
    found = setting_dict(Settings([call_layer(["threads=2"])]), "threads")
    assert (found["value"], found["origin"], found["place"], found["default"]) == (2, "call", "-c", None)
    assert origin_text(Settings(), "threads") == "built in"
