"""repack: checkpoints of a run take less room, since neighbours become deltas of each other. No id changes.

    survey -> commits that wait -> windows of neighbours -> each: delta packs, then a collection removes the old ones

What the newest commit, heads of runs, tags and pins hold stays plain and where it is. Everything goes on where it was
left: what lies in delta packs is done.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial

from casckpt.errors import BusyError
from casckpt.odb import locks
from casckpt.odb.repository import Repository
from casckpt.ops.collect import Collector, Survey
from casckpt.ops.kept_policy import kept_policies
from casckpt.ops.lookup import no_such_run
from casckpt.ops.marks import Leaving
from casckpt.ops.repack_reports import RepackedWindow, RepackReport
from casckpt.ops.restore_costs import restore_costs
from casckpt.ops.values import Progress
from casckpt.ops.window_packing import WindowPacker
from casckpt.ops.windows import FEWEST, THOROUGH_COMMITS, WINDOW_COMMITS, Candidate, Stock, Window, cut

SPARE_BYTES = 64 << 20
"""What a disk must have free besides what a window writes."""


def repack(
    repository: Repository,
    collector: Collector | None = None,
    *,
    run: str | None = None,
    thorough: bool = False,
    limit_s: float | None = None,
    fewest: int = FEWEST,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RepackReport:
    """Pack the commits of all runs, or of one, as deltas, and remove the packs that are redundant then.

    Args:
        collector: removes them; by default one that leaves a drop as long as is usual to be taken back.
        thorough: for archives: larger groups, every form tried, nothing stays out; restores take longer.
        limit_s: after so many seconds what was begun is finished to the next pack, and the rest left.
        fewest: runs with fewer commits that wait are left.
        progress: called with the plain bytes packed, and in all.

    Raises:
        RevisionNotFound: there is no such run.
        BusyError: somebody else repacks.
        UnreadableCommit, DamagedObject: an object that is needed is damaged; what was listed before stays.
        NotReadBack: memory or disk changed what was written; what was listed before stays.
        StorageError: the disk failed or is full; what was listed before stays.

    Memory: 64 MiB, and 32 bytes for each object of the store.
    """
    collector = collector or Collector(repository, kept_policies(repository.database).grace_ns)
    if dry_run:
        return _Repack(repository, collector, thorough, limit_s, progress).run(run, fewest, dry_run=True)
    repository.session()  # raises what forbids writing
    with locks.repacking(repository.storage):
        return _Repack(repository, collector, thorough, limit_s, progress).run(run, fewest, dry_run=False)


class _Repack:
    """One repack at work."""

    def __init__(
        self,
        repository: Repository,
        collector: Collector,
        thorough: bool,
        limit_s: float | None,
        progress: Progress | None,
    ) -> None:
        self._repository = repository
        self._collector = collector
        self._thorough = thorough
        self._start = time.monotonic()
        self._deadline = float("inf") if limit_s is None else self._start + limit_s
        self._progress = progress
        self._windows: list[RepackedWindow] = []
        self._groups: Counter[int] = Counter()
        self._left: Counter[str] = Counter()
        self._deltas = self._plain = self._written = self._removed = 0

    def run(self, run: str | None, fewest: int, *, dry_run: bool) -> RepackReport:
        database = self._repository.database
        database.refresh()
        stock = self._stock(self._survey())
        before, packs = self._stored()
        waiting: deque[tuple[str, Sequence[Candidate]]] = deque()
        commits = 0
        known = stock.candidates(run)
        if run is not None and not known:
            raise no_such_run(database, run)
        for name, candidates in known.items():
            commits += len(candidates)
            if len(candidates) < max(fewest, FEWEST):
                self._left["few"] += len(candidates)
            else:
                most = THOROUGH_COMMITS if self._thorough else WINDOW_COMMITS
                waiting.extend((name, part) for part in cut(candidates, most))
        if dry_run:
            for name, part in waiting:
                self._note(stock.window(name, part))
        else:
            self._pack(waiting, stock)
        return RepackReport(
            windows=tuple(self._windows),
            commits=commits,
            packs=packs,
            before=before,
            after=self._stored()[0],
            deltas=self._deltas,
            plain=self._plain,
            groups=dict(sorted(self._groups.items())),
            written=self._written,
            removed=self._removed,
            left={reason: count for reason, count in self._left.items() if count},
            seconds=time.monotonic() - self._start,
            thorough=self._thorough,
            dry_run=dry_run,
        )

    def _pack(self, waiting: deque[tuple[str, Sequence[Candidate]]], stock: Stock) -> None:
        """Pack window after window."""
        total = sum(one.nbytes for _, part in waiting for one in part)
        passed = 0
        while waiting:
            if passed and time.monotonic() >= self._deadline:  # not before anything is done, or nothing ever would be
                break
            name, part = waiting.popleft()
            # Of others nothing is left: they were dropped, and freed while windows before this one were packed.
            part = [one for one in part if self._repository.database.row(one.commit.tree) is not None]
            window = stock.window(name, part) if len(part) >= FEWEST else None
            if window is not None and not self._fits(window):
                if len(part) // 2 >= FEWEST:
                    half = len(part) // 2
                    waiting.extendleft(((name, part[half:]), (name, part[:half])))
                else:
                    self._left["space"] += len(part)
                continue
            expected = sum(one.nbytes for one in part)
            if window is not None:
                is_whole = self._pack_window(window, stock, self._advance(passed, expected, total))
                if not is_whole:
                    waiting.appendleft((name, part))
                    if time.monotonic() >= self._deadline:
                        break
                stock = self._stock(self._collect())
                if not is_whole:  # packs of it went meanwhile: what is left is to be looked at anew
                    continue
            passed += expected
            if self._progress is not None:
                self._progress(passed, total)
        self._left["limit"] += sum(len(part) for _, part in waiting)

    def _advance(self, passed: int, expected: int, total: int) -> Callable[[int], None]:
        """What to call with the bytes done in a window; how many it has is estimated."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done = min(done + count, expected)
            if self._progress is not None:
                self._progress(passed + done, total)

        return advance

    def _pack_window(self, window: Window, stock: Stock, advance: Callable[[int], None]) -> bool:
        """Whether all of it was written."""
        costs = None if self._thorough else partial(restore_costs, self._repository.storage)
        packer = WindowPacker(self._repository, stock, window, costs, self._deadline, advance)
        try:
            done = packer.pack()
        finally:
            self._collector.proven |= {pack.id for pack in packer.done.packs}
        self._written += len(done.packs)
        self._deltas += done.deltas
        self._plain += done.plain
        self._groups += done.groups
        if done.is_whole:
            self._note(window)
        return done.is_whole

    def _note(self, window: Window | None) -> None:
        if window is not None:
            steps = [one.commit.step for one in window.commits]
            self._windows.append(
                RepackedWindow(
                    window.run, len(steps), steps[0], steps[-1], len(window.packs), window.nbytes, window.stored
                )
            )

    def _collect(self) -> Survey:
        """Remove what is redundant now; the survey of what is left."""
        survey = self._survey()
        try:
            self._removed += len(self._collector.collect(survey).packs)
        except BusyError:  # nothing is lost: the next collection removes it
            self._left["busy"] += 1
        return self._survey()

    def _survey(self) -> Survey:
        now_ns = time.time_ns()

        def is_over(one: Leaving) -> bool:
            return one.final_ns <= now_ns

        return self._collector.survey(is_over=is_over)

    def _stock(self, survey: Survey) -> Stock:
        return Stock(
            self._repository.database,
            self._collector.reach,
            survey.records,
            survey.marks.needed,
            thorough=self._thorough,
        )

    def _fits(self, window: Window) -> bool:
        """Whether the disk has room for the window: what is written takes no more than what it replaces."""
        space = self._repository.storage.space()
        return space is None or space.free >= window.stored + SPARE_BYTES

    def _stored(self) -> tuple[int, int]:
        """Bytes of all packs, and how many there are."""
        packs = list(self._repository.database.pack_set())
        return sum(pack.nbytes for pack in packs), len(packs)
