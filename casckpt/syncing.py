"""The part of `Store` that moves commits between this store and remotes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.connecting import Connection, ProbeReport
    from casckpt.ops.drill import DrillReport
    from casckpt.ops.fetch_reports import FetchReport, PullReport
    from casckpt.ops.locking import HeldLock
    from casckpt.ops.on_demand import Place
    from casckpt.ops.push_reports import PushReport
    from casckpt.ops.remote_gc_reports import RemoteGcReport
    from casckpt.ops.remote_log import RemoteChange, RemoteConflict
    from casckpt.ops.remotes import Remote
    from casckpt.ops.settings import StoreSettings
    from casckpt.ops.values import Progress
    from casckpt.plan.policy import Retention
    from casckpt.remote.locks import RemoteLock
    from casckpt.remote.view import RemoteView


class Syncing:
    """Remotes, for `Store` alone; every method delegates to one operation.

    Where a remote is asked for, None is `origin`, or the only one there is. All of them may raise `RemoteNotFound`,
    `RemoteUnavailable`, `RemoteDenied`, `RemoteUntrusted` and `RolledBack`; whatever ends them, the same call goes on
    from there. `limit_rate` is bytes a second, also as `20MiB`.
    """

    _repository: Repository
    _settings: StoreSettings

    def _in_turn(self) -> Repository:
        raise NotImplementedError

    def remotes(self) -> list[Remote]:
        """The remotes of this store, in the order of its settings file.

        Raises:
            UnknownSetting, InvalidSetting, SecretInUrl, DamagedSettings: something that is said of them cannot be read.
        """
        from casckpt.ops.remotes import remotes

        return list(remotes(self._repository.storage, self._settings.remotes).values())

    def add_remote(self, name: str, url: str, *, probe: bool = True, dry_run: bool = False, **options: Any) -> Remote:
        """Make a remote known under a name.

        Args:
            url: `s3://BUCKET/PREFIX`, `gs://`, `az://`, `https://` to read only, or the path of a folder that machines
                share. Never with a secret in it.
            probe: try it out before: some twelve requests.
            options: what else is known of it: `profile`, `endpoint`, `region`, `limit_rate` and so on, as of the
                settings `remote.NAME.KEY`.

        Raises:
            RemoteExists: one has that name.
            InvalidName, UnknownSetting, InvalidSetting, SecretInUrl, UsageError: what is said of it cannot be.
            RemoteUnfit: it cannot be a remote; says why.
        """
        from casckpt.ops.remote_changes import add_remote

        return add_remote(self._repository.storage, name, url, options, probe=probe, dry_run=dry_run)

    def set_remote(self, name: str, key: str, value: Any, *, dry_run: bool = False) -> Remote:
        """Change one thing that is known of a remote; None for what holds if nothing is said.

        Raises:
            UnknownSetting, InvalidSetting, SecretInUrl, UsageError: it cannot be.
        """
        from casckpt.ops.remote_changes import set_remote

        return set_remote(self._repository.storage, name, key, value, dry_run=dry_run)

    def remove_remote(self, name: str, *, dry_run: bool = False) -> Remote:
        """Know a remote no more, nor what was fetched of its refs; it keeps what it holds, and this store its commits.

        Its tracking refs are gone then, so that its commits count as not pushed.
        """
        from casckpt.ops.remote_changes import remove_remote

        return remove_remote(self._repository, name, dry_run=dry_run)[0]

    def tracking(self, remote: str | None = None) -> dict[str, str]:
        """Where the refs of a remote were when it was last looked at: ids by names there; asks nobody."""
        from casckpt.ops.fetch import tracked
        from casckpt.ops.remotes import remote_of

        database = self._repository.database
        database.refresh()
        name = remote_of(self._repository.storage, remote, self._settings.remotes).name
        return {ref: commit.hex() for ref, commit in tracked(database, name).items()}

    def probe_remote(self, remote: str | None = None, *, dry_run: bool = False) -> ProbeReport:
        """Try out whether a remote does what is relied on: it creates a key once, gives back what it got, deletes.

        Args:
            dry_run: only look whether it is there; nothing is written.

        Raises:
            RemoteUnfit: it does not.
        """
        from casckpt.ops.connecting import probe_remote
        from casckpt.ops.remotes import remote_of

        return probe_remote(remote_of(self._repository.storage, remote, self._settings.remotes), dry_run=dry_run)

    def push(
        self,
        remote: str | None = None,
        *names: str,
        everything: bool = False,
        mirror: bool = False,
        policy: str | None = None,
        lease: str | Mapping[str, str | None] | None = None,
        verify: bool = False,
        lock: RemoteLock | None = None,
        limit_rate: int | str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PushReport:
        """Make runs and tags part of a remote, with all commits behind them: wholly, or not at all.

        Args:
            names: of runs and tags; none for the current run.
            everything: all runs and tags. mirror: and runs and tags that are not here go there.
            policy: where both sides went on: `ff` refuses, `newest` takes the newer and keeps the other under
                `conflicts/`, `lease` moves what is where it is expected; None for what is known of the remote.
            lease: where refs are expected to be, with the policy `lease`: a revision for the one run that is pushed,
                or revisions by name of ref; None for where they were when they were last seen.
            verify: read back all that was sent, before anything names it.
            lock: of this remote, which must still be held when the refs move; renewed as it goes on.
            progress: called with the stored bytes sent, and in all.

        Raises:
            NotFastForward, LeaseLost: a ref cannot move; nothing was changed.
            LockLost: the lock is not held any more; nothing was changed.
            OutcomeUnknown: nobody answered whether it moved; the same call again finds out.
            DamagedObject: something that would be sent is damaged here.

        Cost: two requests if nothing is new; else four, and one for each 32 MiB. Memory: 32 MiB for each upload.
        """
        from casckpt.ops.push import push

        at = self._connected(remote, limit_rate)
        report = push(
            self._in_turn(), at.objects, at.remote.name, names,
            everything=everything, mirror=mirror, policy=at.policy(policy, "ff", "newest", "lease"),
            lease=lease, verify=verify, lock=lock, dry_run=dry_run, progress=progress,
            concurrency=at.remote.concurrency,
        )  # fmt: skip
        return at.priced(report) if dry_run else at.counted(report)

    def fetch(
        self,
        remote: str | None = None,
        *names: str,
        depth: int | None = None,
        only: str | Sequence[str] | None = None,
        whole: bool = False,
        accept_rollback: bool = False,
        limit_rate: int | str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> FetchReport:
        """Take over commits of a remote, every object verified; no run or tag of this store moves.

        Args:
            names: of runs, tags, refs and commits there; none for all.
            depth: of how many commits behind each name the content comes; the others as names only.
            only: patterns of components, as `model`; others stay there.
            whole: also what an earlier fetch left there.
            accept_rollback: take the remote as it is, even if it is older than it was.
            progress: called with the plain bytes that came, and in all.

        Raises:
            NotOnRemote: it has not what is asked for.

        Cost: two requests, one for each new index segment, and the ranges of packs that are wanted.
        """
        from casckpt.ops.fetch import fetch
        from casckpt.ops.fetch_choice import Selection

        at = self._connected(remote, limit_rate)
        wanted = Selection(names=names, depth=depth, only=_patterns(only), whole=whole)
        words: dict[str, Any] = {"dry_run": dry_run, "accept_rollback": accept_rollback, "progress": progress}
        words["concurrency"] = at.remote.concurrency
        return at.counted(fetch(self._in_turn(), at.objects, at.remote.name, wanted, **words))

    def pull(
        self,
        remote: str | None = None,
        *names: str,
        everything: bool = False,
        policy: str | None = None,
        depth: int | None = None,
        only: str | Sequence[str] | None = None,
        accept_rollback: bool = False,
        limit_rate: int | str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PullReport:
        """Fetch, then move runs and tags of this store to where they are there.

        Args:
            names: of runs, tags and refs there; none for the current run, or for all if this store has no run yet.
            everything: all of them.
            policy: where both sides went on: `ff` refuses, `newest` takes the newer and keeps the other under
                `conflicts/`; None for what is known of the remote.
            depth, only, accept_rollback, progress: as of `fetch`.

        Raises:
            Diverged: a run went on on both sides; what was fetched stays, and no run of this store was moved.
            NotOnRemote: it has not what is asked for.

        Cost: as of `fetch`.
        """
        from casckpt.ops.pull import pull

        at = self._connected(remote, limit_rate)
        report = pull(
            self._in_turn(), at.objects, at.remote.name, names, everything=everything,
            policy=at.policy(policy, "ff", "newest"), depth=depth, only=_patterns(only), dry_run=dry_run,
            accept_rollback=accept_rollback, progress=progress, concurrency=at.remote.concurrency,
        )  # fmt: skip
        return replace(report, fetched=at.counted(report.fetched))

    def remote_log(self, remote: str | None = None, *, limit: int | None = None) -> Iterator[RemoteChange]:
        """What was done to a remote, newest first, as far back as it keeps roots: one request for each."""
        from casckpt.ops.remote_log import remote_log

        view = self._view(self._connected(remote))
        view.refresh()
        return islice(remote_log(view), limit)

    def remote_conflicts(self, remote: str | None = None) -> tuple[RemoteConflict, ...]:
        """The commits that lost a ref of a remote to another one, and are kept there under `conflicts/`."""
        from casckpt.ops.remote_log import conflicts

        return conflicts(self._view(self._connected(remote)).refresh())

    def gc_remote(
        self,
        remote: str | None = None,
        policy: Retention | Mapping[str, Any] | None = None,
        *,
        now: bool = False,
        repack: bool = True,
        limit_rate: int | str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> RemoteGcReport:
        """Free what the refs of a remote do not need; others may push and fetch meanwhile, from any machine.

        What nothing needs is condemned first, and removed by a call an hour later or after.

        Args:
            policy: what to keep of the commits there; None for the `retention` of the remote, and without one for all
                that its refs lead to and that was not dropped.
            now: remove at once, and end the graces of drops there.
            repack: also write packs again of which little is needed.
            progress: called with the bytes removed, and in all.

        Raises:
            UnreadableCommit, NotOnRemote: nobody knows what is needed; nothing was changed.
            OutcomeUnknown: nobody answered; the same call again finds out.
        """
        from casckpt.ops.remote_gc import remote_gc
        from casckpt.plan.policy import Retention

        kept = Retention.from_dict(policy) if isinstance(policy, Mapping) else policy
        at = self._connected(remote, limit_rate)
        words: dict[str, Any] = {"now": now, "repack": repack, "dry_run": dry_run, "progress": progress}
        kept = at.remote.retention if kept is None else kept
        return at.counted(remote_gc(self._repository.database, self._view(at), kept, **words))

    def lock_remote(
        self, remote: str | None, name: str, *, ttl_s: int = 600, wait_s: float = 0.0, keep: bool = False
    ) -> RemoteLock:
        """Take a lock of a remote, for `commit` and `push`; a context manager that lets go of it.

        A commit under it is made only if the lock is still held when it is about to become durable, and a push moves
        refs only if the root that it replaces says so. Both renew it as they go on. In the background (`wait=False`)
        it must be held until the commit has ended.

        Args:
            ttl_s: so many seconds after its last renewal others may take it over.
            wait_s: how long to wait for it. That of a holder who died is taken over by who waits for longer than its
                time, or asks again after it.
            keep: the store keeps it from one process to the next, until `unlock_remote`. What it keeps is renewed and
                returned by later calls, whether or not they say so, and their end lets go of nothing.

        Raises:
            LockHeld: somebody else holds it; names who.
            LockLost: the store kept it, and lost it; with `keep` it is taken anew.
        """
        from casckpt.ops.locking import lock

        words: dict[str, Any] = {"ttl_s": ttl_s, "wait_s": wait_s, "keep": keep}
        return lock(self._view(self._connected(remote)), name, read_only=self._repository.storage.read_only, **words)

    def unlock_remote(
        self, remote: str | None, name: str, *, force: bool = False, dry_run: bool = False
    ) -> HeldLock | None:
        """Let go of a lock that this store keeps, or with `force` of anybody's; what it was, None if there is none.

        Raises:
            LockHeld: somebody else holds it.
        """
        from casckpt.ops.locking import unlock

        return unlock(self._view(self._connected(remote)), name, force=force, dry_run=dry_run)

    def remote_locks(self, remote: str | None = None) -> tuple[HeldLock, ...]:
        """The locks of a remote that somebody holds, by name."""
        from casckpt.ops.locking import locks

        return locks(self._view(self._connected(remote)))

    def publish_remote(self, remote: str | None = None, *, dry_run: bool = False) -> int:
        """Write anew which roots a remote has, for those who read it over plain HTTP, where nothing is listed.

        Returns:
            How many roots.

        Raises:
            RemoteDenied: these credentials may not delete, and so not replace what was published before.
        """
        from casckpt.storage.published import publish

        return publish(self._connected(remote).objects, dry_run=dry_run)

    def drill(
        self,
        remote: str | None = None,
        *,
        commits: int | None = 3,
        seed: int | None = None,
        limit_rate: int | str | None = None,
        progress: Progress | None = None,
    ) -> DrillReport:
        """Prove that a remote can be restored from: read random commits from it, and check every byte.

        Args:
            commits: how many; None for all.
            seed: draws the same commits again.

        Cost: downloads those commits; nothing is kept.
        """
        from casckpt.ops.drill import drill

        at = self._connected(remote, limit_rate)
        words: dict[str, Any] = {"commits": commits, "seed": seed, "progress": progress}
        view = self._view(at)
        return at.counted(drill(at.objects, view.folder, concurrency=at.remote.concurrency, **words))

    def _places(self) -> Iterator[Place]:
        """The remotes that are asked for what is not here."""
        from casckpt.ops.connecting import connect
        from casckpt.ops.on_demand import Place
        from casckpt.ops.remotes import remotes

        for name, remote in remotes(self._repository.storage, self._settings.remotes).items():
            yield Place(name, lambda at=remote: connect(at).objects, remote.concurrency)  # type: ignore[misc]

    def _connected(self, remote: str | None, limit_rate: int | str | None = None) -> Connection:
        from casckpt.ops.connecting import connect
        from casckpt.ops.remotes import remote_of

        found = remote_of(self._repository.storage, remote, self._settings.remotes)
        return connect(found, limit_rate=limit_rate)

    def _view(self, at: Connection) -> RemoteView:
        from casckpt.ops.connecting import view_of

        return view_of(self._repository, at)


def _patterns(only: str | Sequence[str] | None) -> Sequence[str] | None:
    return (only,) if isinstance(only, str) else only
