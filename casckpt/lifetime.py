"""The part of `Store` that lets go of commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.gc_reports import GcPlan, GcReport
    from casckpt.ops.lifetime_reports import DropReport, RetainReport
    from casckpt.ops.values import Progress
    from casckpt.plan.policy import Retention


class Lifetime:
    """What goes and what stays, for `Store` alone; every method delegates to one operation.

    What goes keeps its place in history: id, parents, step, metrics. With `dry_run=True` nothing is changed.
    """

    _repository: Repository

    def _in_turn(self) -> Repository:
        raise NotImplementedError

    def drop(
        self,
        *revisions: str,
        where: str | None = None,
        parts: str | Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> DropReport:
        """Drop commits, or thin them of components, as one operation that `undo` takes back. Frees no bytes yet.

        Args:
            revisions: commits, and ranges as `A..B`; none together with `where` for all commits of the log.
            where: only those that a filter wants, but for those that a name or a pin holds, which stay.
            parts: patterns of the components to lose; the root component always stays.

        Raises:
            CommitProtected: something holds a commit that was named without a filter; nothing was changed.
            NotFoundError: no commit has a component that the patterns fit.
        """
        from casckpt.ops.drop import drop

        patterns = (parts,) if isinstance(parts, str) else parts
        return drop(self._in_turn(), revisions, where=where, parts=patterns, dry_run=dry_run)

    def retain(
        self,
        policy: Retention | Mapping[str, Any] | Sequence[Retention | Mapping[str, Any]],
        *,
        run: str | None = None,
        dry_run: bool = False,
    ) -> RetainReport:
        """Drop and thin what a policy lets go, as one operation that `undo` takes back. Frees no bytes yet.

        Args:
            policy: or several, laid over each other in this order.
            run: only the commits of this run.

        Raises:
            InvalidRetention: the policy is empty, or cannot be meant.
            RevisionNotFound: there is no such run.
        """
        from casckpt.ops.retain import apply

        return apply(self._in_turn(), policy, run=run, dry_run=dry_run)

    def plan_gc(
        self,
        policy: Retention | Mapping[str, Any] | Sequence[Retention | Mapping[str, Any]] | None = None,
        *,
        now: bool = False,
    ) -> GcPlan:
        """What `gc` would free at this moment, commit by commit, with reasons and exact bytes; changes nothing.

        Args:
            policy: instead of those that the store keeps.
            now: as if no drop could be taken back any more.

        Raises:
            UnreadableCommit: an object is damaged, so that nobody knows what its commit needs.
            LostFrames: the journal is damaged, so that nobody knows which commits there are.
            InvalidRetention, UnknownSetting, DamagedSettings: a policy cannot be read.

        Cost: about 50 us for each commit and 0.4 us for each chunk that the trees of the store list.
        """
        from casckpt.ops.gc import plan

        return plan(self._in_turn(), policy, now=now)

    def gc(
        self,
        policy: GcPlan | Retention | Mapping[str, Any] | Sequence[Retention | Mapping[str, Any]] | None = None,
        *,
        now: bool = False,
        wait_s: float = 60.0,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> GcReport:
        """Drop what the policies let go, and free everything that cannot be taken back any more.

        Safe while others commit and read. A committer that was stopped delays it, and is named then.

        Args:
            policy: instead of those that the store keeps; or a plan, to be carried out.
            now: end all graces: nothing that was dropped can be taken back then.
            wait_s: for how long to wait for commits that are being written, in seconds.
            progress: called with the bytes freed, and in all.

        Raises:
            BusyError: another collector is at it, or a commit did not end in time; nothing was freed.
            UnreadableCommit, LostFrames: nobody knows what is needed; nothing was freed.
            InvalidRetention, UnknownSetting, DamagedSettings: a policy cannot be read.
            StorageError: the disk failed. What was removed is gone, the rest is there.
        """
        from casckpt.ops.gc import gc

        return gc(self._in_turn(), policy, now=now, wait_s=wait_s, dry_run=dry_run, progress=progress)
