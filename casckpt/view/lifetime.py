"""What was dropped, what stays, and why, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from casckpt.ops.kept_policy import KeptPolicies
from casckpt.ops.lifetime_reports import DropReport, Fate, RetainReport
from casckpt.units import format_count
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
