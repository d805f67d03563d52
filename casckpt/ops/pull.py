"""pull: fetch, and then take the runs and tags of this store to where those of the remote are.

    fetch, complete and durable -> refs settled under the journal lock -> one frame

The refs move in an entry of their own, after everything that they name: whatever ends a pull between the two leaves
what was fetched, and the next one goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from casckpt.errors import Diverged, NotFastForward
from casckpt.format import pack as p
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId, Kind
from casckpt.format.remote import RemoteRef
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.fetch import Fetched, fetch_all
from casckpt.ops.fetch_choice import Selection
from casckpt.ops.fetch_reports import PullReport, moved
from casckpt.ops.publishing import as_if, publish
from casckpt.ops.push_refs import RefPlan
from casckpt.ops.resolve import current_run
from casckpt.ops.values import Progress
from casckpt.plan.ref_policy import CONFLICTS
from casckpt.remote.reading import CONCURRENCY
from casckpt.storage.objects import Objects

PullPolicy = Literal["ff", "newest"]


def pull(
    repository: Repository,
    objects: Objects,
    name: str,
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    policy: PullPolicy = "ff",
    depth: int | None = None,
    only: Sequence[str] | None = None,
    dry_run: bool = False,
    accept_rollback: bool = False,
    progress: Progress | None = None,
    concurrency: int = CONCURRENCY,
) -> PullReport:
    """Fetch runs and tags, and move those of this store to where they are there.

    Args:
        objects, name, depth, only, dry_run, accept_rollback, progress, concurrency: as of `fetch`.
        names: of runs, tags and refs of the remote; none for the current run, or all of them where there is none yet.
        everything: all runs and tags.
        policy: what becomes of a ref that has gone on both sides: `ff` refuses, `newest` takes the newer and keeps the
            other as `conflicts/...`.

    Raises:
        Diverged: a ref has gone on both sides; what was fetched stays, and no ref of this store was moved.
        and what `fetch` raises.
    """
    if not everything and not names:
        repository.database.refresh()
        run = current_run(repository.database)
        names = () if run is None else (run,)
    fetched = fetch_all(
        repository,
        objects,
        name,
        Selection(names=() if everything else names, depth=depth, only=only),
        dry_run=dry_run,
        concurrency=concurrency,
        accept_rollback=accept_rollback,
        progress=progress,
    )
    return move_refs(repository, fetched, policy=policy)


def move_refs(repository: Repository, fetched: Fetched, *, policy: PullPolicy) -> PullReport:
    """Move the runs and tags of the store to where a fetch found them.

    Raises:
        Diverged: one has gone on both sides; none was moved.
    """
    database, report = repository.database, fetched.report
    database.refresh()
    known = _with_commits(database, fetched.fresh) if report.dry_run else database

    def settle() -> Entry:
        moves = _moves(known, fetched, policy)
        return Entry("pull", time.time_ns(), refs=moves, by=writer_name(), note=f"from {report.remote}")

    entry, number = settle(), None
    if entry.refs and not report.dry_run:
        number, entry = publish(repository, settle, dry_run=False)
    moves = tuple(moved(*move) for move in entry.refs)
    return PullReport(report, moves, number)


def _moves(database: Database, fetched: Fetched, policy: PullPolicy) -> tuple[RefMove, ...]:
    """The refs of the store that move.

    The policies are those of a push the other way round: what is there is brought to what is here.
    """
    root = fetched.view.root
    if root is None:
        return ()
    here = {name: commit for name, commit in database.refs().items() if name.startswith(_OWN)}
    there = {name: commit for name, commit in fetched.refs.items() if not name.startswith(CONFLICTS)}
    refs = {name: RemoteRef(commit, 0, "") for name, commit in here.items()}
    settings = dict(database.all_run_settings())
    plan = RefPlan(database, fetched.view, there, policy, {}, mirror=False)
    try:
        wanted = plan.refs(replace(root, refs=refs, runs=settings))
    except NotFastForward as refused:
        facts = refused.facts
        raise Diverged(**{**facts, "ours": facts["theirs"], "theirs": facts["ours"]}) from None
    names = sorted(here.keys() | wanted.keys())
    return tuple(RefMove(one, here.get(one), wanted.get(one)) for one in names if here.get(one) != wanted.get(one))


_OWN = ("runs/", "tags/", CONFLICTS)


def _with_commits(database: Database, commits: Mapping[CommitId, bytes]) -> Database:
    """The database as if it had some more commits, for a look."""
    objects = tuple(
        (p.Record(identity, 0, len(data), len(data), Kind.COMMIT), data) for identity, data in commits.items()
    )
    return as_if(database, Entry("fetch", 0, objects=objects))
