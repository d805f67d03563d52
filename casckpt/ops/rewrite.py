"""rewrite: what is needed of some packs is written again into new ones. Nothing is removed; a collection does that.

choose batches -> copy stored bytes -> read the new file back, every object against its id -> one frame adds the pack

Each batch is a step of its own: whatever ends the work leaves the packs that are done, and the next call goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from casckpt.format.entry import PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import Ids
from casckpt.odb import tables as t
from casckpt.odb.database import Database
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository
from casckpt.odb.rewriting import Rewriting
from casckpt.ops.collect import Collector
from casckpt.ops.copying import DAMAGE, Copier, Source
from casckpt.ops.marks import Leaving
from casckpt.ops.values import Progress, counted
from casckpt.plan.hints import merged
from casckpt.plan.reclaim import GENERATION, REPACKED, PackUse, count_of
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

    def to_dict(self) -> dict[str, Any]:
        return {
            "packs": self.sources,
            "bytes_before": self.nbytes,
            "written": len(self.made),
            "bytes_after": sum(pack.nbytes for pack in self.made),
            "damaged": list(self.damaged),
            "complete": self.is_complete,
        }


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
        progress: called with the stored bytes written, and in all.

    Raises:
        StorageError: the disk failed or is full; the batches before it are done.
        NotReadBack: memory or disk changed what was written; the batches before it are done.

    Cost: reads what is needed once, writes it, and reads it back. Memory: the records of a batch and a few chunks.
    """
    chosen = batches(candidates, limit_bytes=limit_bytes)
    deadline = float("inf") if limit_s is None else time.monotonic() + limit_s
    work = _Work(needed, deadline, wanted_hints, counted(progress, sum(batch.needed for batch in chosen)))
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


def tidy(
    collector: Collector,
    is_over: Callable[[Leaving], bool],
    *,
    limit_bytes: int | None = None,
    limit_s: float | None = None,
    progress: Progress | None = None,
) -> Rewritten:
    """Rewrite what is worth it by a survey of the store, and remove what that replaces.

    Args:
        collector: removes it.
        is_over: whether the grace of a dropped commit is over.
        limit_bytes, limit_s, progress: as of `rewrite`.

    Raises:
        BusyError: another collector is at it, or a commit did not end in time; what was written stays for a later one.
        UnreadableCommit, LostFrames: nobody knows what is needed; nothing was written.
        StorageError, NotReadBack: as `rewrite`.
    """
    survey = collector.survey(is_over=is_over)
    repository = collector.repository
    given = candidates(repository.database, survey.reclaim.uses)
    done = rewrite(repository, survey.marks.needed, given, limit_bytes=limit_bytes, limit_s=limit_s, progress=progress)
    if done.made:
        collector.proven |= {pack.id for pack in done.made}
        collector.collect(collector.survey(is_over=is_over))
    return done


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
    sources = list(_sources(database, batch, work))
    deltas = any(source.has_deltas for source in sources)
    done: list[Source] = []
    # A batch of one large pack may fill more than one.
    with Rewriting(repository, "repack", _hints(sources, work.wanted_hints), deltas=deltas) as output:
        output.begin()
        copier = Copier(database, output)
        for source in sources:
            if done and work.is_late():
                break
            if not database.has_pack(source.pack.id):  # it went while nobody held the lock
                continue
            try:
                for stored in copier.copy(source):
                    work.advance(stored)
            except DAMAGE:
                # The pack stays for a repair, and what was written of it are copies.
                work.damaged.append(pack_name(source.pack.id))
            else:
                done.append(source)
        if len(done) < len(sources):
            output.hints = _hints(done, work.wanted_hints)
        output.publish()
    work.made += output.packs
    work.done += [source.pack for source in done]


def _sources(database: Database, batch: Batch, work: _Work) -> Iterator[Source]:
    for candidate in batch.candidates:
        if database.has_pack(candidate.pack.id):
            try:
                yield Source.of(database, candidate, work.needed)
            except DAMAGE:
                work.damaged.append(pack_name(candidate.pack.id))


def _hints(sources: Sequence[Source], wanted: WantedHints) -> dict[str, Any]:
    """What the packs say that replace these: they are of a later generation, so that these go by the collection."""
    before = [source.contents.hints for source in sources]
    generation = 1 + max((count_of(hints.get(GENERATION)) for hints in before), default=0)
    found = {**merged(before, wanted), GENERATION: generation}
    # Deltas that went along were not packed better than before.
    repacked = min((count_of(hints.get(REPACKED)) for hints in before), default=0)
    return found | ({REPACKED: repacked} if repacked else {})
