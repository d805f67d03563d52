"""What a self-check found, as text: marks, reasons, and a count of what is to be mended."""

from __future__ import annotations

from casckpt.ops.checks import Check, DoctorReport
from casckpt.view.doctor import doctor_lines
from casckpt.view.text import Look

GOOD = Check("ok", "machine.python", "CPython 3.11")
NOTE = Check("note", "store.trash", "1 file", "put aside", "remove it")
BAD = Check("problem", "store.packs", "1 pack is missing: \x1b[2J", "commits need it", "casckpt fsck")


def lines(*checks: Check, details: bool = True) -> list[str]:
    return list(doctor_lines(DoctorReport("/s", checks), Look(0), details=details))


def test_every_check_has_its_mark_and_what_is_wrong_its_reason() -> None:
    assert lines(GOOD, BAD) == [
        "= ok       CPython 3.11",
        "! problem  1 pack is missing: \\x1b[2J",
        "             why: commits need it",
        "             try: casckpt fsck",
        "1 problem",
    ]


def test_the_last_line_counts_what_was_found() -> None:
    assert lines(GOOD)[-1] == "nothing to mend"
    assert lines(GOOD, NOTE)[-1] == "nothing to mend, 1 note"
    assert lines(BAD, BAD, NOTE)[-1] == "2 problems, 1 note"


def test_without_details_what_is_right_is_left_out() -> None:
    assert lines(GOOD, details=False) == ["nothing to mend"]


def test_without_a_store_that_is_said() -> None:
    assert "no store here: only the machine was checked" in list(doctor_lines(DoctorReport(None, (GOOD,)), Look(0)))
