"""Removing the bytes of forgotten commits: from the journal, from packs, from the index and from trash/.

    seal the journal, remove its older files -> write packs again without what nothing needs -> collect -> new index

The marks are durable before, so whatever ends the work, it is begun anew, and each step finds what is left to do. No
matter whose object it is, nothing that is not needed stays: what only a forgotten commit had cannot be told any more
once its tree is gone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from casckpt.errors import BusyError, CasckptError, ForgetUnfinished, LostFrames
from casckpt.format.canonical import encode
from casckpt.format.commit import Commit
from casckpt.format.entry import FORGOTTEN, Entry, Mark, PackRef
from casckpt.format.ids import PackId
from casckpt.odb import locks
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.journal import file_name
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository, writer_name
from casckpt.odb.seal import seal
from casckpt.ops.collect import WAIT_S, Collector, Survey, survey_of
from casckpt.ops.kept_policy import kept_policies
from casckpt.ops.lifetime_reports import Purge
from casckpt.ops.marks import Leaving, leaving, mark
from casckpt.ops.publishing import publish
from casckpt.ops.reach import Reach
from casckpt.ops.rewrite import candidates, rewrite
from casckpt.ops.values import Progress
from casckpt.plan.hints import commits_of
from casckpt.plan.reclaim import PackRecords
from casckpt.plan.rewriting import batches

ROUNDS = 5
"""So often packs are written again, where commits that came meanwhile need something of those that were to go."""


def purge(repository: Repository, *, wait_s: float = WAIT_S, progress: Progress | None = None) -> Purge:
    """Remove what may be left of forgotten commits; does nothing if that is done.

    Args:
        wait_s: for how long to wait for committers.
        progress: of writing packs again.

    Raises:
        ForgetUnfinished: something is in the way; what was done is done.
        LostFrames, UnreadableCommit: nobody knows what is needed, so no pack was removed.
        StorageError: the disk failed or is full.
    """
    database = repository.database
    database.refresh()
    pending = {identity for identity, one in database.forgotten().items() if one.left}
    if not pending:
        return Purge()
    if database.gaps():
        raise LostFrames
    numbers, nbytes = _renew_journal(repository)
    try:
        packs = _renew_packs(repository, wait_s, progress)
    except BusyError as busy:
        raise ForgetUnfinished(count=len(pending), problem=f"{busy.summary}; {busy.reason}") from busy
    if packs.left:
        problem = f"{', '.join(packs.left)} cannot be read as a whole; casckpt fsck --repair heals what it can"
        raise ForgetUnfinished(count=len(pending), problem=problem)
    _empty_trash(repository)
    repository.rebuild_index()

    def settle() -> Entry:
        known = {identity: list(one.parents) for identity, one in database.forgotten().items() if identity in pending}
        marks = (
            Mark(identity, FORGOTTEN, {"parents": parents, "left": True}, {"parents": parents, "left": False})
            for identity, parents in known.items()
        )
        return Entry("forget", time.time_ns(), marks=tuple(marks), by=writer_name())

    publish(repository, settle, dry_run=False)
    return Purge(len(numbers), nbytes, packs.removed, packs.written, packs.freed + nbytes)


def _renew_journal(repository: Repository) -> tuple[list[int], int]:
    """Begin a journal file that says what is so now, and remove all others; their numbers and bytes."""
    database, storage = repository.database, repository.storage
    # The session keeps a collector away from the pack that sealing writes.
    with repository.session(), locks.journaling(storage), database.mutex:
        database.refresh()
        seal(database, uuid=repository.format.uuid, time_ns=time.time_ns(), by=writer_name())
        active = database.tail.position.file
        nbytes = sum(storage.size(file_name(number)) or 0 for number in database.journal.files() if number < active)
        numbers = database.journal.remove_before(active)
        database.packs.let_go(file_name(number) for number in numbers)
    database.absorb()
    return numbers, nbytes


class _Packs(NamedTuple):
    """What became of packs; `left` are those that could not be written again."""

    removed: int = 0
    written: int = 0
    freed: int = 0
    left: tuple[str, ...] = ()


def _renew_packs(repository: Repository, wait_s: float, progress: Progress | None) -> _Packs:
    """Leave no pack that holds anything nothing needs, or speaks of a commit that is not there."""
    database = repository.database
    now_ns = time.time_ns()

    def is_over(one: Leaving) -> bool:
        return one.final_ns <= now_ns

    collector = Collector(repository, kept_policies(database).grace_ns, wait_s)
    total = _Packs()
    for _ in range(ROUNDS):
        survey = collector.survey(is_over=is_over)
        wanted_hints = known_hints(database)
        unwanted = tainted(database, survey, wanted_hints)
        given = [one for one in candidates(database, survey.reclaim.uses, unwanted) if one.must]
        done = rewrite(repository, survey.marks.needed, given, wanted_hints=wanted_hints, progress=progress)
        collector.proven.update(pack.id for pack in done.made)
        removed = collector.collect(collector.survey(is_over=is_over))
        database.refresh()
        total = _Packs(
            total.removed + len(removed.packs),
            total.written + len(done.made),
            total.freed + removed.nbytes - sum(pack.nbytes for pack in done.made),
            tuple(pack_name(one) for one in sorted(unwanted) if database.has_pack(one)),
        )
        damaged = {*done.damaged, *(pack_name(pack.id) for pack in survey.unreadable)}
        if damaged.issuperset(total.left):
            break
    return total


def preview(database: Database, view: Database) -> Purge:
    """What a purge would do if the store were as a view of it says. Errors as for `purge`."""
    now_ns = time.time_ns()
    marks = mark(Reach(view), view, leaving(view, kept_policies(database).grace_ns), lambda one: one.final_ns <= now_ns)
    records, unreadable = dict[PackId, PackRecords](), list[PackRef]()
    for pack in sorted(database.pack_set()):
        try:
            records[pack.id] = PackRecords.of(pack, *database.packs.columns(pack))
        except (CasckptError, FileNotFoundError):
            unreadable.append(pack)
    survey = survey_of(marks, records, tuple(unreadable))
    unwanted = tainted(view, survey, known_hints(view))
    going = [use for use in survey.reclaim.uses if use.goes or use.pack.id in unwanted]
    written = [one for one in candidates(database, survey.reclaim.uses, unwanted) if one.must]
    numbers = database.journal.files()
    nbytes = sum(database.storage.size(file_name(number)) or 0 for number in numbers)
    freed = sum(use.pack.nbytes for use in going) - sum(one.needed for one in written)
    return Purge(len(numbers), nbytes, len(going), len(batches(written)), freed + nbytes)


def tainted(database: Database, survey: Survey, wanted_hints: Callable[[Mapping[str, Any]], bool]) -> set[PackId]:
    """Packs that hold an object nothing needs, or hints of a commit that is not there, or cannot be read.

    Cost: reads the footers of all packs.
    """
    found = {pack.id for pack in survey.unreadable}
    for use in survey.reclaim.uses:
        speaks = (not wanted_hints(one) for one in commits_of(database.packs.hints(use.pack)))
        if use.needed < use.records or any(speaks):
            found.add(use.pack.id)
    return found


def known_hints(database: Database) -> Callable[[Mapping[str, Any]], bool]:
    """Tells whether what a pack says of a commit fits one that the store knows.

    Cost: looks at all commits, and keeps what packs say of each.
    """
    known: set[bytes] = set()
    for _, value in database.tables.scan(t.COMMITS):
        # The commit as it was written: a run may have another name by now.
        commit = Commit.decode(t.decode_commit(value)[1])
        known.add(_print(commit.run, commit.step, commit.metrics))

    def is_known(said: Mapping[str, Any]) -> bool:
        return _print(said.get("run"), said.get("step"), said.get("metrics")) in known

    return is_known


def _print(run: Any, step: Any, metrics: Any) -> bytes:
    return encode([run, step, dict(metrics) if isinstance(metrics, Mapping) else {}])


def _empty_trash(repository: Repository) -> None:
    """Remove copies of damaged files: nobody can say whose bytes they hold."""
    storage = repository.storage
    for name in storage.list("trash"):
        with contextlib.suppress(CasckptError, FileNotFoundError):
            storage.unlink(f"trash/{name}")
    storage.sync_dir("trash")
