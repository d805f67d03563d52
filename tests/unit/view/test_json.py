"""Envelopes hold whatever a store can hold."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt import errors
from casckpt.view.failure import Failure, failure_lines
from casckpt.view.json import dumps, failure, plain, success
from casckpt.view.text import Look

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates()
values = st.recursive(
    leaves, lambda part: st.lists(part) | st.dictionaries(st.text() | st.integers(), part), max_leaves=9
)


@given(values)
def test_any_value_becomes_one_line_of_strict_ascii_json(value: Any) -> None:
    line = dumps({"data": plain(value)})
    assert line.isascii()
    assert line.isprintable()
    json.loads(line, parse_constant=pytest.fail)


def test_what_json_does_not_know_is_written_as_text() -> None:
    found = plain({1: (math.nan, math.inf, -math.inf), "b": b"\xff", "c": bytearray(2), "d": {3}, "e": True})
    assert found == {"1": ["NaN", "Infinity", "-Infinity"], "b": "ff", "c": "0000", "d": [3], "e": True}


def test_ints_that_python_does_not_write_in_decimal_are_hexadecimal_texts() -> None:
    assert json.loads(dumps(plain({"a": -(1 << 20_000), "b": 10**4000}))) == {"a": f"-0x1{'0' * 5000}", "b": 10**4000}


@pytest.mark.parametrize(("code", "ok"), [(0, True), (1, True), (4, False)])
def test_an_answer_is_ok_unless_something_needs_care(code: int, ok: bool) -> None:
    found = success(
        "log", {"commits": ()}, exit_code=code, version="1", store="/s", elapsed_s=0.12345, warnings=[{"code": "a"}]
    )
    assert found == {
        "schema": "casckpt.log/1", "ok": ok, "exit": code, "version": "1", "store": "/s", "elapsed_s": 0.123,
        "data": {"commits": []}, "warnings": [{"code": "a"}],
    }  # fmt: skip


def test_an_error_says_the_same_in_both_forms() -> None:
    found = Failure.of(errors.RevisionNotFound(text="b\x1bset", problem="did you mean 'best'?"))
    assert failure(found) == {
        "schema": "casckpt.error/1",
        "ok": False,
        "exit": 3,
        "error": {
            "code": "rev.not-found",
            "what": "no revision named 'b\\x1bset'",
            "why": "did you mean 'best'?",
            "hints": ["casckpt log --all lists the commits"],
            "details": {"text": "b\x1bset", "problem": "did you mean 'best'?"},
        },
    }
    assert list(failure_lines(found, Look(0))) == [
        "error: no revision named 'b\\x1bset'",
        "  why: did you mean 'best'?",
        "  try: casckpt log --all lists the commits",
    ]
    assert list(failure_lines(Failure("usage", 2, "no\n"), Look(0))) == ["error: no\\n"]
