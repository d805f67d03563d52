"""What went to a remote or came from it, and what is known of one, in lines. Every text of a remote is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from casckpt.ops.connecting import ProbeReport
from casckpt.ops.drill import DrillReport
from casckpt.ops.fetch_reports import FetchReport, PullReport
from casckpt.ops.line import OverTheLine
from casckpt.ops.push_reports import PushReport, RemoteMove
from casckpt.ops.remote_gc_reports import RemoteGcReport
from casckpt.ops.remote_log import RemoteChange, RemoteConflict
from casckpt.units import format_bytes, format_count
from casckpt.view import text as t
from casckpt.view.lifetime import leaving_cells
from casckpt.view.text import Cell, Look, safe


def push_lines(report: PushReport, look: Look) -> Iterator[str]:
    """The refs that moved there, and what was sent for them."""
    yield f"{look.paint(t.LABEL, safe(report.remote))}  {safe(report.url)}"
    yield from _moves_lines(report.moves, look)
    if not (report.moves or report.commits):
        yield "everything was there already"
    else:
        commits = t.plural(report.commits, "commit")
        sent = f"{t.plural(report.packs, 'pack')}, {format_bytes(report.nbytes)}"
        yield f"{'would push' if report.dry_run else 'pushed'} {commits}: {sent}{_resumed(report)}"
    yield _line(report, look, dry_run=report.dry_run)


def _resumed(report: PushReport) -> str:
    return f"; {t.plural(report.resumed, 'pack')} had been sent before" if report.resumed else ""


def fetch_lines(report: FetchReport, look: Look) -> Iterator[str]:
    """The refs that moved there since the last look, and what came."""
    yield f"{look.paint(t.LABEL, safe(report.remote))}  {safe(report.url)}"
    yield from _moves_lines(report.refs, look)
    yield _fetched_line(report, "would fetch" if report.dry_run else "fetched")
    yield _line(report, look)


def _fetched_line(report: FetchReport, verb: str) -> str:
    if report.refs or report.commits or report.whole or report.partial:
        return f"{verb} {_came(report)}"
    return "nothing new"


def _came(report: FetchReport) -> str:
    said = [f"{t.plural(report.commits, 'new commit')}: {format_bytes(report.nbytes)}"]
    for count, what in ((report.whole, "whole"), (report.partial, "in part"), (report.absent, "as a name")):
        if count:
            said.append(f"{format_count(count)} {what}")
    return ", ".join(said)


def pull_lines(report: PullReport, look: Look) -> Iterator[str]:
    """What a fetch says, and the runs and tags of this store that moved."""
    yield from fetch_lines(report.fetched, look)
    yield from _moved_here(report, look)


def applied_lines(report: PullReport, look: Look) -> Iterator[str]:
    """What came out of a bundle, and the runs and tags of this store that moved."""
    yield _fetched_line(report.fetched, "would take in" if report.fetched.dry_run else "took in")
    yield from _moved_here(report, look)


def _moved_here(report: PullReport, look: Look) -> Iterator[str]:
    verb = "would move" if report.fetched.dry_run else "moved"
    yield f"{verb} here" if report.moves else f"nothing {verb} here"
    yield from _moves_lines(report.moves, look)


def clone_lines(path: str, report: PullReport, look: Look) -> Iterator[str]:
    """What a new store was filled with, or would be."""
    yield from fetch_lines(report.fetched, look)
    verb = "would be" if report.fetched.dry_run else "is"
    yield f"{safe(path)} {verb} a store that knows this remote as {safe(report.fetched.remote)}"


def _moves_lines(moves: Iterable[RemoteMove], look: Look) -> Iterator[str]:
    """A line a ref: its name, from where to where, and what that is called."""
    rows = []
    for move in moves:
        if move.old is None:
            word, role = "new", t.ADDED
        elif move.new is None:
            word, role = "gone", t.REMOVED
        else:
            word, role = "moved", t.CHANGED
        ids = [look.id(one) for one in (move.old, move.new) if one is not None]
        rows.append([Cell(safe(move.ref), t.REF), Cell(f" {look.arrow} ".join(ids), t.ID), Cell(word, role)])
    yield from t.columns(rows, look, indent="  ")


def _line(report: OverTheLine, look: Look, *, dry_run: bool = False) -> str:
    """Requests, bytes and cost."""
    count = sum(report.requests.values())
    said = [f"{'about ' if dry_run else ''}{t.plural(count, 'request')}"]
    if report.up:
        said.append(f"{format_bytes(report.up)} up")
    if report.down:
        said.append(f"{format_bytes(report.down)} down")
    if report.cost is not None:
        said.append(f"about {dollars(report.cost)}")
    return look.paint(t.MUTED, ", ".join(said))


def dollars(cost: float) -> str:
    """A sum in dollars with two digits that say something."""
    return f"${cost:.2f}" if cost >= 1 else f"${cost:.2g}" if cost >= 1e-4 or not cost else "$0.0001 or less"


def probe_lines(report: ProbeReport, look: Look) -> Iterator[str]:
    """What a remote can do."""
    yield f"{look.paint(t.LABEL, safe(report.remote))}  {safe(report.url)}"
    rows = [
        ("can be written", report.writes, "fetch, pull and clone read from it"),
        ("creates a key once", report.creates_once, "only one machine may push there"),
        ("lets us delete", report.deletes, "remote gc needs that; pushes do not"),
    ]
    cells = []
    for what, is_so, otherwise in rows:
        if is_so is not None:
            word = Cell("yes", t.GOOD) if is_so else Cell("no", t.CHANGED)
            cells.append([Cell(what), word, Cell("" if is_so else otherwise, t.MUTED, cut=True)])
    yield from t.columns(cells, look, indent="  ")
    if report.leftover:
        yield f"left there, for a later gc of the remote: {safe(report.leftover)}"
    yield _line(report, look)


def remote_log_lines(changes: Iterable[RemoteChange], look: Look) -> Iterator[str]:
    """Who changed a remote when, and which refs moved, newest first."""
    for change in changes:
        by = f"{change.user}@{change.host}" if change.user else change.host
        head = [
            look.paint(t.LABEL, f"root {format_count(change.root)}"),
            look.paint(t.MUTED, look.when(change.time_ns)),
        ]
        yield "  ".join([*head, *(safe(one) for one in (by, change.tool) if one)])
        if change.note:
            yield f"  {safe(change.note)}"
        if change.is_oldest:
            yield look.paint(t.MUTED, "  the oldest root that is kept")
        said = [f"{t.plural(count, 'file')} {what}" for count, what in _counted(change) if count]
        if change.dropped:
            said.insert(0, f"{t.plural(len(change.dropped), 'commit')} dropped")
        if said:
            yield f"  {', '.join(said)}"
        yield from _moves_lines(change.moves, look)


def _counted(change: RemoteChange) -> tuple[tuple[int, str], ...]:
    return (change.condemned, "condemned"), (change.removed, "removed")


def conflicts_lines(conflicts: Sequence[RemoteConflict], look: Look) -> Iterator[str]:
    """A line a commit that lost: what it lost, when, and who had pushed it."""
    rows = [
        [
            Cell(look.id(one.commit), t.ID),
            Cell(f"lost {safe(one.of)}", t.REF),
            Cell(look.when(one.time_ns), t.MUTED),
            Cell(safe(one.by), cut=True),
        ]
        for one in conflicts
    ]
    yield from t.columns(rows, look)


def remote_gc_lines(report: RemoteGcReport, look: Look) -> Iterator[str]:
    """What the remote lets go of, and what was removed."""
    plan = report.plan
    if plan.commits:
        yield from t.columns((leaving_cells(commit, look) for commit in plan.commits), look)
    would = "would be " if report.dry_run else ""
    yield f"{t.plural(plan.packs, 'pack')} {would}condemned: {format_bytes(plan.pack_bytes)}"
    if plan.rewrites:
        yield f"{t.plural(plan.rewrites, 'pack')} {would}written again: {format_bytes(plan.rewrite_bytes)} to send"
    if plan.orphans:
        what = t.plural(plan.orphans, "file")
        yield f"{what} of interrupted pushes {would}condemned: {format_bytes(plan.orphan_bytes)}"
    if plan.young:
        yield f"{t.plural(plan.young, 'file')} may belong to a push that goes on, and wait"
    if report.removed:
        yield f"{t.plural(report.removed, 'file')} removed: {format_bytes(report.nbytes)}"
    if report.condemned and not report.dry_run:
        yield f"{t.plural(report.condemned, 'file')} wait to be removed, by a gc an hour from now or after"
    yield f"{t.plural(plan.kept_packs, 'pack')} stay: {format_bytes(plan.kept_bytes)}"
    yield _line(report, look)


def drill_lines(report: DrillReport, look: Look) -> Iterator[str]:
    """Each commit that was tried, and whether it came back whole."""
    rows = []
    for one in report.commits:
        mark = Cell("whole", t.GOOD) if one.problem is None else Cell("lost", t.BAD)
        step = "" if one.step is None else f"step {format_count(one.step)}"
        when = "" if one.time_ns is None else look.when(one.time_ns)
        what = format_bytes(one.nbytes) if one.problem is None else safe(one.problem)
        rows.append(
            [mark, Cell(look.id(one.id), t.ID), Cell(safe(one.run or "")), Cell(step), Cell(when, t.MUTED), Cell(what)]
        )
    yield from t.columns(rows, look)
    bad = sum(one.problem is not None for one in report.commits)
    of = f"{t.plural(len(report.commits), 'commit')} of {format_count(report.whole)}"
    outcome = f"{t.plural(bad, 'commit')} cannot be restored" if bad else "every byte is what was pushed"
    yield f"{of} read back, {format_bytes(report.nbytes)}: {outcome}"
    again = f"--seed {report.seed} draws the same again"
    yield look.paint(t.MUTED, again)
    yield _line(report, look)
