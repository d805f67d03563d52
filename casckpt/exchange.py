"""The part of `Store` that reads files and writes them, its own and those of other programs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from casckpt.odb.coder import Compress
    from casckpt.odb.repository import Repository
    from casckpt.ops.background import Background
    from casckpt.ops.reports import CheckoutReport, ExportReport, ImportReport
    from casckpt.ops.settings import StoreSettings
    from casckpt.ops.values import CommitInfo, Progress
    from casckpt.plan.schema import SchemaLike
    from casckpt.remote.locks import RemoteLock


class Exchange:
    """Commit, import, export and checkout of files, and migration, for `Store` alone; all of it delegates."""

    _repository: Repository
    _background: Background
    _settings: StoreSettings

    def commit_path(
        self,
        *paths: str | os.PathLike[str],
        run: str | None = None,
        step: int | None = None,
        epoch: int | float | None = None,
        metrics: Mapping[str, int | float] | None = None,
        message: str = "",
        author: str = "",
        kind: str = "step",
        best: str | None = None,
        compress: Compress | None = None,
        lock: RemoteLock | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> CommitInfo:
        """Commit files and folders under their own names; they come back byte for byte.

        Args:
            compress, lock, progress: as of `commit`.
            dry_run: store nothing; what is returned is the commit that would be made at this moment.

        Raises:
            UnsafePath: a device, socket or pipe; a link that leaves its path; a name that no checkout would write.
            LockLost: the lock is not held any more; nothing was committed.
        """
        from casckpt.odb.coder import check_policy
        from casckpt.ops.commit import CommitOptions
        from casckpt.ops.files import commit_paths

        run = self._settings.run_of(run)
        options = CommitOptions(
            run, step, epoch, kind, metrics=metrics or {}, message=message, author=author, best=best
        )  # fmt: skip
        words = options, check_policy(self._settings.compress_of(compress)), progress
        self._background.turn()
        return commit_paths(self._repository, paths, *words, dry_run=dry_run, lock=lock)

    def import_path(
        self,
        *paths: str | os.PathLike[str],
        run: str | None = None,
        form: Literal["files", "state"] = "files",
        dry_run: bool = False,
        allow_pickle: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import checkpoints that other programs wrote: a commit of one run for each, oldest first.

        A checkpoint that cannot be read is in the report and the others are imported. What the run has is skipped, so
        repeating an import takes what is new, and goes on with one that was interrupted.

        Args:
            paths: checkpoint files, checkpoint folders, and folders that hold such.
            form: `files` keeps them byte for byte, `state` decodes them.
            dry_run: commit nothing, only say what would be.
            allow_pickle: with `state`: unpickle whatever a torch file holds, which may execute anything.

        Raises:
            NotFoundError: a path is absent, or a folder without checkpoints.
        """
        from casckpt.ops.importing import import_path

        if not dry_run:
            self._background.turn()
        run = self._settings.run_of(run)
        return import_path(self._repository, paths, run, form, progress, dry_run=dry_run, allow_pickle=allow_pickle)

    def export(
        self,
        revision: str,
        destination: str | os.PathLike[str],
        *,
        format: str | None = None,
        select: str | Sequence[str] | None = None,
        replace: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write a state, or the part at `REV:PATH`, to a file of another program; it is whole there, or not at all.

        Args:
            revision: `gpt/best`, `gpt/best:model`, or as a view with the format in its suffix, `gpt/best:model.npz`.
            format: safetensors, pt, npz, json or h5; by default what the suffixes say.
            select: as of `checkout`.
            replace: a file that is there is replaced once the new one is whole.
            dry_run: read and encode everything, so that the report is right, but write nothing.

        Raises:
            NotExportable: the format cannot hold a value; nothing was written.
            TargetExists: the destination is there, and `replace` was not given.
            MissingLibrary: the format needs a library that is not installed.
            DamagedLeaf: stored bytes are wrong or missing; nothing is left behind.
        """
        from casckpt.ops.export import export

        self._background.raise_failure()
        words = self._repository, revision, destination, format, select, progress
        return export(*words, replace=replace, dry_run=dry_run)

    def checkout_path(
        self,
        revision: str,
        destination: str | os.PathLike[str],
        *,
        replace: bool = False,
        links: bool = False,
        select: str | Sequence[str] | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> CheckoutReport:
        """Write the files of a commit, or of `REV:path`, to a path: whole, verified and durable, or not at all.

        It is absent, or an empty folder where a folder is to come. With `replace` what is there stays until the new is
        complete; then they swap. With `links` symbolic links that stay inside are made; else they are refused. With
        `select` only the files come out whose paths, or the folders above them, match, in a folder as they lay. A path
        with the suffix of a format, as in `gpt:model.npz`, is an export of that part, unless it is committed so. With
        `dry_run` names and target are checked and nothing is written.
        """
        from casckpt.ops.checkout_path import checkout_path

        words = self._repository, revision, destination
        return checkout_path(*words, replace=replace, links=links, select=select, dry_run=dry_run, progress=progress)

    def migrate(
        self,
        revision: str = "@",
        *,
        schema: SchemaLike | None = None,
        run: str | None = None,
        compress: Compress | None = None,
        progress: Progress | None = None,
        allow_pickle: bool | str | Sequence[str] = False,
    ) -> CommitInfo:
        """Commit the migrated state of a run's last commit as its child, or of any commit to another `run`."""
        from casckpt.odb.coder import check_policy
        from casckpt.ops.migrate import migrate_commit
        from casckpt.ops.resolve import resolve

        self._background.turn()
        repository = self._repository
        words = schema, run, check_policy(self._settings.compress_of(compress)), progress, allow_pickle
        return migrate_commit(repository, resolve(repository.database, revision), *words)
