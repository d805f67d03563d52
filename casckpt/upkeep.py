"""The part of `Store` that looks after it: its settings, its condition, and that of the machine below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.checks import DoctorReport
    from casckpt.ops.du import Usage
    from casckpt.ops.du_reports import DropPlan, UsageReport
    from casckpt.ops.settings import StoreSettings


class Upkeep:
    """Settings and self-check, for `Store` alone; every method delegates to one operation."""

    _repository: Repository
    _settings: StoreSettings
    _usage: Usage | None = None

    def settings(self) -> StoreSettings:
        """What holds where a call does not say otherwise: the settings of the store, or those given to `open`."""
        return self._settings

    def doctor(self) -> DoctorReport:
        """What is unusual about this machine and this store, and how to mend it; changes nothing in the store."""
        from casckpt.ops.doctor import doctor

        return doctor(self._repository.storage.path)

    def du(self, *revisions: str, by: str = "run", run: str | None = None, where: str | None = None) -> UsageReport:
        """Where the bytes of the store are; changes nothing. Later calls read only what is new.

        Args:
            revisions: commits, and ranges as `A..B`, whose rows to show; none for all.
            by: what a row is: `run`, `commit`, `component` or `dtype`.
            run: only commits of this run.
            where: only commits that a filter wants.

        Raises:
            RevisionNotFound: nothing has that name, or there is no such run.
            UnreadableCommit: an object is damaged, so that nobody knows what its commit needs.
            LostFrames: the journal is damaged, so that nobody knows which commits there are.
        """
        return self._used().du(revisions, by=by, run=run, where=where)

    def plan_drop(self, *revisions: str, run: str | None = None, where: str | None = None) -> DropPlan:
        """What dropping commits would free, each alone and all together; changes nothing. Errors as of `du`."""
        return self._used().plan_drop(revisions, run=run, where=where)

    def _used(self) -> Usage:
        from casckpt.ops.du import Usage

        self._usage = self._usage or Usage(self._repository)
        return self._usage
