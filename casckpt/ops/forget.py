"""forget: commits are known no more, with all that they said and held. For secrets that got in; nothing brings it back.

what is named -> one entry under the journal lock: marks, and every name of theirs gone -> their bytes (`purge`)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from casckpt.errors import CommitNamed, LostFrames, UsageError
from casckpt.format.commit import Commit
from casckpt.format.entry import FORGOTTEN, Entry, Mark, RefMove
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.odb.fold import all_marks
from casckpt.odb.renames import name_now
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.collect import WAIT_S
from casckpt.ops.history import describe, refs_by_commit
from casckpt.ops.lifetime_reports import ForgetReport, HeadMove
from casckpt.ops.lookup import pinned
from casckpt.ops.losses import protection
from casckpt.ops.publishing import as_if, publish
from casckpt.ops.purge import preview, purge
from casckpt.ops.resolve import not_found, resolve, walk
from casckpt.ops.values import Progress
from casckpt.plan.names import head_ref, is_text, run_of, tag_ref, tracked_by
from casckpt.plan.revision import parse_range
from casckpt.plan.settle import heads_among


def forget(
    repository: Repository,
    names: Sequence[str],
    *,
    force: bool = False,
    dry_run: bool = False,
    wait_s: float = WAIT_S,
    progress: Progress | None = None,
) -> ForgetReport:
    """Forget commits, and remove their bytes.

    Args:
        names: runs, each with all its commits, settings and former names; commits; ranges. None to remove the bytes of
            what was forgotten before, where something was in the way then.
        force: also what a tag, a pin or a head of a run that goes on holds.
        wait_s: for how long to wait for commits that are being written.
        progress: called with the bytes of packs that were written again and read back, and all of them twice.

    Raises:
        CommitNamed: something holds a commit; nothing was changed.
        ForgetUnfinished: the commits are forgotten, and something is in the way of removing their bytes.
        LostFrames, UnreadableCommit: nobody knows what other commits need. In the first case nothing was changed.
    """
    database = repository.database
    database.refresh()
    if database.gaps():
        raise LostFrames
    wanted = _wanted(database, names)
    refs = refs_by_commit(database)
    told = tuple(describe(database, identity, refs, commit) for identity, commit in _newest_first(wanted.commits))
    children = 0

    def settle() -> Entry:
        nonlocal wanted, children
        if wanted.place != database.tail.position.seq:
            wanted = _wanted(database, names)  # a run that goes on may have gained commits
        children = len({child for one in wanted.commits for child in database.children(one)} - wanted.commits.keys())
        return _entry(database, wanted, force=force)

    entry = Entry("forget", 0)
    if wanted.commits or wanted.runs:
        _, entry = publish(repository, settle, dry_run=dry_run)
    done = preview(database, as_if(database, entry)) if dry_run else purge(repository, wait_s=wait_s, progress=progress)
    moves = {move.name: move.new for move in entry.refs}
    return ForgetReport(
        forgotten=told,
        runs=tuple(sorted(wanted.runs)),
        refs=tuple(HeadMove(name, None if now is None else now.hex()) for name, now in moves.items()),
        pins=tuple(commit.id for commit in told if commit.pinned),
        children=children,
        purge=done,
        dry_run=dry_run,
    )


class _Wanted(NamedTuple):
    """What is to be forgotten, and the place in the journal where that was so."""

    commits: dict[CommitId, Commit]
    runs: frozenset[str]
    place: int


def _wanted(database: Database, names: Sequence[str]) -> _Wanted:
    runs: set[str] = set()
    found: dict[CommitId, Commit] = {}
    for name in names:
        run = _run_named(database, name)
        if run is not None:
            runs.add(run)
        elif is_text(name) and parse_range(name) is not None:
            found |= {identity: commit for identity, commit, is_inside in walk(database, name) if is_inside}
        else:
            identity = resolve(database, name)
            commit = database.commit(identity)
            if commit is None:
                raise not_found(database, name, "the store has no such commit")
            found[identity] = commit
    if runs:
        found |= {identity: commit for identity, commit in database.commits() if commit.run in runs}
    return _Wanted(found, frozenset(runs), database.tail.position.seq)


def _run_named(database: Database, name: str) -> str | None:
    """The run that a name means as a whole; None for anything else."""
    if not is_text(name):
        return None
    run = name.removeprefix("runs/")
    if database.ref(head_ref(run, "last")) is None and not database.total(run)[0]:
        return None
    if run == name and database.ref(tag_ref(name)) is not None:
        problem = f"{name!r} is a run and a tag: say runs/{name} for the run, tags/{name} for what the tag names"
        raise UsageError(problem=problem)
    return run


def _newest_first(commits: Mapping[CommitId, Commit]) -> list[tuple[CommitId, Commit]]:
    return sorted(commits.items(), key=lambda one: (-one[1].time_ns, one[0]))


def _entry(database: Database, wanted: _Wanted, *, force: bool) -> Entry:
    """The one step by which commits are forgotten. It does not say what was so before: that is to be gone too.

    Raises:
        CommitNamed: something holds one of them, and that does not go along.
    """
    moves, held = list[RefMove](), dict[CommitId, list[str]]()
    for name, identity in database.refs().items():
        head = run_of(name)
        if head is not None and head[0] in wanted.runs:
            moves.append(RefMove(name, identity, None))
        elif tracked_by(name) is not None:
            moves += [RefMove(name, identity, None)] if identity in wanted.commits else []
        elif identity in wanted.commits:
            words = f"tag {name.removeprefix('tags/')}" if head is None else f"{head[1]} of {head[0]}"
            held.setdefault(identity, []).append(words)
            if head is None:
                moves.append(RefMove(name, identity, None))
    for identity in pinned(database):
        if identity in wanted.commits:
            held.setdefault(identity, []).append("pinned")
    if held and not force:
        raise protection(held, CommitNamed)
    return Entry(
        "forget",
        time.time_ns(),
        refs=(*moves, *_moved_heads(database, wanted)),
        runs=_settings(database, wanted.runs),
        marks=(*_marks(database, wanted.commits),),
        by=writer_name(),
    )


def _moved_heads(database: Database, wanted: _Wanted) -> Iterator[RefMove]:
    """Heads of runs that go on without the commits they name: to what is left of the run."""
    lost: dict[str, dict[str, CommitId]] = {}
    for name, identity in database.refs("runs/").items():
        head = run_of(name)
        if head is not None and head[0] not in wanted.runs and identity in wanted.commits:
            lost.setdefault(head[0], {})[head[1]] = identity
    if not lost:
        return
    left: dict[str, list[tuple[CommitId, Commit]]] = {run: [] for run in lost}
    for identity, commit in database.commits():
        drop = database.drop(identity)
        is_whole = drop is None or drop.parts is not None
        if commit.run in lost and identity not in wanted.commits and is_whole:
            left[commit.run].append((identity, commit))
    for run, heads in lost.items():
        settings = database.run_settings(run)
        fit = heads_among([one for one in left[run] if not _is_unfit(database, one[0])], settings)
        fit |= {"last": last} if (last := heads_among(left[run], settings).get("last")) is not None else {}
        for name, identity in heads.items():
            yield RefMove(head_ref(run, name), identity, fit.get(name))


def _is_unfit(database: Database, identity: CommitId) -> bool:
    """Whether a commit has recorded damage or non-finite weights: best and recovery never move to such a one."""
    return any(database.mark(identity, key) is not None for key in ("damaged", "nonfinite"))


def _settings(database: Database, runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What takes away the settings of runs, and the renames that lead to them."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        settings = database.run_settings(run)
        found |= {run: {key: None for key in settings if key != "renamed"}} if settings else {}
    renames = database.renames()
    for former, pairs in renames.items():
        kept = [[at, name] for at, name in pairs if name_now(former, at, renames) not in runs]
        if len(kept) < len(pairs):
            found.setdefault(former, {})["renamed"] = kept or None
    return {run: settings for run, settings in found.items() if settings}


def _marks(database: Database, commits: Mapping[CommitId, Commit]) -> Iterator[Mark]:
    """Every mark of the commits away, and the one that says they are forgotten."""
    for identity, key, _ in list(all_marks(database.tables)):
        if identity in commits:
            yield Mark(identity, key, None, None)
    for identity, commit in commits.items():
        yield Mark(identity, FORGOTTEN, None, {"parents": list(commit.parents), "left": True})
