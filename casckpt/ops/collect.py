"""Collecting: packs that nothing needs leave the store. The only verb that deletes data; every other one adds.

    mark, without any lock -> choose packs -> prove copies -> alone in the store: mark what is new, rescue what that
    needs -> one frame takes the packs out -> their files are removed

What is marked before can only become more than enough: commits that came meanwhile are marked again while nobody can
add to them. Whatever wants packs replaced writes better ones first, and they are redundant then (`plan.reclaim`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from casckpt.errors import BusyError, CasckptError, UnreadableCommit
from casckpt.format.entry import Entry, PackRef
from casckpt.format.ids import PackId
from casckpt.format.pack_columns import Ids, metadata
from casckpt.odb import locks
from casckpt.odb import tables as t
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.removing import RESERVE_BYTES, keep_reserve, put_aside, remove, take_out, unlisted
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.marks import Leaving, Marks, leaving, mark, needed_since
from casckpt.ops.reach import Reach
from casckpt.plan.id_sets import among
from casckpt.plan.reclaim import Located, PackRecords, PackUse, Reclaim, reclaim, rescued

WAIT_S = 60.0
"""For so long a collector waits for committers, if it is not told otherwise."""
INDEX_ROWS = 100_000
"""Rows of objects that are gone do no harm up to here."""
_TRIES = 8
"""Looks at a store in which others free while this one looks."""
_Aside = tuple[PackRef | None, str]
"""A file that is to be removed, by its name now, and the pack that it was; None if it was none of the set."""
_ERRORS = (CasckptError, FileNotFoundError)


@dataclass(frozen=True, slots=True)
class Removed:
    """What one collection removed."""

    packs: tuple[PackUse, ...] = ()
    """Packs of the set, with why they went."""
    orphans: int = 0
    """Pack files that no frame named."""
    nbytes: int = 0
    """Bytes of all these files."""
    rescued: int = 0
    """Packs that were to go, and stayed since a commit came that needs them."""


@dataclass
class Survey:
    """The packs of a store, and what is needed of each."""

    marks: Marks
    records: dict[PackId, PackRecords]
    located: Located
    """These records among all that commits reach."""
    reclaim: Reclaim
    unreadable: tuple[PackRef, ...]
    """Packs without a footer that can be read: they stay."""


def survey_of(marks: Marks, records: dict[PackId, PackRecords], unreadable: tuple[PackRef, ...]) -> Survey:
    """What is needed of packs with these records."""
    located = Located(list(records.values()), marks.reached.ids)
    return Survey(marks, records, located, reclaim(located, marks.reached.stay(marks.ended)), unreadable)


@dataclass
class Collector:
    """One collection after the other, each of which reads only what is new. One thread.

    Args:
        grace_ns: for how long the drops of a run can be taken back.
        wait_s: for how long to wait for committers.
        proven: packs written and read back by this process: what they hold need not be proven again.
    """

    repository: Repository
    grace_ns: Callable[[str], int]
    wait_s: float = WAIT_S
    proven: set[PackId] = field(default_factory=set)
    _reach: Reach | None = None
    _records: dict[PackId, PackRecords] = field(default_factory=dict)

    @property
    def reach(self) -> Reach:
        """What the commits of the store reach."""
        self._reach = self._reach or Reach(self.repository.database)
        return self._reach

    def leaving(self) -> list[Leaving]:
        """All commits that were dropped or thinned, in the order in which their graces end."""
        self.repository.database.refresh()
        return leaving(self.repository.database, self.grace_ns)

    def has_state(self, one: Leaving) -> bool:
        """Whether anything is left of what a commit lost, as far as its tree tells."""
        return self.repository.database.row(one.commit.tree) is not None

    def orphans(self) -> list[str]:
        """Pack files that no frame names at this moment; some may be about to be named."""
        return unlisted(self.repository.database)

    def survey(
        self, leaves: Callable[[], Sequence[Leaving]] | None = None, *, is_over: Callable[[Leaving], bool]
    ) -> Survey:
        """What is needed of every pack; changes nothing and holds no lock.

        Args:
            leaves: gives the commits that leave, by default those of `leaving`.
            is_over: whether the grace of one of them is over.

        Raises:
            UnreadableCommit, LostFrames: nobody knows what is needed.
        """
        for _ in range(_TRIES):
            leaving = (leaves or self.leaving)()
            place = self.repository.database.tail.position
            try:
                return self._survey(leaving, is_over)
            except UnreadableCommit:
                # Somebody may have dropped it and freed its state since this look began.
                self.repository.database.refresh()
                if self.repository.database.tail.position == place:
                    raise
        return self._survey((leaves or self.leaving)(), is_over)

    def _survey(self, leaves: Sequence[Leaving], is_over: Callable[[Leaving], bool]) -> Survey:
        # First the packs: one that comes after this look is none that could go, whoever needs it.
        unreadable = self._read_packs(self.reach)
        marks = mark(self.reach, self.repository.database, leaves, is_over)
        return survey_of(marks, dict(self._records), unreadable)

    def _read_packs(self, reach: Reach) -> tuple[PackRef, ...]:
        """Know the records of all packs of the set."""
        database = self.repository.database
        packs = {pack.id: pack for pack in sorted(database.pack_set())}
        gone = self._records.keys() - packs.keys()
        for identity in gone:
            del self._records[identity]
        reach.unlearn(gone)
        unreadable: list[PackRef] = []
        for identity, pack in packs.items():
            if identity not in self._records:
                try:
                    columns, hints = database.packs.columns(pack)
                    reach.learn(pack, metadata(columns))
                    self._records[identity] = PackRecords.of(pack, columns, hints)
                except _ERRORS:
                    unreadable.append(pack)
        return tuple(unreadable)

    def collect(self, survey: Survey, removed: Callable[[PackRef], None] = lambda pack: None) -> Removed:
        """Remove what a survey found may go, but for what has become needed since, and what no frame names.

        Args:
            removed: called after each pack's file is gone.

        Raises:
            BusyError: another collector is at it, or a committer did not end in time; nothing was removed.
            StorageError: the disk failed. What was removed is gone, the rest is there; collecting again goes on.
        """
        if self.repository.storage.read_only:
            self.repository.session()  # raises what forbids writing
        self.repository.format.require("gc")
        with locks.collecting(self.repository.storage):
            database = self.repository.database
            database.refresh()
            going = self._proven(survey)
            with contextlib.suppress(UnreadableCommit):
                self._rescued(survey, going)  # reads what is new already, so that the store is held for less long
            aside: list[_Aside] = []
            try:
                with locks.alone(self.repository.storage, self.wait_s):
                    done = self._take_out(survey, going, aside)
            finally:
                # Also what was put aside before an error, which may have been for want of room.
                for pack, name in aside:
                    remove(self.repository.storage, name)
                    if pack is not None:
                        removed(pack)
            keep_reserve(self.repository.storage)
            self._slim_index()
        return done

    def _take_out(self, survey: Survey, going: Sequence[PackUse], aside: list[_Aside]) -> Removed:
        """The part that needs the store alone; files that are to be removed go to `aside`."""
        repository, database = self.repository, self.repository.database
        database.refresh()
        kept = self._rescued(survey, going)
        going = [use for use in going if use.pack.id not in kept and database.has_pack(use.pack.id)]
        copies = [pack for pack in survey.reclaim.copies if database.has_pack(pack.id)]
        if len(copies) < len(survey.reclaim.copies):
            going = [use for use in going if use.goes == "dead"]
        if all(use.goes == "dead" for use in going):
            copies = []
        # First what needs no frame: on a full disk it makes room for one, if it is removed at once.
        repository.remove_abandoned()
        names = unlisted(database)
        if names:
            # A collector may have been killed before the frame that took them out was durable: a power loss would
            # bring back what it said of them, and not the files.
            database.journal.make_durable(database.tail.position)
        nbytes = sum(repository.storage.size(name) or 0 for name in names)
        for name in names:
            aside.append((None, put_aside(repository.storage, name)))
        database.packs.let_go(names)
        space = repository.storage.space()
        if space is not None and space.free < RESERVE_BYTES:
            for _, name in aside:
                remove(repository.storage, name)
        entry = Entry("gc", time.time_ns(), by=writer_name())
        for pack, name in take_out(database, repository.format.uuid, [use.pack for use in going], copies, entry):
            aside.append((pack, name))
            self._records.pop(pack.id, None)
            nbytes += pack.nbytes
        return Removed(tuple(going), len(names), nbytes, len(kept))

    def _slim_index(self) -> None:
        """Build the index anew if most of its rows are of objects that are gone: nothing else ever removes a row."""
        database = self.repository.database
        live = sum(len(pack.ids) for pack in self._records.values())
        if database.has_index and database.tables.count(t.ROWS) > 2 * live + INDEX_ROWS:
            with contextlib.suppress(BusyError):
                database.rebuild_index()

    def _rescued(self, survey: Survey, going: Sequence[PackUse]) -> set[PackId]:
        """Packs that hold what has become needed since the survey."""
        fresh = needed_since(survey.marks, self.reach, self.repository.database)
        return rescued({use.pack.id: survey.records[use.pack.id] for use in going}, fresh) if len(fresh) else set()

    def _proven(self, survey: Survey) -> Sequence[PackUse]:
        """The packs that may go: of redundant ones those all of whose copies are whole, by their whole ids.

        Cost: reads and decodes the copies, but for those in packs that are proven.
        """
        # Another collector may have come first; what it left is looked at.
        going = [use for use in survey.reclaim.going if self.repository.database.has_pack(use.pack.id)]
        redundant = [use for use in going if use.goes == "redundant"]
        if not redundant:
            return going
        whole = self._whole_copies(survey)
        needed = survey.marks.needed
        failed = {use.pack.id for use in redundant if not self._is_covered(use.pack, needed, whole)}
        if failed:
            # Others may have gone only because these did too; with what is left, a later survey decides anew.
            return [use for use in going if use.goes == "dead"]
        return going

    def _whole_copies(self, survey: Survey) -> set[bytes]:
        """Whole ids of everything in the packs that stay and hold copies, as far as it can be read."""
        packs = self.repository.database.packs
        shared = [survey.records[use.pack.id].ids for use in survey.reclaim.going if use.goes == "redundant"]
        wanted = set(np.concatenate(shared).tolist())
        found: set[bytes] = set()
        for pack in filter(lambda pack: self.repository.database.has_pack(pack.id), survey.reclaim.copies):
            for record in packs.records(pack):
                if int.from_bytes(record.id[:8], "little") not in wanted or record.id in found:
                    continue
                if pack.id not in self.proven:
                    try:
                        packs.read_record(pack_name(pack.id), record)
                    except _ERRORS:
                        continue
                found.add(record.id)
        return found

    def _is_covered(self, pack: PackRef, needed: Ids, whole: Collection[bytes]) -> bool:
        """Whether every needed object of a pack is among whole copies."""
        records = self.repository.database.packs.records(pack)
        ids = self._records[pack.id].ids
        return all(records[number].id in whole for number in np.flatnonzero(among(ids, needed)))
