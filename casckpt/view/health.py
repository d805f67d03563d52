"""What fsck found, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casckpt.ops.reports import Brought, Finding, FsckReport
from casckpt.units import format_bytes
from casckpt.view import text as t
from casckpt.view.text import Look, safe

COMMITS_SHOWN = OBJECTS_SHOWN = 5


def fsck_lines(report: FsckReport, look: Look, *, notices: bool = True) -> Iterator[str]:
    """What was looked at, every finding with the commits it hits, and the verdict."""
    read = f", {format_bytes(report.nbytes)} read" if report.nbytes else ""
    yield (
        f"{report.depth} check: {t.plural(report.commits, 'commit')}, {t.plural(report.packs, 'pack')}, "
        f"{t.plural(report.objects, 'object')}{read}"
    )
    for finding in report.findings:
        if notices or finding.severity == "damage":
            yield from _finding_lines(finding, look)
    if report.brought is not None:
        yield from _brought_lines(report.brought, look)
    if report.marked:
        commits = _listed(report.marked)
        yield look.paint(t.BAD, f"marked as damaged: {commits}; best and recovery do not move there")
    if report.cleared:
        yield look.paint(t.GOOD, f"whole again: {_listed(report.cleared)}")
    left = [finding for finding in report.findings if finding.severity == "damage" and finding.repaired is None]
    hit = {commit for finding in left for commit in finding.commits}
    if report.ok:
        yield look.paint(t.GOOD, "no damage" if not _healed(report) else "no damage left")
    else:
        verdict = f"{t.plural(len(left), 'damage', 'damages')}, {t.plural(len(hit), 'commit')} affected"
        yield look.paint(t.BAD, f"{verdict}, {report.commits - len(hit)} whole")


def _brought_lines(brought: Brought, look: Look) -> Iterator[str]:
    size = format_bytes(brought.nbytes)
    yield f"brought from {safe(brought.remote)}: {t.plural(brought.objects, 'object')}, {size}"
    if brought.lacks:
        more = brought.lacks - min(len(brought.lacking), OBJECTS_SHOWN)
        shown = " ".join(one[:12] for one in brought.lacking[:OBJECTS_SHOWN])
        listed = f"{shown} and {more} more" if more else shown
        yield look.paint(t.BAD, f"not whole there either: {listed}")


def _healed(report: FsckReport) -> bool:
    return any(finding.repaired is not None for finding in report.findings)


def _finding_lines(finding: Finding, look: Look) -> Iterator[str]:
    damaged = finding.severity == "damage" and finding.repaired is None
    mark = "!" if damaged else "=" if finding.repaired is not None else "-"
    yield look.paint(t.BAD if damaged else t.MUTED, f"{mark} {safe(finding.where)}: {safe(finding.what)}")
    if finding.leaf is not None:
        yield f"    leaf     {safe(finding.leaf)}"
    if finding.commits:
        yield f"    commits  {_listed(finding.commits)}"
    if finding.repaired is not None:
        yield f"    healed   {safe(finding.repaired)}"


def _listed(commits: Sequence[str]) -> str:
    more = len(commits) - COMMITS_SHOWN
    return " ".join(commit[:12] for commit in commits[:COMMITS_SHOWN]) + (f" and {more} more" if more > 0 else "")
