"""gc: apply the policies that the store keeps, and free what is past its grace.

    policy -> drops -> survey of commits and packs -> plan -> packs leave (ops.collect)
           -> what is mostly dead or small is written again, what neighbours share is packed (rewrite, repack)
           -> old journal files leave

The plan is the same whether it is only shown or carried out. What a policy is about to drop is part of it, as if it
were dropped.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from casckpt.errors import BusyError, StoreFull
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId
from casckpt.odb.repository import Repository
from casckpt.ops.collect import WAIT_S, Collector
from casckpt.ops.gc_reports import EARLY, FREES, WAITS, GcCommit, GcPlan, GcReport, Shrunk
from casckpt.ops.journal_files import remove_old_files
from casckpt.ops.kept_policy import kept_policies
from casckpt.ops.lifetime_reports import RetainReport
from casckpt.ops.marks import Leaving, ordered
from casckpt.ops.purge import purge
from casckpt.ops.repack import repack as pack_neighbours
from casckpt.ops.retain import THIN, Policy, apply, carry_out
from casckpt.ops.rewrite import tidy
from casckpt.ops.values import Progress, counted
from casckpt.plan.decision import Decision
from casckpt.plan.reclaim import Freed, freed

LOW_SPACE = 0.05
LOW_SPACE_BYTES = 32 << 30
"""Share of a disk that is to be free, of large disks so many bytes; below it graces end early."""
REPACK_S = 60.0
"""For so long packs are written again, if nothing else is said."""
FEWEST = 17
"""Commits of a run that must wait before neighbours are packed: a full group of the size that most leaves get."""


def plan(repository: Repository, policy: Policy | Sequence[Policy] | None = None, *, now: bool = False) -> GcPlan:
    """What `gc` would do at this moment; changes nothing and holds no lock.

    Args:
        policy: laid over those that the store keeps.
        now: as if all graces were over.

    Raises:
        UnreadableCommit, LostFrames: nobody knows what is needed.
        InvalidRetention, UnknownSetting, DamagedSettings: a policy cannot be read.

    Cost: about 50 us for each commit and 0.4 us for each id that components list; what was read once stays known as
    long as the collector lives.
    """
    collector = _collector(repository)
    return _Run(collector, _retained(repository, policy, dry_run=True), now=now).plan


def gc(
    repository: Repository,
    policy: Policy | Sequence[Policy] | GcPlan | None = None,
    *,
    now: bool = False,
    repack: bool = True,
    limit_s: float | None = REPACK_S,
    dry_run: bool = False,
    wait_s: float = WAIT_S,
    progress: Progress | None = None,
) -> GcReport:
    """Drop what the policies let go, free everything whose grace is over, and shrink what stays.

    What a forget had to leave is removed too.

    Args:
        policy: laid over those that the store keeps; or a plan, of which exactly that is dropped which it lets go,
            but for what a name or a pin has come to hold since.
        now: end all graces: what was dropped cannot be taken back then.
        repack: also write packs again that are mostly dead, merge small ones, and pack neighbours as deltas.
        limit_s: so many seconds after which no more of that is begun; None for no limit.
        wait_s: for how long to wait for commits that are being written.
        progress: called with the bytes freed, and in all.

    Raises:
        BusyError: another collector is at it, or a commit did not end in time; no pack was removed.
        ForgetUnfinished: bytes of forgotten commits are left, and something is still in the way.
        UnreadableCommit, LostFrames: nobody knows what is needed; nothing was freed.
        InvalidRetention, UnknownSetting, DamagedSettings: a policy cannot be read.
        StorageError: the disk failed. What was removed is gone, the rest is there.
    """
    collector = _collector(repository, wait_s)
    if isinstance(policy, GcPlan):
        retained = policy.retained
        if retained is not None and not dry_run:
            carry_out(repository, retained.plan)
            retained = replace(retained, dry_run=False)
    else:
        retained = _retained(repository, policy, dry_run=dry_run)
    run = _Run(collector, retained, now=now)
    if dry_run:
        return GcReport(run.plan, run.plan.packs, run.plan.orphans, run.plan.nbytes, dry_run=True)
    advance = counted(progress, run.plan.pack_bytes)
    removed = collector.collect(run.survey, lambda pack: advance(pack.nbytes))
    purge(repository, wait_s=wait_s)
    journal = remove_old_files(repository)
    shrunk = _shrink(collector, run, limit_s) if repack else Shrunk()
    return GcReport(
        plan=run.plan,
        packs=len(removed.packs),
        orphans=removed.orphans,
        nbytes=removed.nbytes,
        rescued=removed.rescued,
        journal=journal,
        shrunk=shrunk,
        dry_run=False,
    )


def _shrink(collector: Collector, run: _Run, limit_s: float | None) -> Shrunk:
    """Write packs again that are mostly dead or small, and pack neighbours as deltas; as far as time and room allow."""
    repository = collector.repository
    end_s = None if limit_s is None else time.monotonic() + limit_s
    rewritten, packed = None, None
    try:
        rewritten = tidy(collector, run.is_over, limit_s=_left(end_s))
        # Runs of which little waits are left: they go into larger groups later.
        packed = pack_neighbours(repository, collector, limit_s=_left(end_s), fewest=FEWEST)
    except (BusyError, StoreFull) as error:  # what was freed is freed, and the next collection goes on
        return Shrunk(rewritten, packed, error.summary)
    return Shrunk(rewritten, packed)


def _left(end_s: float | None) -> float | None:
    return None if end_s is None else max(end_s - time.monotonic(), 0.0)


class _Run:
    """One look at the store: what leaves, and what of that is freed."""

    def __init__(self, collector: Collector, retained: RetainReport | None, *, now: bool) -> None:
        self._collector = collector
        self._now = now
        self._now_ns = time.time_ns()
        self._retained = retained
        new = _as_if_dropped(collector, retained, self._now_ns)
        self._new = {(one.id, parts) for one, parts in _let_go(retained)}
        self._early: set[tuple[CommitId, Drop]] = set()

        def leaves() -> list[Leaving]:
            return ordered((*collector.leaving(), *new))

        self.survey = collector.survey(leaves, is_over=self.is_over)
        self._freed = self._bytes()
        self._early = set() if now else {(one.id, one.drop) for one in self._hurried()}
        if self._early:
            self.survey = collector.survey(leaves, is_over=self.is_over)
            self._freed = self._bytes()
        self.plan = self._plan()

    def is_over(self, one: Leaving) -> bool:
        """Whether the grace of a commit is over, be it before its time."""
        return self._now or one.final_ns <= self._now_ns or (one.id, one.drop) in self._early

    def _bytes(self) -> list[Freed]:
        """What each commit that leaves frees."""
        marks = self.survey.marks
        count = len(marks.leaving)
        return freed(marks.reached, self.survey.located.stored_bytes(), count) if count else []

    def _hurried(self) -> Collection[Leaving]:
        """The commits whose grace must end now for the disk to have room, the oldest drops first."""
        space = self._collector.repository.storage.space()
        if space is None:
            return ()
        missing = min(int(space.total * LOW_SPACE), LOW_SPACE_BYTES) - space.free
        missing -= sum(use.pack.nbytes for use in self.survey.reclaim.going)
        marks = self.survey.marks
        found: list[Leaving] = []
        for one, bytes_freed in list(zip(marks.leaving, self._freed, strict=True))[marks.ended :]:
            if missing <= 0:
                break
            found.append(one)
            missing -= bytes_freed.together
        return found

    def _plan(self) -> GcPlan:
        survey, storage = self.survey, self._collector.repository.storage
        going = survey.reclaim.going
        staying = [use for use in survey.reclaim.uses if not use.goes]
        sizes = [storage.size(name) or 0 for name in self._collector.orphans()]
        return GcPlan(
            commits=tuple(self._commits()),
            retained=self._retained,
            packs=len(going),
            pack_bytes=sum(use.pack.nbytes for use in going),
            orphans=len(sizes),
            orphan_bytes=sum(sizes),
            dead_bytes=sum(use.dead for use in staying),
            kept_packs=len(staying) + len(survey.unreadable),
            kept_bytes=sum(pack.nbytes for pack in (*(use.pack for use in staying), *survey.unreadable)),
        )

    def _commits(self) -> list[GcCommit]:
        """The commits that leave, but for those nothing is left of."""
        marks = self.survey.marks
        found = []
        for rank, (one, nbytes) in enumerate(zip(marks.leaving, self._freed, strict=True)):
            is_new = (one.id, one.drop.parts) in self._new
            if nbytes.together == 0 and not is_new and not self._collector.has_state(one):
                continue
            on_time = one.final_ns <= self._now_ns
            found.append(
                GcCommit(
                    id=one.id.hex(),
                    run=one.commit.run,
                    step=one.commit.step,
                    time_ns=one.commit.time_ns,
                    outcome=FREES if on_time else EARLY if rank < marks.ended else WAITS,
                    rule=one.drop.rule,
                    parts=one.drop.parts,
                    dropped_ns=one.drop.time_ns,
                    is_new=is_new,
                    final_ns=one.final_ns,
                    alone=nbytes.alone,
                    together=nbytes.together,
                )
            )
        return found


def _collector(repository: Repository, wait_s: float = WAIT_S) -> Collector:
    repository.database.refresh()
    return Collector(repository, kept_policies(repository.database).grace_ns, wait_s)


def _retained(
    repository: Repository, policy: Policy | Sequence[Policy] | None, *, dry_run: bool
) -> RetainReport | None:
    """What the policies let go, None if there are none; it is dropped unless this is a dry run."""
    if policy is None and not kept_policies(repository.database).layers:
        return None
    return apply(repository, policy, dry_run=dry_run)


def _as_if_dropped(collector: Collector, retained: RetainReport | None, now_ns: int) -> list[Leaving]:
    """What a policy is going to drop, as if it had just been; nothing if it was dropped."""
    if retained is None or not retained.dry_run:
        return []
    database = collector.repository.database
    found = []
    for one, parts in _let_go(retained):
        commit = database.commit(one.id)
        if commit is not None:
            drop = Drop(one.id, parts, THIN if one.by is None else one.by.rule, now_ns)
            found.append(Leaving(one.id, commit, drop, now_ns + collector.grace_ns(commit.run)))
    return found


def _let_go(retained: RetainReport | None) -> Iterator[tuple[Decision, tuple[str, ...] | None]]:
    """What a policy lets go, and which components of it; None for all."""
    for one in () if retained is None else retained.plan.decisions:
        if one.by is not None:
            yield one, None
        elif one.thin:
            yield one, one.thin
