"""The part of `Store` that looks after it: its settings, its condition, and that of the machine below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.checks import DoctorReport
    from casckpt.ops.du import Usage
    from casckpt.ops.du_reports import DropPlan, UsageReport
    from casckpt.ops.reports import FsckReport
    from casckpt.ops.settings import StoreSettings
    from casckpt.ops.values import Progress
    from casckpt.remote.view import RemoteView


class Upkeep:
    """Settings and self-check, for `Store` alone; every method delegates to one operation."""

    _repository: Repository
    _settings: StoreSettings
    _usage: Usage | None = None

    def _in_turn(self) -> Repository:
        raise NotImplementedError

    def settings(self) -> StoreSettings:
        """What holds where a call does not say otherwise: the settings of the store, or those given to `open`."""
        return self._settings

    def fsck(
        self,
        depth: str = "quick",
        *,
        repair: bool = False,
        source: str | None = None,
        progress: Progress | None = None,
    ) -> FsckReport:
        """Verify the store: `quick` (journal, tables of contents, structure) or `full` (every byte); may heal it.

        Args:
            source: name of a remote, from which a repair brings what has no whole copy here; the check is full then.

        Raises:
            UsageError: a source without a repair.
            RemoteNotFound, RemoteUnavailable, RemoteDenied, RemoteUntrusted, RolledBack: the source cannot be read, or
                is not to be believed; what came before stays.
        """
        from casckpt.ops.fsck import fsck

        view = None if source is None else self._view_of(source)
        repository = self._in_turn() if repair else self._repository
        return fsck(repository, depth, repair=repair, source=view, progress=progress)

    def _view_of(self, remote: str) -> RemoteView:
        from casckpt.ops.connecting import connect, view_of
        from casckpt.ops.remotes import remote_of

        found = remote_of(self._repository.storage, remote, self._settings.remotes)
        return view_of(self._repository, connect(found))

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
