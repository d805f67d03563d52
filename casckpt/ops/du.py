"""du: where the bytes are, and what dropping commits would free. Changes nothing and holds no lock.

commits, drops -> what each commit has (ops.reach) -> units by run, commit or component
footers of packs, the active journal file -> catalog of records
both -> who reaches which record (plan.usage) -> rows and totals
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from casckpt.errors import LostFrames, UsageError
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId
from casckpt.odb.repository import Repository
from casckpt.ops.drop import BY_HAND
from casckpt.ops.du_look import Known, Look
from casckpt.ops.du_reports import DropCost, DropPlan, UsageReport
from casckpt.ops.du_rows import Table
from casckpt.ops.losses import held
from casckpt.ops.marks import Leaving, leaving, mark
from casckpt.ops.reach import Reach
from casckpt.plan.reclaim import Reached
from casckpt.plan.usage import Catalog, freed_by, going, needed_bytes

BY = ("run", "commit", "component", "dtype")


class Usage:
    """What is known of where bytes are, for one open store. Thread-safe."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._mutex = threading.Lock()
        self._known: Known | None = None

    def du(
        self, revisions: Sequence[str] = (), *, by: str = "run", run: str | None = None, where: str | None = None
    ) -> UsageReport:
        """Where the bytes of the store are.

        Args:
            revisions: commits and ranges whose rows to show; none for all.
            by: what a row is: `run`, `commit`, `component` or `dtype`.
            run: only commits of this run.
            where: only commits that a filter wants.

        Raises:
            RevisionNotFound: nothing has that name, or there is no such run.
            UnreadableCommit: an object is damaged, so that nobody knows what its commit needs.
            LostFrames: the journal is damaged, so that nobody knows which commits there are.

        Cost: reads the components of all commits and the footers of all packs, but for those that the last call read.
        10 000 commits that list ten million chunks, a tenth of them different, take 3 s of CPU and 0.3 GB, and half of
        that time once more; where all are different 4 s and 0.9 GB.
        """
        if by not in BY:
            raise UsageError(problem=f"by must be {', '.join(BY[:-1])} or {BY[-1]}, not {by!r}")
        with self._mutex, self._look() as look:
            chosen = look.chosen(revisions, run, where)
            return Table(look, chosen, by).report()

    def plan_drop(self, revisions: Sequence[str] = (), *, run: str | None = None, where: str | None = None) -> DropPlan:
        """What dropping commits would free; arguments and errors as of `du`, and one of them is needed."""
        if not revisions and run is None and where is None:
            raise UsageError(problem="say which commits: revisions, a run or a filter")
        with self._mutex, self._look() as look:
            chosen = look.chosen(revisions, run, where)
            assert chosen is not None
            return _plan_drop(look, chosen)

    def _look(self) -> Look:
        database = self._repository.database  # another one in a forked child
        database.refresh()
        if database.gaps():
            raise LostFrames
        if self._known is None or self._known.database is not database:
            self._known = Known(database, Reach(database))
        return Look(self._known, time.time_ns())


def _plan_drop(look: Look, chosen: Mapping[CommitId, Commit]) -> DropPlan:
    database, reach = look.database, look.known.reach
    look.known.read_packs()
    before = leaving(database, look.grace_ns)
    gone = {one.id for one in before if one.drop.parts is None}
    new = [
        Leaving(identity, commit, Drop(identity, None, BY_HAND, look.now_ns), look.now_ns)
        for identity, commit in sorted(chosen.items(), key=lambda one: (one[1].time_ns, one[0]))
        if identity not in gone
    ]
    marks = mark(reach, database, [*before, *new], lambda _: True)
    packs, journal = list(look.known.packs.values()), look.journal()
    needed = marks.reached.needed(len(before)), marks.reached.needed()
    goes = tuple(going(packs, ids) for ids in needed)
    catalogs = [Catalog([journal, *(pack for pack in packs if pack.records.pack.id not in gone)]) for gone in goes]
    stored = [needed_bytes(catalog, ids) for catalog, ids in zip(catalogs, needed, strict=True)]
    freed = freed_by(catalogs[0], _from(marks.reached, len(before)), len(new))
    sizes = [sum(pack.records.pack.nbytes for pack in packs if pack.records.pack.id in gone) for gone in goes]
    holding = held(database)
    return DropPlan(
        commits=tuple(
            DropCost(
                one.id.hex(), one.commit.run, one.commit.step, one.commit.time_ns, *nbytes, holding.get(one.id, ())
            )
            for one, nbytes in zip(new, freed, strict=True)
        ),
        already=tuple(identity.hex() for identity in chosen if identity in gone),
        freed=stored[0] - stored[1],
        packs=len(goes[1] - goes[0]),
        pack_bytes=sizes[1] - sizes[0],
    )


def _from(found: Reached, rank: int) -> Reached:
    """What commits of this rank and higher reach, as if there were no others; their ranks start at 0."""
    found = found.of(found.last >= rank)
    return Reached(found.ids, np.maximum(found.first, rank) - np.uint32(rank), found.last - np.uint32(rank))
