"""A repack as text."""

from __future__ import annotations

from dataclasses import replace

from casckpt.ops.repack_reports import RepackedWindow, RepackReport
from casckpt.view.repack import repack_lines
from casckpt.view.text import Look

WINDOW = RepackedWindow("gpt", 33, 100, 3300, 33, 1 << 30, 900 << 20)
REPORT = RepackReport((WINDOW,), 40, 42, 2 << 30, 1 << 30, 900, 60, {16: 30, 17: 15}, 2, 33, {}, 12.3, thorough=False)
LOOK = Look(now_ns=0)


def text(report: RepackReport) -> str:
    return "\n".join(repack_lines(report, LOOK))


def test_windows_and_what_they_saved() -> None:
    said = text(REPORT)
    assert "gpt  steps 100 to 3,300  33 commits  33 packs  900.0 MiB stored" in said
    assert "33 commits packed: 2.0 GiB" in said
    assert "1.0 GiB smaller" in said
    assert "900 chunks as deltas, 60 plain; groups: 30 of 16, 15 of 17" in said


def test_a_store_that_grew_says_so() -> None:
    assert "1.0 GiB larger" in text(replace(REPORT, before=1 << 30, after=2 << 30))


def test_a_plan_says_what_would_be_packed() -> None:
    said = text(replace(REPORT, dry_run=True, written=0))
    assert "33 commits would be packed: 1.0 GiB of states" in said
    assert "smaller" not in said


def test_commits_without_steps_have_none() -> None:
    assert "steps" not in text(replace(REPORT, windows=(WINDOW._replace(first_step=None),)))


def test_nothing_is_said_to_be_nothing() -> None:
    assert text(replace(REPORT, windows=(), written=0)) == "nothing to pack"


def test_every_reason_has_words() -> None:
    said = text(replace(REPORT, left={"limit": 3, "few": 1, "space": 2, "busy": 1})).splitlines()[-4:]
    assert said[0].startswith("3 commits left, as the time was over")
    assert said[1].startswith("1 commit left until more")
    assert said[2].startswith("2 commits left, as the disk")
    assert said[3].startswith("1 window whose old packs")


def test_the_name_of_a_run_cannot_command_a_terminal() -> None:
    assert "\x1b" not in text(replace(REPORT, windows=(WINDOW._replace(run="\x1b[2J"),)))
