"""drop: commits lose their state, or some components of it. Their place in history stays, and nothing is deleted yet.

what is named or filtered -> what holds none of it -> one entry under the journal lock
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from casckpt.errors import NotFoundError, UsageError
from casckpt.format.commit import Commit
from casckpt.format.entry import Entry
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.history import describe, narrowed, refs_by_commit
from casckpt.ops.lifetime_reports import DropReport, Spared
from casckpt.ops.losses import Components, Loss, Records, held, is_lost, protection, records_of
from casckpt.ops.publishing import as_if, publish
from casckpt.ops.resolve import not_found, resolve, walk
from casckpt.plan.names import is_text
from casckpt.plan.revision import parse_range
from casckpt.state.select import compile_patterns

BY_HAND = "by hand"


def drop(
    repository: Repository,
    revisions: Sequence[str],
    *,
    where: str | None = None,
    parts: Sequence[str] | None = None,
    dry_run: bool = False,
) -> DropReport:
    """Drop commits, or thin them of components, as one operation.

    Args:
        revisions: names of commits, and ranges; none together with `where` for all commits that refs and pins lead to.
        where: only those that a filter wants. It passes over what a name or a pin holds, and the report tells it.
        parts: patterns of the components to lose; the root component always stays.

    Raises:
        CommitProtected: something holds a commit that was named without a filter; nothing was changed.
        NotFoundError: no commit has a component that the patterns fit.
        UsageError: neither revisions nor a filter.
    """
    if not revisions and where is None:
        raise UsageError(problem="drop takes revisions, a filter, or both")
    patterns = None if parts is None else tuple(parts)
    database = repository.database
    database.refresh()
    chosen = chosen_commits(database, revisions, where)
    wanted = _losses(database, chosen, patterns)
    already = [loss.commit for loss in wanted if is_lost(database.drop(loss.commit), loss.parts)]
    gone = set(already)
    losses = [loss for loss in wanted if loss.commit not in gone]
    spared: dict[CommitId, tuple[str, ...]] = {}
    made: list[Records] = []

    def settle() -> Entry:
        # Again under the lock: a name given meanwhile holds its commit too.
        holding = held(database)
        spared.clear()
        spared.update({loss.commit: holding[loss.commit] for loss in losses if loss.commit in holding})
        if spared and where is None:
            raise protection(spared)
        now_ns = time.time_ns()
        made.append(records_of(database, (loss for loss in losses if loss.commit not in spared), now_ns))
        return Entry("drop", now_ns, drops=made[-1].drops, by=writer_name())

    number: int | None = None
    entry = settle()
    if entry.drops:
        number, entry = publish(repository, settle, dry_run=dry_run)
    view = as_if(database, entry) if dry_run else database
    refs = refs_by_commit(view)
    return DropReport(
        dropped=tuple(describe(view, identity, refs) for identity in made[-1].commits),
        already=tuple(identity.hex() for identity in already),
        spared=tuple(Spared(describe(view, identity, refs), why) for identity, why in spared.items()),
        rule=BY_HAND,
        parts=patterns,
        left=made[-1].left,
        operation=None if dry_run else number,
        dry_run=dry_run,
    )


def chosen_commits(database: Database, revisions: Sequence[str], where: str | None) -> list[tuple[CommitId, Commit]]:
    """The commits that revisions and ranges name and a filter wants, newest first."""
    found: dict[CommitId, Commit] = {}
    for revision in revisions:
        if is_text(revision) and parse_range(revision) is not None:
            found |= {identity: commit for identity, commit, is_inside in walk(database, revision) if is_inside}
        else:
            identity = resolve(database, revision)
            commit = database.commit(identity)
            if commit is None:
                raise not_found(database, revision, "the store has no such commit")
            found[identity] = commit
    line = iter(found.items()) if revisions else ((one, commit) for one, commit, _ in walk(database, None))
    return sorted(narrowed(database, line, where), key=lambda one: (-one[1].time_ns, one[0]))


def _losses(
    database: Database, chosen: Sequence[tuple[CommitId, Commit]], patterns: tuple[str, ...] | None
) -> list[Loss]:
    if patterns is None:
        return [Loss(identity, None, BY_HAND) for identity, _ in chosen]
    wants = compile_patterns(patterns)
    components = Components(database)
    found: list[Loss] = []
    for identity, commit in chosen:
        before = database.drop(identity)
        is_gone = before is not None and before.parts is None  # and its tree with it
        lost = () if is_gone else tuple(sorted(name for name in components.of(identity, commit) if wants(name)))
        found += [Loss(identity, lost, BY_HAND)] if lost or is_gone else []
    if chosen and not found:
        raise NotFoundError(thing=f"a component that fits {' or '.join(map(repr, patterns))} in these commits")
    return found
