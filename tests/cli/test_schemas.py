"""docs/schemas names every key that commands print for programs; failures, lists and progress too.

Every other test that runs a command with --json or --ndjson holds its output against these forms as well.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from casckpt.cli.table import COMMANDS
from tests.cli import scenes, schemas
from tests.cli.runner import run

NOT_COMMANDS = {"common", "error", "record", "progress", "version"}


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes.history(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_has_a_schema_and_every_schema_a_command() -> None:
    names = {path.stem for path in schemas.FOLDER.glob("*.json")}
    assert names == set(COMMANDS) | NOT_COMMANDS


@pytest.mark.parametrize("path", sorted(schemas.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_schema_is_one(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_a_key_that_no_schema_names_is_caught() -> None:
    answer = {
        "schema": "casckpt.init/1",
        "ok": True,
        "exit": 0,
        "version": "1",
        "store": None,
        "elapsed_s": 0,
        "warnings": [],
    }
    schemas.validate_envelope({**answer, "data": {"path": "x", "dry_run": False}})
    for data in ({"path": "x"}, {"path": "x", "dry_run": False, "new": 1}, {"path": 1, "dry_run": False}):
        with pytest.raises(AssertionError):
            schemas.validate_envelope({**answer, "data": data})
    with pytest.raises(AssertionError):
        schemas.validate_record({"type": "end", "ok": True, "exit": 0, "count": 1, "warnings": [], "new": 1})


LISTS = [["log", "--all"], ["runs"], ["ls", "gpt", "-R"], ["blame", "gpt"], ["reflog"], ["tag"],
         ["retain", "--keep-last", "1", "--dry-run"], ["du", "--by", "dtype"], ["du", "--drop", "gpt~1"]]  # fmt: skip


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_list_is_a_record_a_line_and_ends_with_their_count(history: Path, words: list[str]) -> None:
    lines = [json.loads(line) for line in run(*words, "--ndjson").out.splitlines()]
    assert lines[-1]["count"] == len(lines) - 1 > 0
    whole = next(value for value in run(*words, "--json").envelope["data"].values() if isinstance(value, list | dict))
    assert len(whole) == len(lines) - 1


def test_what_is_no_list_says_so_and_failures_are_records_too(history: Path) -> None:
    for words, code in ((["show"], 2), (["log", "nothing"], 3), (["log", "--nothing"], 2), (["nothing"], 2)):
        done = run(*words, "--ndjson")
        assert done.code == code
        failed, end = map(json.loads, done.out.splitlines())
        assert (failed["type"], end["ok"], done.err) == ("error", False, "")


def test_fields_with_tabs(history: Path) -> None:
    done = run("log", "gpt", "--tsv", "step,metrics.val/loss,run", "--header")
    assert done.out.splitlines() == [
        "step\tmetrics.val/loss\trun",
        "3000\t0.375\tgpt",
        "2000\t0.25\tgpt",
        "1000\t0.5\tgpt",
    ]
    failed = run("log", "gpt", "--tsv", "stepp")
    assert (failed.code, failed.out) == (2, "")
    assert "stepp" in failed.err


def test_progress_as_json_keeps_to_its_form(history: Path) -> None:
    done = run("commit", "out", "--progress", "json", "--json")
    events = [json.loads(line) for line in done.err.splitlines()]
    assert events
    for event in events:
        schemas.validate("progress", event)
    assert events[-1]["done"] == events[-1]["total"] == done.envelope["data"]["commit"]["bytes"]
