"""The part of `Store` that carries commits where no network leads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.bundle_reports import BundleInfo, BundleReport
    from casckpt.ops.fetch_reports import PullReport
    from casckpt.ops.pull import PullPolicy
    from casckpt.ops.values import Progress


class Bundling:
    """Bundles, for `Store` alone; every method delegates to one operation."""

    def _in_turn(self) -> Repository:
        raise NotImplementedError

    def bundle_create(
        self,
        target: str | os.PathLike[str],
        *names: str,
        everything: bool = False,
        since: str | Sequence[str] = (),
        replace: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> BundleReport:
        """Write runs, tags and commits with their histories into one file, for a machine without a network.

        Args:
            names: runs and tags, and revisions of commits; none for the current run. `everything`: all runs and tags.
            since: revisions of commits that the other store has: what they and those before them reach is left out.
            replace: a file that is there is replaced once the new one is whole.
            dry_run: say what would be in it, and write nothing.
            progress: called with the stored bytes written, and in all.

        Raises:
            TargetExists: the file is there, and `replace` was not given.
            CommitDropped, CommitThinned: a commit that was asked for by itself is not whole here.
            DamagedObject: something that would go into it is damaged here; nothing is left behind.
        """
        from casckpt.ops.bundle import bundle_create

        words: dict[str, Any] = {"everything": everything, "replace": replace, "dry_run": dry_run, "progress": progress}
        since = (since,) if isinstance(since, str) else since
        return bundle_create(self._in_turn(), target, names, since=since, **words)

    def bundle_list(
        self, source: str | os.PathLike[str], *, verify: bool = False, progress: Progress | None = None
    ) -> BundleInfo:
        """What a bundle holds; with `verify` every object in it is compared with its id. Needs no store.

        Raises:
            DamagedBundle: it is no bundle, or not a whole one.
        """
        from casckpt.ops.bundle import bundle_list

        return bundle_list(source, verify=verify, progress=progress)

    def bundle_apply(
        self,
        source: str | os.PathLike[str],
        *,
        policy: PullPolicy = "ff",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PullReport:
        """Take in what a bundle holds, every object verified, and move runs and tags as `pull` does.

        Args:
            policy: as of `pull`.
            dry_run: read its metadata to tell what would come; change nothing.
            progress: called with the plain bytes that came, and in all.

        Raises:
            BundleNeeds: it builds on commits that are not here, or not whole; nothing was changed.
            Diverged: a run or tag has gone on both here and there; none was moved.
            DamagedBundle: it is no bundle, or not a whole one.
        """
        from casckpt.ops.bundle import bundle_apply

        return bundle_apply(self._in_turn(), source, policy=policy, dry_run=dry_run, progress=progress)
