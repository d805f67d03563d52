"""Healing a store: nothing whole is ever removed, damaged files go to trash/, and one frame makes each change real."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from casckpt.errors import CasckptError, DamagedObject, FormatError, IntegrityError
from casckpt.format import pack as p
from casckpt.format.codec import compress
from casckpt.format.commit import Commit
from casckpt.format.entry import Entry, Mark, PackRef, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, PackId, TreeId, object_id, short_id
from casckpt.format.marks import DAMAGED, leaves_mark
from casckpt.odb import locks
from casckpt.odb.database import Database
from casckpt.odb.fold import mark_of
from casckpt.odb.journal import file_name
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.lookup import marked
from casckpt.ops.strays import quarantine
from casckpt.ops.survey import Survey
from casckpt.plan.hints import commits_of
from casckpt.plan.names import tag_ref

MARKS_AT_ONCE = 1_000
"""Marks in one entry: with the longest paths a quarter of a frame."""
_LOST = (DamagedObject, IntegrityError, FormatError, FileNotFoundError)


def heal(repository: Repository, survey: Survey) -> dict[str, str]:
    """Repair what a survey found; returns what was done, by file.

    Damaged packs are rewritten from their whole objects and from second copies of the others; packs that a damaged
    journal lost are taken back in, with a tag for the commit their hints describe; the index is built anew.
    """
    done: dict[str, str] = {}
    for pack in survey.bad_packs:
        done[pack_name(pack.id)] = _replace_pack(repository, pack)
    if survey.gaps:
        for name in survey.unlisted:
            outcome = _take_in(repository, name)
            if outcome:
                done[f"packs/{name}"] = outcome
        # The damage itself stays where it is; the entry says that its consequences have been dealt with.
        gaps = [list(gap) for gap in survey.gaps]
        _append(repository, Entry("repair", time.time_ns(), by=writer_name(), extra={"gaps": gaps}))
        done |= {file_name(gap[0]): "gone over: packs it had lost were taken back in" for gap in survey.gaps}
    repository.rebuild_index()
    return done


def note_damage(
    repository: Repository, survey: Survey, *, full: bool
) -> tuple[tuple[CommitId, ...], tuple[CommitId, ...]]:
    """Mark the commits that are damaged after a repair, and take the mark from those that are whole again.

    Args:
        survey: what was found after the repair.
        full: whether every byte was read; else nothing is taken away, and no mark is replaced.

    Returns:
        The commits that have a mark from now on, and those that have none any more.
    """
    database = repository.database
    known = marked(database, DAMAGED)
    wanted: dict[CommitId, Any] = {}
    for identity, leaves in survey.hit.items():
        value = leaves_mark(leaves)
        if identity not in known or (full and known[identity] != value):
            wanted[identity] = value
    if full:
        # Only what was looked at as a whole: of a dropped or thinned commit nobody knows.
        whole = [one for one in known if one not in survey.hit and database.has_commit(one) and not database.drop(one)]
        wanted |= dict.fromkeys(whole)
    pairs = list(wanted.items())
    for start in range(0, len(pairs), MARKS_AT_ONCE):
        with repository.session() as session:
            session.publish(partial(_marks, database, pairs[start : start + MARKS_AT_ONCE]))
    fresh, cleared = (one for one in wanted if one not in known), (one for one in wanted if wanted[one] is None)
    return tuple(sorted(fresh)), tuple(sorted(cleared))


def _marks(
    database: Database, wanted: Iterable[tuple[CommitId, Any]]
) -> tuple[Entry, list[tuple[ObjectId, Kind, bytes]]]:
    marks = [Mark(one, DAMAGED, mark_of(database.tables, one, DAMAGED), value) for one, value in wanted]
    return Entry("repair", time.time_ns(), marks=tuple(marks), by=writer_name()), []


def _replace_pack(repository: Repository, pack: PackRef) -> str:
    """Write what can be read of a pack into a new one, swap them in one frame, and quarantine the old file."""
    database = repository.database
    with locks.committing(database.storage):
        try:
            records = database.packs.records(pack)
        except _LOST:
            records = []
        new, lost = _copy_readable(database, pack, records)
        _append(repository, Entry("repair", time.time_ns(), packs=tuple(new), gone=(pack.id,), by=writer_name()))
        quarantine(database, pack_name(pack.id))
    kept = len(records) - lost
    return f"{kept} of {len(records)} objects kept in a new pack" if new else "given up: nothing in it can be read"


def _copy_readable(database: Database, pack: PackRef, records: list[p.Record]) -> tuple[list[PackRef], int]:
    writer: PackWriter | None = None
    lost = 0
    try:
        for record in records:
            plain = _any_copy(database, pack, record)
            if plain is None:
                lost += 1
                continue
            codec, stored = (0, plain) if record.kind == Kind.CHUNK else compress(plain)
            check = p.check_of(codec, record.id, record.kind, stored)
            fresh = p.Record(
                record.id, 0, len(plain), len(stored), record.kind, codec, record.element, record.flags, check
            )
            writer = writer or PackWriter(database.storage)
            writer.add(fresh, stored)
            writer.end_leaf()
        if writer is None:
            return [], lost
        done, writer = writer, None
        return [done.finish({"repaired": pack.id})], lost
    finally:
        if writer is not None:
            writer.abandon()


def _any_copy(database: Database, pack: PackRef, record: p.Record) -> bytes | None:
    """Plain bytes of an object from this pack or any other file, None if no copy is whole."""
    places = [(pack_name(pack.id), record)]
    with contextlib.suppress(CasckptError):
        return bytes(database.packs.read_record(*places[0]))
    for name, other in database.copies(record.id):
        with contextlib.suppress(CasckptError):
            return bytes(database.packs.read_record(name, other))
    return None


def _take_in(repository: Repository, name: str) -> str | None:
    """List a pack that lost its frame, and tag the commits that its hints describe; None if it is no whole pack."""
    database = repository.database
    try:
        identity = PackId(bytes.fromhex(name.removesuffix(".pack")))
        contents = database.packs.contents(identity)
    except (*_LOST, ValueError):
        return None
    size = database.storage.size(f"packs/{name}") or 0
    entry = Entry("repair", time.time_ns(), packs=(PackRef(identity, size),), by=writer_name())
    told = commits_of(contents.hints)
    commits = [commit for commit in map(_from_hints, told) if commit is not None]
    if len(told) > 1:  # it was made of several packs, whose commits have frames of their own
        trees = {commit.tree for _, commit in database.commits()}
        commits = [commit for commit in commits if commit.tree not in trees]
    datas = {CommitId(object_id(Kind.COMMIT, data)): data for data in (commit.encode() for commit in commits)}
    labels = {identity: f"recovered-{short_id(identity)}" for identity in datas}
    moves = tuple(RefMove(tag_ref(label), None, identity) for identity, label in labels.items())
    _append(repository, replace(entry, refs=moves), *((one, Kind.COMMIT, data) for one, data in datas.items()))
    said = "its commit has the tag" if len(labels) == 1 else "its commits have the tags"
    return f"taken back into the pack set{f'; {said} ' if labels else ''}{', '.join(labels.values())}"


def _from_hints(hints: dict[str, Any]) -> Commit | None:
    tree, run, step, time_ns = (hints.get(key) for key in ("tree", "run", "step", "time"))
    if type(tree) is not bytes or len(tree) != 32 or type(run) is not str or type(time_ns) is not int:
        return None
    number = step if type(step) is int else None
    return Commit(
        TreeId(ObjectId(tree)), (), run, time_ns, number, message="recovered: its commit object was lost in the journal"
    )


def _append(repository: Repository, entry: Entry, *riding: tuple[ObjectId, Kind, bytes]) -> None:
    """One more frame; it relies on no object of the store."""
    with repository.session() as session:
        session.publish(lambda: (entry, list(riding)))
