"""What was dropped, what stays, and why, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from casckpt.ops.gc_reports import GcCommit, GcReport
from casckpt.ops.kept_policy import KeptPolicies
from casckpt.ops.lifetime_reports import DropReport, Fate, ForgetReport, RetainReport
from casckpt.units import SECOND, format_bytes, format_count, format_duration
from casckpt.view import text as t
from casckpt.view.history import commit_cells
from casckpt.view.settings import value_text
from casckpt.view.text import Cell, Look, safe


def drop_lines(report: DropReport, look: Look) -> Iterator[str]:
    """The commits that lost something, and those that something holds."""
    verb = "would lose" if report.dry_run else "lost"
    what = "" if report.parts is None else f" components that fit {safe(' or '.join(report.parts))}"
    if report.dropped:
        said = f"{verb}{what}" if what else "would be dropped" if report.dry_run else "dropped"
        yield f"{t.plural(len(report.dropped), 'commit')} {said}"
        yield from t.columns((commit_cells(commit, look) for commit in report.dropped), look, indent="  ")
    if report.already:
        yield f"{t.plural(len(report.already), 'commit')} dropped before"
    if report.spared:
        yield f"{t.plural(len(report.spared), 'commit')} kept, as a name or a pin holds them"
        rows = (
            [*commit_cells(one.commit, look)[:3], Cell(safe(", ".join(one.reasons)), t.REF, cut=True)]
            for one in report.spared
        )
        yield from t.columns(rows, look, indent="  ")


def retain_lines(report: RetainReport, look: Look) -> Iterator[str]:
    """Every commit with what keeps it or lets it go, then how many by rule."""
    yield from t.columns((_fate_cells(fate, look) for fate in report.fates), look)
    plan, would = report.plan, "would be " if report.dry_run else ""
    if report.fates:
        yield ""
        yield f"{t.plural(len(plan.kept), 'commit')} kept{_by_rule(report.counts['kept'])}"
        yield f"{t.plural(len(plan.dropped), 'commit')} {would}dropped{_by_rule(report.counts['dropped'])}"
    if plan.thinned:
        yield f"{t.plural(len(plan.thinned), 'commit')} {would}thinned{_by_rule(report.counts['thinned'])}"
    for notice in plan.notices:
        yield look.paint(t.MUTED, f"{safe(notice.run)}, {notice.rule}: {safe(notice.problem)}")


def policies_lines(kept: KeptPolicies, run: str | None, look: Look) -> Iterator[str]:
    """The policies that a store keeps, or what is kept for a run and what holds for it all in all."""
    tables = [("all runs", kept.store), *sorted(kept.runs.items())]
    if run is not None:
        tables = [("all runs", kept.store), (run, kept.runs.get(run)), ("together", kept.of(run))]
    rows = [(name, policy.to_dict()) for name, policy in tables if policy is not None]
    yield from t.columns(([Cell(safe(name), t.LABEL), Cell(policy_text(table))] for name, table in rows), look)


def kept_line(table: Mapping[str, Any] | None, run: str | None, *, dry_run: bool) -> str:
    """What became, or would become, of the policy that is kept for all runs or for one."""
    where = "all runs" if run is None else safe(run)
    if table is None:
        return f"{'would keep' if dry_run else 'keeps'} no policy for {where}"
    return f"{'would keep' if dry_run else 'keeps'} for {where}: {policy_text(table)}"


def policy_text(table: Mapping[str, Any]) -> str:
    """A policy as its keys with their values, in the order in which policies are shown."""
    said = [f"{key} {value_text(value)}" for key, value in table.items() if key != "runs"]
    said += [f"{pattern}: {policy_text(inner)}" for pattern, inner in table.get("runs", {}).items()]
    return ", ".join(said)


def _by_rule(counts: Mapping[str, int]) -> str:
    return f": {', '.join(f'{rule} {format_count(count)}' for rule, count in counts.items())}" if counts else ""


def _fate_cells(fate: Fate, look: Look) -> list[Cell]:
    decision = fate.decision
    reasons = [reason.text for reason in (*(() if decision.by is None else (decision.by,)), *decision.wanted)]
    word, role = {"keep": ("keep", t.GOOD), "drop": ("drop", t.REMOVED)}.get(decision.outcome, ("gone", t.MUTED))
    if decision.thin:
        word, role = "thin", t.CHANGED
        reasons.insert(0, f"loses {', '.join(decision.thin)}")
    return [
        Cell(word, role),
        Cell(look.id(decision.id.hex()), t.ID),
        Cell(safe(decision.run), cut=True),
        Cell("" if fate.step is None else f"step {format_count(fate.step)}"),
        Cell(look.when(fate.time_ns), t.MUTED),
        Cell(safe("; ".join(reasons)) or "dropped before", cut=True),
    ]


def forget_lines(report: ForgetReport, look: Look) -> Iterator[str]:
    """The commits that are known no more, what went along, and what became of their bytes."""
    would = "would be " if report.dry_run else ""
    if report.forgotten:
        yield f"{t.plural(len(report.forgotten), 'commit')} {would}forgotten for good"
        yield from t.columns((commit_cells(commit, look) for commit in report.forgotten), look, indent="  ")
    for run in report.runs:
        yield f"{look.paint(t.REMOVED, safe(run))}: the run with its name {'would go' if report.dry_run else 'is gone'}"
    for move in report.refs:
        gone, goes = ("would go", "would move to") if report.dry_run else ("is gone", "moved to")
        yield f"{look.paint(t.REF, safe(move.ref))} {gone if move.now is None else f'{goes} {look.id(move.now)}'}"
    if report.pins:
        yield f"{t.plural(len(report.pins), 'pin')} {'would go' if report.dry_run else 'are gone'}"
    if report.children:
        yield f"{t.plural(report.children, 'commit')} made from them {'would stay' if report.dry_run else 'stayed'}"
    purge = report.purge
    if purge.journal_files:
        files = f"{t.plural(purge.journal_files, 'file')} of the journal, {t.plural(purge.packs_removed, 'pack')}"
        yield f"{format_bytes(max(purge.freed, 0))} {would}removed: {files}"
        what = "no operation before can be taken back"
        yield look.paint(t.MUTED, f"{what} then" if report.dry_run else what)


def gc_lines(report: GcReport, look: Look) -> Iterator[str]:
    """The commits that let go of their state, what that frees, and what waits."""
    plan = report.plan
    if plan.retained is not None:
        kept, dropped = plan.retained.counts["kept"], plan.retained.counts["dropped"]
        yield f"{t.plural(len(plan.retained.plan.kept), 'commit')} kept{_by_rule(kept)}"
        would = "would be " if report.dry_run else ""
        yield f"{t.plural(len(plan.retained.plan.dropped), 'commit')} {would}dropped{_by_rule(dropped)}"
    if plan.commits:
        yield from t.columns((leaving_cells(commit, look) for commit in plan.commits), look)
    would = "would be freed" if report.dry_run else "freed"
    files = f"{t.plural(report.packs, 'pack')}"
    left = f" and {t.plural(report.orphans, 'file')} that interrupted commands left" if report.orphans else ""
    yield f"{format_bytes(report.nbytes)} {would}: {files}{left}"
    if plan.dead_bytes:
        yield f"{format_bytes(plan.dead_bytes)} more that nothing needs are in packs that stay"
    if report.rescued:
        yield f"{t.plural(report.rescued, 'pack')} stayed, as a commit that was made meanwhile needs them"
    yield from _shrunk_lines(report, look)
    if plan.waiting:
        nbytes = sum(commit.together for commit in plan.waiting)
        left = format_duration((min(commit.final_ns for commit in plan.waiting) - look.now_ns) / SECOND)
        what = t.plural(len(plan.waiting), "dropped commit")
        yield f"{what} can still be taken back, the first for {left}: {format_bytes(nbytes)}"


def _shrunk_lines(report: GcReport, look: Look) -> Iterator[str]:
    """What was written again, and what it saved."""
    rewritten, repacked = report.shrunk.rewritten, report.shrunk.repacked
    if rewritten is not None and rewritten.made:
        after = sum(pack.nbytes for pack in rewritten.made)
        sizes = f"{format_bytes(rewritten.nbytes)} {look.arrow} {format_bytes(after)}"
        yield f"{t.plural(rewritten.sources, 'pack')} that {_were(rewritten.sources)} mostly dead or small: {sizes}"
    if repacked is not None and repacked.written:
        commits = sum(window.commits for window in repacked.windows)
        sizes = f"{format_bytes(repacked.before)} {look.arrow} {format_bytes(repacked.after)}"
        yield f"{t.plural(commits, 'commit')} packed as deltas: {sizes}"
    if report.journal.files:
        yield f"{format_bytes(report.journal.nbytes)} of old journal files removed"
    if report.shrunk.problem:
        yield look.paint(t.MUTED, f"not everything was written again: {safe(report.shrunk.problem)}")


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def leaving_cells(commit: GcCommit, look: Look) -> list[Cell]:
    """A commit that lets go of something in a line: what becomes of it, and what that frees."""
    word, role = {"frees": ("frees", t.REMOVED), "early": ("early", t.BAD)}.get(commit.outcome, ("waits", t.MUTED))
    lost = "" if commit.parts is None else f", loses {', '.join(commit.parts)}"
    return [
        Cell(word, role),
        Cell(look.id(commit.id), t.ID),
        Cell(safe(commit.run), cut=True),
        Cell("" if commit.step is None else f"step {format_count(commit.step)}"),
        Cell(f"{format_bytes(commit.alone)} alone"),
        Cell(f"{format_bytes(commit.together)} with those before"),
        Cell(safe(f"{commit.rule}{lost}"), cut=True),
    ]
