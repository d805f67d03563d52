"""The part of `Store` that lets go of commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.gc_reports import GcPlan, GcReport
    from casckpt.ops.kept_policy import KeptPolicies
    from casckpt.ops.lifetime_reports import DropReport, ForgetReport, RetainReport
    from casckpt.ops.repack_reports import RepackReport
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
        """Drop commits, or thin them of components, as one operation that `undo` takes back; `gc` frees.

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
        policy: Retention | Mapping[str, Any] | Sequence[Retention | Mapping[str, Any]] | None = None,
        *,
        run: str | None = None,
        dry_run: bool = False,
    ) -> RetainReport:
        """Drop and thin what the kept policies let go, as one operation that `undo` takes back; `gc` frees.

        Args:
            policy: to be laid over those that are kept, for this call; or several, in this order.
            run: only the commits of this run.

        Raises:
            InvalidRetention: the policy is empty, or cannot be meant; or none is given and none kept.
            InvalidSetting, UnknownSetting, DamagedSettings: the policy that the store keeps cannot be read.
            RevisionNotFound: there is no such run.
        """
        from casckpt.ops.retain import apply

        return apply(self._in_turn(), policy, run=run, dry_run=dry_run)

    def repack(
        self,
        *,
        run: str | None = None,
        max: bool = False,
        limit_s: float | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> RepackReport:
        """Pack neighbouring commits as deltas of each other, so that they take less room. No id changes.

        The last, best and recovery of a run, the newest commit, and what a tag or a pin holds stay as they are. What
        was packed before is left alone.

        Args:
            run: only the commits of this run.
            max: for archives: larger groups, every form tried, all commits and what was packed before. Restores get
                slower.
            limit_s: the longest to work, in seconds; a later call goes on.
            progress: called with the plain bytes done and in all; what it raises ends the work, and what is done stays.

        Raises:
            BusyError: another process repacks.
            IntegrityError: an object is damaged, or what was written reads back otherwise; nothing was lost.
            StorageError: the disk failed or is full; nothing was lost.
        """
        from casckpt.ops.repack import repack

        repository = self._in_turn()
        return repack(repository, run=run, thorough=max, limit_s=limit_s, dry_run=dry_run, progress=progress)

    def forget(
        self,
        *names: str,
        force: bool = False,
        dry_run: bool = False,
        wait_s: float = 60.0,
        progress: Progress | None = None,
    ) -> ForgetReport:
        """Forget commits with all that they said and held, for good: no undo brings them back.

        Args:
            names: runs, each with all its commits; commits; ranges as `A..B`. None to remove the bytes of what was
                forgotten before, where something was in the way then.
            force: also what a tag, a pin or a head of a run that goes on holds.
            wait_s: for how long to wait for commits that are being written, in seconds.
            progress: called with the bytes of packs that were written again and read back, and all of them twice.

        Raises:
            CommitNamed: something holds one of them; nothing was changed.
            ForgetUnfinished: they are forgotten, and something is in the way of removing their bytes.
            LostFrames, UnreadableCommit: nobody knows what other commits need, as the store is damaged.
        """
        from casckpt.ops.forget import forget

        return forget(self._in_turn(), names, force=force, dry_run=dry_run, wait_s=wait_s, progress=progress)

    def plan_gc(
        self,
        policy: Retention | Mapping[str, Any] | Sequence[Retention | Mapping[str, Any]] | None = None,
        *,
        now: bool = False,
    ) -> GcPlan:
        """What `gc` would free at this moment, commit by commit, with reasons and exact bytes; changes nothing.

        Args:
            policy: laid over those that the store keeps.
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
        repack: bool = True,
        limit_s: float | None = 60.0,
        wait_s: float = 60.0,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> GcReport:
        """Drop what the policies let go, free everything that cannot be taken back any more, and shrink what stays.

        Safe while others commit and read. A committer that was stopped delays it, and is named then.

        Args:
            policy: laid over those that the store keeps; or a plan, to be carried out.
            now: end all graces: nothing that was dropped can be taken back then.
            repack: also write packs again that are mostly dead, merge small ones, and pack neighbours as deltas.
            limit_s: so many seconds after which no more of that is begun; None for no limit.
            wait_s: for how long to wait for commits that are being written, in seconds.
            progress: called with the bytes freed, and in all.

        Raises:
            BusyError: another collector is at it, or a commit did not end in time; nothing was freed.
            UnreadableCommit, LostFrames: nobody knows what is needed; nothing was freed.
            InvalidRetention, UnknownSetting, DamagedSettings: a policy cannot be read.
            StorageError: the disk failed. What was removed is gone, the rest is there.
        """
        from casckpt.ops.gc import gc

        words: dict[str, Any] = {"repack": repack, "limit_s": limit_s, "wait_s": wait_s}
        return gc(self._in_turn(), policy, now=now, dry_run=dry_run, progress=progress, **words)

    def retention(self) -> KeptPolicies:
        """The policies that the store keeps: for all its runs, and for single ones.

        Raises:
            InvalidSetting, UnknownSetting, DamagedSettings, InvalidRetention: one cannot be read.
        """
        from casckpt.ops.kept_policy import kept_policies

        database = self._repository.database
        database.refresh()
        return kept_policies(database)

    def set_retention(
        self, policy: Retention | Mapping[str, Any] | None, *, run: str | None = None, dry_run: bool = False
    ) -> bool:
        """Keep a policy in place of the one that is kept, or none any more; whether that changes anything.

        Args:
            run: keep it for this run alone; `undo` takes that back. Else it stands in the settings file of the store.

        Raises:
            InvalidRetention: it cannot be meant, or with what else is kept it would keep nothing of a run.
            RevisionNotFound: there is no such run.
            DamagedSettings: the settings file of the store is no TOML.
        """
        from casckpt.ops.keep_policy import keep_policy
        from casckpt.plan.policy import Retention

        wanted = policy if policy is None or isinstance(policy, Retention) else Retention.from_dict(policy)
        return keep_policy(self._in_turn(), wanted, run, dry_run=dry_run)
