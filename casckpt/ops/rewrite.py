"""rewrite: what is needed of some packs is written again into new ones. Nothing is removed; a collection does that.

choose batches -> copy stored bytes -> read the new file back, every object against its id -> one frame adds the pack

Each batch is a step of its own: whatever ends the work leaves the packs that are done, and the next call goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from casckpt.errors import CasckptError
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import Ids
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.copying import DAMAGE, Copier, Source
from casckpt.ops.values import Progress, counted
from casckpt.plan.hints import merged
from casckpt.plan.reclaim import PackUse
from casckpt.plan.rewriting import Batch, Candidate, batches

WantedHints = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was written again."""

    made: tuple[PackRef, ...]
    sources: int
    """Packs of which the new ones hold all that is needed."""
    nbytes: int
    """Length of their files."""
    damaged: tuple[str, ...]
    """Packs that stay, since something in them that is needed cannot be read."""
    is_complete: bool
    """Whether all that was chosen is done; else the time was up."""


@dataclass
class _Work:
    """What one call shares between its batches."""

    needed: Ids
    deadline: float
    wanted_hints: WantedHints
    advance: Callable[[int], None]
    made: list[PackRef] = field(default_factory=list)
    done: list[PackRef] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    stopped: bool = False

    def is_late(self) -> bool:
        self.stopped = self.stopped or time.monotonic() >= self.deadline
        return self.stopped


def rewrite(
    repository: Repository,
    needed: Ids,
    candidates: Iterable[Candidate],
    *,
    limit_bytes: int | None = None,
    limit_s: float | None = None,
    wanted_hints: WantedHints = lambda _: True,
    progress: Progress | None = None,
) -> Rewritten:
    """Write packs again that are many and small, or mostly dead, or must not stay.

    Args:
        needed: the first 8 bytes of the ids of what stays, ascending.
        candidates: what is needed of each pack, oldest first.
        limit_bytes: the most stored bytes to write; what must be written does not count.
        limit_s: seconds after which no further pack is begun.
        wanted_hints: whether what a pack says of a commit that wrote it is kept.
        progress: called with the stored bytes that were written and read back, and all of them twice.

    Raises:
        StorageError: the disk failed or is full; the batches before it are done.
        DamagedObject: what was just written cannot be read back; it was removed again.

    Cost: reads what is needed once, writes it, and reads it back. Memory: the records of a batch and a few chunks.
    """
    chosen = batches(candidates, limit_bytes=limit_bytes)
    deadline = float("inf") if limit_s is None else time.monotonic() + limit_s
    work = _Work(needed, deadline, wanted_hints, counted(progress, 2 * sum(batch.needed for batch in chosen)))
    for batch in chosen:
        if work.is_late():
            break
        _write(repository, batch, work)
    return Rewritten(
        made=tuple(work.made),
        sources=len(work.done),
        nbytes=sum(pack.nbytes for pack in work.done),
        damaged=tuple(work.damaged),
        is_complete=not work.stopped,
    )


def candidates(database: Database, uses: Iterable[PackUse], must: Collection[PackId] = ()) -> list[Candidate]:
    """The packs that stay as candidates, the first that came to this store first.

    Args:
        uses: of all packs, from a survey.
        must: packs that are to be written again whatever that saves.
    """
    listed = {identity: t.decode_pack(value)[0] for identity, value in database.tables.scan(t.PACKS)}
    staying = sorted((use for use in uses if not use.goes), key=lambda use: listed.get(use.pack.id, 0))
    return [Candidate(use.pack, use.stored, use.needed, use.pack.id in must) for use in staying]


def _write(repository: Repository, batch: Batch, work: _Work) -> None:
    """Write one batch, as far as the time allows, and make it part of the store."""
    database = repository.database
    with repository.session() as session:
        # The session holds the commit lock: no pack that is there now goes before the new one is published.
        sources = list(_sources(database, batch, work))
        writer = PackWriter(database.storage, deltas=any(source.has_deltas for source in sources))
        try:
            done = _copy(database, sources, writer, work)
        except BaseException:
            writer.abandon()
            raise
        if not writer.records:
            writer.abandon()
            return
        pack = writer.finish(merged((source.contents.hints for source in done), work.wanted_hints))
        _read_back(database, pack, work)
        session.publish(lambda: (Entry("repack", time.time_ns(), packs=(pack,), by=writer_name()), []))
    work.made.append(pack)
    work.done += [source.pack for source in done]


def _sources(database: Database, batch: Batch, work: _Work) -> Iterator[Source]:
    for candidate in batch.candidates:
        if database.has_pack(candidate.pack.id):
            try:
                yield Source.of(database, candidate, work.needed)
            except DAMAGE:
                work.damaged.append(pack_name(candidate.pack.id))


def _copy(database: Database, sources: Iterable[Source], writer: PackWriter, work: _Work) -> list[Source]:
    """The packs of which all that is wanted was written."""
    done: list[Source] = []
    copier = Copier(database, writer)
    for source in sources:
        if done and work.is_late():
            break
        try:
            for stored in copier.copy(source):
                work.advance(stored)
        except DAMAGE:
            # The pack stays for a repair, and what was written of it are copies.
            work.damaged.append(pack_name(source.pack.id))
        else:
            done.append(source)
    return done


def _read_back(database: Database, pack: PackRef, work: _Work) -> None:
    """Compare every object of a new pack with its id, out of the finished file."""
    name = pack_name(pack.id)
    database.packs.forget(name)  # equal packs have equal names: a damaged one may have been open under it
    try:
        for record in database.packs.contents(pack.id).records:
            database.packs.read_record(name, record)
            work.advance(record.stored)
    except BaseException:
        database.packs.forget(name)
        if not database.has_pack(pack.id):
            with contextlib.suppress(CasckptError, FileNotFoundError):
                database.storage.unlink(name)
        raise
