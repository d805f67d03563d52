"""What a self-check found, as text."""

from __future__ import annotations

from collections.abc import Iterator

from casckpt.ops.checks import NOTE, PROBLEM, WARNING, Check, DoctorReport
from casckpt.view import text as t
from casckpt.view.text import Look, safe

_MARKS = {"ok": ("=", t.GOOD), "note": ("-", t.MUTED), "warning": ("~", t.CHANGED), "problem": ("!", t.BAD)}


def doctor_lines(report: DoctorReport, look: Look, *, details: bool = True) -> Iterator[str]:
    """A line a check, with why and what to try where something is to be done, and the count of both kinds.

    Args:
        details: also what is right; without it only the rest.
    """
    for check in report.checks:
        if details or check.level != "ok":
            yield from _check_lines(check, look)
    if report.path is None:
        yield look.paint(t.MUTED, "no store here: only the machine was checked")
    count = {level: sum(check.level == level for check in report.checks) for level in (PROBLEM, WARNING, NOTE)}
    found = [t.plural(count[level], level) for level in count if count[level]]
    if report.ok:
        yield look.paint(t.GOOD, "nothing to mend" + (f", {found[-1]}" if found else ""))
    else:
        yield look.paint(t.BAD, ", ".join(found))


def _check_lines(check: Check, look: Look) -> Iterator[str]:
    mark, role = _MARKS[check.level]
    yield f"{look.paint(role, f'{mark} {check.level:<8}')} {safe(check.what)}"
    for label, text in (("why", check.why), ("try", check.hint)):
        if text:
            yield f"             {look.paint(t.LABEL, f'{label}:')} {safe(text)}"
