"""What du reads of a store: what every commit has, and the records of packs and journal.

Objects and packs never change, so what was read stays known to the next look, up to KEPT_BYTES.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from casckpt.errors import CasckptError, RevisionNotFound, UnreadableCommit
from casckpt.format.commit import Commit
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import CommitId, ObjectId, PackId
from casckpt.format.pack_columns import RECORD, metadata
from casckpt.odb.database import Database
from casckpt.ops import du_reports as r
from casckpt.ops.drop import chosen_commits
from casckpt.ops.kept_policy import kept_policies
from casckpt.ops.lookup import close_names, did_you_mean
from casckpt.ops.marks import Leaving, leaving
from casckpt.ops.reach import Reach
from casckpt.plan.names import run_of
from casckpt.plan.usage import Contents

KEPT_BYTES = 64 << 20
"""Memory for what was read, kept for the next look. What is beyond is read again."""
_UNREADABLE = (CasckptError, FileNotFoundError)


@dataclass
class Known:
    """What was read of one store."""

    database: Database
    reach: Reach
    packs: dict[PackId, Contents] = field(default_factory=dict)

    def read_packs(self) -> int:
        """Know the records of all packs of the set; how many have a footer that cannot be read."""
        packs = {pack.id: pack for pack in sorted(self.database.pack_set())}
        gone = self.packs.keys() - packs.keys()
        for identity in gone:
            del self.packs[identity]
        self.reach.unlearn(gone)
        unreadable = 0
        for identity, pack in packs.items():
            if identity not in self.packs:
                try:
                    columns, hints = self.database.packs.columns(pack)
                    self.reach.learn(pack, metadata(columns))
                    self.packs[identity] = Contents.of(pack, columns, hints)
                except _UNREADABLE:
                    unreadable += 1
        return unreadable

    def shrink(self) -> None:
        """Forget what is beyond KEPT_BYTES, packs last: they hold what all rows need."""
        nbytes = sum(pack.nbytes for pack in self.packs.values())
        for identity in list(self.packs):
            if nbytes <= KEPT_BYTES:
                break
            nbytes -= self.packs.pop(identity).nbytes
        self.reach.shrink(KEPT_BYTES - nbytes)


class Owner(NamedTuple):
    """A commit, what describes it, and the components that are here: those that stay, and those that wait."""

    id: CommitId
    commit: Commit
    state: str
    own: bytes
    """Ids of its commit object, its metadata objects, and its tree if that stays."""
    stays: Mapping[str, ObjectId]
    waits: Mapping[str, ObjectId]
    tree: ObjectId | None = None
    """Its tree, if that waits."""

    @property
    def components(self) -> Iterator[tuple[str, ObjectId]]:
        """(name, id) of all that are here."""
        yield from self.stays.items()
        yield from self.waits.items()


class Look:
    """One look at the store: a context, that leaves known what it read."""

    def __init__(self, known: Known, now_ns: int) -> None:
        self.known = known
        self.database = known.database
        self.now_ns = now_ns
        self.grace_ns = kept_policies(known.database).grace_ns

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        self.known.shrink()

    def chosen(self, revisions: Sequence[str], run: str | None, where: str | None) -> dict[CommitId, Commit] | None:
        """The commits that were asked for; None for all."""
        database = self.database
        if run is not None and database.ref(f"runs/{run}/last") is None and run not in database.totals():
            close = close_names(run, {head[0] for head in map(run_of, database.refs("runs/")) if head is not None})
            raise RevisionNotFound(text=run, problem=did_you_mean(close) or "there is no such run")
        if not revisions and where is None:
            return None if run is None else {one: commit for one, commit in database.commits() if commit.run == run}
        found = chosen_commits(database, revisions, where)
        return {identity: commit for identity, commit in found if run is None or commit.run == run}

    def owners(self) -> list[Owner]:
        """All commits with what they have, those of a run in the order of their time."""
        leaves = {one.id: one for one in leaving(self.database, self.grace_ns)}
        commits = sorted(self.database.commits(), key=lambda one: (one[1].run, one[1].time_ns, one[0]))
        return [self._owner(identity, commit, leaves.get(identity)) for identity, commit in commits]

    def _owner(self, identity: CommitId, commit: Commit, leaves: Leaving | None) -> Owner:
        described = [part for part in (commit.config, commit.environment, commit.code, commit.data) if part is not None]
        own = [identity, *described]
        lost = () if leaves is None else leaves.drop.parts
        waits = leaves is not None and leaves.final_ns > self.now_ns
        # Where graces were ended early, what waits may be gone already.
        if lost is None and not (waits and self.database.row(commit.tree) is not None):
            return Owner(identity, commit, r.DROPPED, b"".join(own), {}, {})
        parts = dict(self.known.reach.tree(identity, commit).components)
        if lost is None:
            return Owner(identity, commit, r.WAITING, b"".join(own), {}, self._here(identity, parts), commit.tree)
        own.append(commit.tree)
        stays = {name: component for name, component in parts.items() if name not in lost}
        left = {name: component for name, component in parts.items() if name in lost} if waits else {}
        state = r.THINNED if lost else r.KEPT
        return Owner(identity, commit, state, b"".join(own), stays, self._here(identity, left))

    def _here(self, commit: CommitId, parts: Mapping[str, ObjectId]) -> dict[str, ObjectId]:
        """Those of the components that wait which are still here."""
        return {name: component for name, component in parts.items() if self._is_here(commit, component)}

    def _is_here(self, commit: CommitId, component: ObjectId) -> bool:
        try:
            self.known.reach.component(commit, component)
        except UnreadableCommit:
            return False
        return True

    def journal(self) -> Contents:
        """The records of the journal file that is being written; all others were packed when they were sealed."""
        database = self.database
        entries = (
            Entry.decode(placed.frame.payload)
            for placed in database.journal.read_file(database.tail.position.file).frames
        )
        data = b"".join(record.pack() for entry in entries for record, _ in entry.objects)
        return Contents.of(PackRef(PackId(b""), 0), np.frombuffer(data, RECORD), {})
