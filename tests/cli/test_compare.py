"""What scripts rely on in comparisons: exit codes, one code path for both spellings, what `-q` leaves out."""

from pathlib import Path

import pytest

from tests.cli import scenes
from tests.cli.runner import run

WORSE = "val/loss > +2%"


@pytest.fixture(autouse=True)
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes.trainings(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["base", "wide"], 0), (["base", "wide", "--exit-code"], 1), (["base", "base", "--exit-code"], 0),
        (["base", "wide", "--fail-if", WORSE], 12), (["wide", "base", "--fail-if", WORSE], 0),
        (["base", "wide", "--fail-if", WORSE, "--exit-code"], 12),
        (["wide", "base", "--fail-if", WORSE, "--exit-code"], 1),
        (["wide", "base", "odd", "--fail-if", WORSE], 12), (["base", "wide", "-k", "acc", "--fail-if", WORSE], 12),
        (["base", "wide", "-k", "acc:max", "-k", "val/loss:min", "--fail-if", WORSE], 12),
        (["base", "wide", "--fail-if", "loss"], 2), (["base", "wide", "--fail-if", "nothing > +1"], 3),
        (["base", "nothing"], 3), (["base"], 2), (["base", "wide", "--x", "samples"], 2),
    ],
)  # fmt: skip
def test_a_comparison_ends_with_what_it_found(words: list[str], code: int) -> None:
    done = run("compare", *words)
    assert done.code == code
    asjson = run("compare", *words, "--json")
    assert (asjson.code, asjson.envelope["exit"], asjson.envelope["ok"]) == (code, code, code in (0, 1))


def test_a_failed_check_is_an_answer_with_the_numbers() -> None:
    found = run("compare", "base", "wide", "--fail-if", WORSE, "--json").envelope["data"]
    assert found["verdict"]["better"] == "base"
    [check] = found["checks"]
    assert (check["check"], check["run"], check["failed"]) == (WORSE, "wide", True)
    assert check["second"] > check["first"]
    text = run("compare", "base", "wide", "--fail-if", WORSE)
    assert "! failed  val/loss > +2%: wide" in text.out
    assert text.err == ""
    assert run("compare", "base", "wide", "--fail-if", WORSE, "-q").out == ""


def test_a_symmetric_range_is_compared_as_two_runs() -> None:
    ranged, pair = run("diff", "base...wide", "--json").envelope, run("compare", "base", "wide", "--json").envelope
    assert ranged["schema"] == pair["schema"] == "casckpt.compare/1"
    assert ranged["data"] == pair["data"]
    assert run("diff", "base...wide").out == run("compare", "base", "wide").out
    assert run("diff", "base...wide", "--exit-code", "-q").code == 1


def test_only_the_top_leaves_are_listed_if_asked_for() -> None:
    [tip] = run("compare", "base", "wide", "--json", "--top", "1", "--values").envelope["data"]["tips"]
    assert (len(tip["diff"]["leaves"]), len(tip["diff"]["values"]["leaves"])) == (1, 1)
    [whole] = run("compare", "base", "wide", "--json").envelope["data"]["tips"]
    assert (len(whole["diff"]["leaves"]), whole["diff"]["values"]) == (2, None)


def test_every_metric_asked_for_is_drawn() -> None:
    done = run("compare", "base", "wide", "-k", "acc", "-k", "val/loss", "--ascii")
    assert done.out.isascii()
    assert "\nacc\n" in done.out
    assert "\nval/loss (min is best)\n" in done.out


def test_no_line_is_wider_than_a_chart_and_its_name_where_nothing_is_long() -> None:
    lines = run("compare", "base", "wide", "--x", "time").out.splitlines()
    assert max(len(line) for line in lines if "┤" in line) <= 80
