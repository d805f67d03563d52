"""Looking at history: the log, one commit in full, runs, the store at a glance."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from casckpt.errors import (
    UsageError,
)
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId
from casckpt.format.marks import DAMAGED, NONFINITE, OF_LEAVES
from casckpt.odb.database import Database
from casckpt.odb.fold import all_marks
from casckpt.odb.journal import file_name
from casckpt.ops import lookup
from casckpt.ops.resolve import not_found, walk
from casckpt.ops.values import CommitInfo, RunInfo, Status
from casckpt.plan.names import head_ref, run_of, tracked_by
from casckpt.plan.ref_policy import CONFLICTS


def describe(
    database: Database,
    identity: CommitId,
    refs: dict[CommitId, list[str]] | None = None,
    commit: Commit | None = None,
) -> CommitInfo:
    """A commit as users see it.

    Args:
        refs: from `refs_by_commit`, where many commits are described.
        commit: what is stored under the id, where that was read already.
    """
    commit = database.commit(identity) if commit is None else commit
    if commit is None:
        raise not_found(database, identity.hex(), "the store has no such commit")
    names = (refs_by_commit(database) if refs is None else refs).get(identity, [])
    shown = tuple(_short(name, commit.run) for name in names)
    children = tuple(child.hex() for child in database.children(identity))
    marks = {key: database.mark(identity, key) for key in ("note", "pin", *OF_LEAVES)} if database.has_marks() else {}
    pin = marks.get("pin")
    if pin is not None and pin["until"] is not None and pin["until"] <= time.time_ns():
        marks["pin"] = None
    return info(identity, commit, database.added(identity), shown, children, database.drop(identity), **marks)


def info(
    identity: CommitId,
    commit: Commit,
    added: int | None,
    refs: tuple[str, ...],
    children: tuple[str, ...] = (),
    drop: Drop | None = None,
    note: str | None = None,
    pin: Mapping[str, Any] | None = None,
    nonfinite: Mapping[str, Any] | None = None,
    damaged: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """A commit as users see it, with what it does not know itself; the last four are values of marks."""
    return CommitInfo(
        id=identity.hex(),
        run=commit.run,
        step=commit.step,
        epoch=commit.epoch,
        kind=commit.kind,
        status=commit.status,
        time_ns=commit.time_ns,
        metrics=commit.metrics,
        message=commit.message,
        author=commit.author,
        parents=tuple(parent.hex() for parent in commit.parents),
        tree=commit.tree.hex(),
        nbytes=commit.nbytes,
        added=added,
        refs=refs,
        children=children,
        dropped=drop.rule if drop is not None and drop.parts is None else None,
        thinned=() if drop is None or drop.parts is None else drop.parts,
        schema=commit.schema,
        required=commit.required,
        note=note,
        pinned=pin is not None,
        pinned_until=None if pin is None else pin["until"],
        nonfinite=0 if nonfinite is None else nonfinite["leaves"],
        nonfinite_paths=() if nonfinite is None else tuple(nonfinite["paths"]),
        damaged=0 if damaged is None else damaged["leaves"],
        damaged_paths=() if damaged is None else tuple(damaged["paths"]),
    )


def refs_by_commit(database: Database) -> dict[CommitId, list[str]]:
    """Full names of refs by the commit they name."""
    found: dict[CommitId, list[str]] = {}
    for name, identity in database.refs().items():
        found.setdefault(identity, []).append(name)
    return found


def _short(ref: str, run: str) -> str:
    """A ref as one says it beside a commit of a run: its heads without the run, tags with `tag: `.

    One of a remote as `origin/last`, `origin/v1`; what lost one as `lost last`.
    """
    tracked = tracked_by(ref)
    if tracked is not None:
        return f"{tracked[0]}/{_short(tracked[1], run).removeprefix('tag: ')}"
    if ref.startswith(CONFLICTS):
        return f"lost {_short(ref.removeprefix(CONFLICTS).rpartition('/')[0], run).removeprefix('tag: ')}"
    head = run_of(ref)
    if head is None:
        return f"tag: {ref.removeprefix('tags/')}"
    return head[1] if head[0] == run else f"{head[0]}/{head[1]}"


def log(
    database: Database, revision: str | None = None, limit: int | None = None, where: str | None = None
) -> Iterator[CommitInfo]:
    """Commits newest first: those of a range, the ancestors of a revision, or of every ref and pin.

    Args:
        where: only those that a filter wants; they count towards the limit.

    Cost: one index look-up a commit and parent; nothing is read ahead of what the caller takes.
    """
    if limit is not None and limit < 0:
        raise UsageError(problem=f"limit must be 0 or more, not {limit}")
    line = ((identity, commit) for identity, commit, is_inside in walk(database, revision) if is_inside)
    refs = refs_by_commit(database)
    for identity, commit in islice(narrowed(database, line, where), limit):
        yield describe(database, identity, refs, commit)


def narrowed(
    database: Database, line: Iterator[tuple[CommitId, Commit]], where: str | None
) -> Iterator[tuple[CommitId, Commit]]:
    """The commits of a line that a filter wants; without a filter all."""
    if where is None:
        return line
    from casckpt.plan.filters import parse_filter  # a plain log starts without it

    tags: dict[CommitId, list[str]] = {}
    for name, identity in database.refs("tags/").items():
        tags.setdefault(identity, []).append(name.removeprefix("tags/"))
    return lookup.matching(line, parse_filter(where), tags, database.mark if database.has_marks() else None)


def require_tree(
    database: Database, identity: CommitId, may_lack: Callable[[str], bool] = lambda component: False
) -> Commit:
    """The commit, if its tree can be asked for: all of it, but for components that it may lack.

    Raises:
        CommitDropped, CommitThinned: by which rule and when.
    """
    commit = database.commit(identity)
    if commit is None:
        raise not_found(database, identity.hex(), "the store has no such commit")
    drop = database.drop(identity)
    lost = () if drop is None else database.lacking(identity)
    if drop is not None and (lost is None or not all(map(may_lack, lost))):
        from casckpt.ops.remains import refusal  # reads the tree, which no log needs

        raise refusal(database, identity, drop)
    return commit


def runs(database: Database) -> list[RunInfo]:
    """All runs, the one with the newest commit first. Cost: a few index look-ups a run."""
    database.refresh()
    refs = refs_by_commit(database)
    heads = [(run_of(name), identity) for name, identity in database.refs("runs/").items()]
    hit = _hit(database)
    found = [_run(database, head[0], identity, refs, hit) for head, identity in heads if head and head[1] == "last"]
    return sorted(found, key=lambda run: -run.last.time_ns)


def run_info(database: Database, name: str) -> RunInfo:
    """One run, which must be there."""
    last = database.ref(head_ref(name, "last"))
    assert last is not None, name
    return _run(database, name, last, refs_by_commit(database), _hit(database))


def _hit(database: Database) -> Counter[tuple[str, str]]:
    """How many commits of each run have a mark that names leaves, by run and key, without those that are dropped."""
    found: Counter[tuple[str, str]] = Counter()
    if not database.has_marks():
        return found
    for identity, key, _ in all_marks(database.tables):
        commit = database.commit(identity) if key in OF_LEAVES else None
        drop = database.drop(identity)
        if commit is not None and (drop is None or drop.parts is not None):
            found[commit.run, key] += 1
    return found


def _run(
    database: Database, name: str, last: CommitId, refs: dict[CommitId, list[str]], hit: Counter[tuple[str, str]]
) -> RunInfo:
    best = database.ref(head_ref(name, "best"))
    settings = database.run_settings(name)
    rule, ended = settings.get("best"), finished(settings)
    newest = describe(database, last, refs)
    status, at = (None, None) if ended is None or ended[1] < newest.time_ns else ended
    return RunInfo(
        name=name,
        commits=database.total(name)[0],
        last=newest,
        best=None if best is None else describe(database, best, refs),
        rule=":".join(rule) if rule else None,
        finished=status,
        finished_ns=at,
        nonfinite=hit[name, NONFINITE],
        damaged=hit[name, DAMAGED],
        health_gate=database.health_gate,
    )


def finished(settings: Mapping[str, Any]) -> tuple[str, int] | None:
    """(status, time) of a run that was said to have ended; a later commit makes that void."""
    ended = settings.get("finished")
    found = (ended.get("status"), ended.get("time")) if type(ended) is dict else (None, None)
    return found if [type(part) for part in found] == [str, int] else None  # type: ignore[return-value]


def status(database: Database) -> Status:
    """The store at a glance. Cost: an index scan of runs and packs."""
    found = runs(database)
    packs = list(database.pack_set())
    storage = database.storage
    space = storage.space()
    files = [storage.size(file_name(number)) or 0 for number in database.journal.files()]
    return Status(
        path=str(storage.path or "memory"),
        commits=sum(count for count, _ in database.totals().values()),
        packs=len(packs),
        stored=sum(pack.nbytes for pack in packs) + sum(files),
        logical=sum(nbytes for _, nbytes in database.totals().values()),
        free=None if space is None else space.free,
        runs=tuple(found),
        tags={name.removeprefix("tags/"): commit.hex() for name, commit in database.refs("tags/").items()},
        journal_seq=database.tail.position.seq,
    )
