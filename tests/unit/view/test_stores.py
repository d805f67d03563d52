"""A store at a glance, as text."""

import math
from dataclasses import replace
from typing import Any

from casckpt.ops.values import Activity, RunInfo, Status
from casckpt.view.stores import attention, next_command, runs_lines, status_lines
from tests.unit.view.test_history import NOW, commit


def status(*runs: RunInfo, **given: Any) -> Status:
    values: dict[str, Any] = {
        "path": "/data/\x1b.casckpt", "commits": 214, "packs": 9, "stored": 61 << 30, "logical": 149 << 30,
        "free": 112 << 30, "runs": runs, "tags": {}, "journal_seq": 7,
    }  # fmt: skip
    return Status(**{**values, **given})


def test_a_store_its_runs_and_its_tags() -> None:
    best = commit(step=97_800, metrics={"val/loss": 0.3767})
    found = status(
        RunInfo("wide", 71, commit(run="wide", kind="recovery"), best, "val/loss:min"),
        RunInfo("base", 1, commit(run="base", step=None, metrics={}), None, None),
        tags={"v2": "b" * 64, "v10": "a" * 64},
    )
    assert list(status_lines(found, NOW)) == [
        "Store  /data/\\x1b.casckpt",
        "       214 commits, 2 runs, 149.0 GiB in 61.0 GiB stored (2.4x), 112.0 GiB free",
        "Runs   wide  71 commits  step 99,900  val/loss 0.4172  best 0.3767 at step 97,800 (min)  3 min ago  recovery",
        "       base    1 commit                                                                  3 min ago",
        "Tags   v10  aaaaaaaaaaaa",
        "       v2   bbbbbbbbbbbb",
    ]


def test_an_empty_store_says_what_comes_next() -> None:
    lines = list(status_lines(status(commits=0, stored=0, logical=0, free=None), NOW))
    assert lines[1:] == [
        "       0 commits, 0 runs, 0 B in 0 B stored (-)",
        "no commits yet: casckpt commit PATH makes the first",
    ]


def test_attention_is_drawn_to_space_numbers_and_failures() -> None:
    wrong = commit(run="wide", metrics={"a": 1, "b\x1b": float("nan"), "c": float("-inf")})
    failed = commit(run="base", status="failed")
    found = status(RunInfo("wide", 1, wrong, None, None), RunInfo("base", 1, failed, None, None), free=1 << 20)
    assert attention(found) == [
        "1.0 MiB free is less than one commit of wide (712.0 MiB)",
        "wide: b\\x1b, c not finite in its last commit 7693cc68abcd",
        "base: its last commit 7693cc68abcd says failed",
    ]
    assert list(status_lines(found, NOW))[4].startswith("Look   ! 1.0 MiB free")
    assert attention(status()) == []


def test_runs_in_aligned_lines_with_newest_and_best_commit() -> None:
    best = commit(step=97_800, metrics={"val/loss": 0.3767})
    runs = [
        RunInfo("wide\x1b", 71, commit(run="wide", kind="recovery"), best, "val/loss:min"),
        RunInfo("base", 1, commit(run="base", step=None, metrics={}), None, None),
    ]
    assert list(runs_lines(runs, NOW)) == [
        "wide\\x1b  71 commits  7693cc68abcd  step 99,900  val/loss 0.4172  "
        "best 0.3767 at step 97,800 (min)  3 min ago  recovery",
        "base        1 commit  7693cc68abcd                                                                  3 min ago",
    ]


def activity(**given: Any) -> Activity:
    values: dict[str, Any] = {
        "state": "running", "interval_ns": 300 * 10**9, "metric": "val/loss", "recent": (0.9, 0.5, None, 0.4),
        "commits": 4, "bad": 0, "bad_since": None, "nbytes": 3 << 30,
    }  # fmt: skip
    return Activity(**{**values, **given})


def test_a_run_shows_what_goes_on_in_it_and_how_its_metric_went() -> None:
    last = commit(run="wide", metrics={"acc": 0.5, "val/loss": 0.4})
    best = commit(step=97_800, metrics={"val/loss": 0.3767})
    runs = [
        RunInfo("wide", 71, last, best, "val/loss:min", activity()),
        RunInfo("base", 4, commit(metrics={"acc": 0.5, "b": 2}), None, None, activity(state="stopped", metric="acc")),
        RunInfo("lost", 1, last, None, None, activity(state="failed", interval_ns=10**6, recent=(math.nan,), nbytes=0)),
    ]
    shown = list(status_lines(status(*runs), NOW))[2:5]
    assert [" ".join(line.split()) for line in shown] == [
        "Runs ● running wide 71 commits step 99,900 val/loss 0.4 █▂ ▁ best 0.3767 at step 97,800 (min) "
        "3 min ago (every ~5 min) 3.0 GiB",
        "○ stopped base 4 commits step 99,900 acc 0.5 b 2 █▂ ▁ 3 min ago (every ~5 min) 3.0 GiB",
        "! failed lost 1 commit step 99,900 acc 0.5 val/loss 0.4 ! 3 min ago 0 B",
    ]
    assert len({line.index("3 min ago") for line in shown}) == 1
    plain = list(runs_lines(runs, replace(NOW, ascii=True)))
    assert [line.split()[0] for line in plain] == ["*", "o", "!"]
    assert all(line.isascii() for line in plain)


def test_trouble_in_recent_commits_is_told_with_the_command_that_shows_it() -> None:
    nan = commit(run="it's", metrics={"loss": math.nan})
    bad = RunInfo("it's", 71, nan, None, None, activity(commits=32, bad=3, bad_since=98_600))
    healed = RunInfo("base", 9, commit(), None, None, activity(commits=9, bad=1))
    assert attention(status(bad, healed)) == [
        "it's: metrics not finite in 3 of its last 32 commits since step 98,600",
        "base: metrics not finite in 1 of its last 9 commits",
    ]
    assert list(status_lines(status(bad), NOW))[-1] == "Next   casckpt log -r 'it'\\''s' --graph -n 32"
    assert next_command(status(healed, bad)) == "casckpt log -r base --graph -n 9"
    fine = RunInfo("base", 9, commit(), None, None, activity())
    assert next_command(status(fine, free=1)) is None
    assert not any(line.startswith("Next") for line in status_lines(status(fine, free=1), NOW))
