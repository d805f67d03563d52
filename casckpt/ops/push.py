"""push: commits of this store become part of a remote, all of them or none.

    what the remote's refs do not lead to -> what its index lacks -> packs -> index segment -> root -> tracking refs

Nothing is reachable on the remote before its root names it. Whoever is first with a root wins, and the other looks
again: at the refs, and at what it had relied on if anything was condemned since. A push that was interrupted goes on
where its journal says that it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from casckpt.errors import BusyError, DamagedObject, ReadOnlyStore, RemoteUntrusted
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId
from casckpt.format.remote import RemoteRef, RemoteRoot, SegmentRef
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.gathering import Gathering, new_commits
from casckpt.ops.publishing import publish
from casckpt.ops.push_refs import Lease, Policy, RefPlan, chosen_refs, expected_refs, sent_settings, stranded
from casckpt.ops.push_reports import PushReport, RemoteMove
from casckpt.ops.values import Progress, counted
from casckpt.plan.names import tracking_ref
from casckpt.plan.transfer import ABSENT, METADATA_PACK_BYTES, SEGMENT_ROWS, merged_drops, packs_for
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.holding import Holding
from casckpt.remote.locks import RemoteLock
from casckpt.remote.push_journal import PushJournal
from casckpt.remote.roots import append_root, empty_root, new_push_id, pusher
from casckpt.remote.sending import CONCURRENCY, Sender, Sent, segment_of, verify
from casckpt.remote.supply import Supply
from casckpt.remote.view import RemoteView
from casckpt.storage.metered import Metered
from casckpt.storage.objects import Objects

_TRIES = 3


def push(
    repository: Repository,
    objects: Objects,
    name: str,
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    mirror: bool = False,
    policy: Policy = "ff",
    lease: Lease = None,
    dry_run: bool = False,
    verify: bool = False,
    lock: RemoteLock | None = None,
    accept_rollback: bool = False,
    note: str = "",
    progress: Progress | None = None,
    concurrency: int = CONCURRENCY,
) -> PushReport:
    """Push runs and tags to a remote.

    Args:
        objects: the remote.
        name: what this store calls it.
        names: of runs, tags and refs; none for the current run. `everything`: all runs and tags.
        mirror: everything, and runs and tags of the remote that are not here go; its old roots still name them.
        policy: for a ref that has moved there, see `plan.ref_policy`. `lease`: see `expected_refs`.
        dry_run: say what it would take, and send nothing. `verify`: read back what was sent, before it is named.
        lock: of the remote, which must still be held when the refs move. `concurrency`: uploads at a time.
        accept_rollback: take the remote as it is, even if it is older than it was. `note`: goes into the root.
        progress: called with the stored bytes sent, and in all.

    Raises:
        RevisionNotFound: nothing has one of the names.
        NotFastForward, LeaseLost, LockLost: the refs cannot move; nothing was changed.
        DamagedObject: something that would be sent is damaged here; nothing was changed.
        OutcomeUnknown: nobody answered; to push again finds out.
        RemoteUnavailable, RemoteDenied: nothing was changed; what arrived is not sent again.
        RolledBack, RemoteUntrusted: the remote is not what it was, or not what a remote can be.

    Memory: 32 MiB for each upload and one more, 5 MB each to `verify`, 60 bytes for each object there, 300 each sent.
    """
    start = time.monotonic()
    if objects.read_only:
        raise ReadOnlyStore(path=objects.url, problem="this remote can only be read")
    database = repository.database
    database.refresh()
    named = chosen_refs(database, names, everything=everything or mirror)
    metered = Metered(objects)
    view = RemoteView(metered, RemoteFolder(repository.storage, name))
    expected = expected_refs(database, name, named, lease) if policy == "lease" else {}
    plan = RefPlan(database, view, {**named, **stranded(database, named)}, policy, expected, mirror, lock)
    before = view.refresh(accept_rollback=accept_rollback)
    with _journal(view.folder, name, wanted=not dry_run) as journal:
        work = _Push(database, view, plan, journal, progress, concurrency, verify)
        if dry_run:
            work.rehearse(before)
        else:
            append_root(view, work.change, work.push_id, note=note)
            work.finish()
            _track(repository, name, view.root)
            work.requests = dict(metered.traffic.requests)
    return work.report(
        remote=name,
        url=objects.url,
        root=0 if view.root is None else view.root.seq,
        up=metered.traffic.up,
        down=metered.traffic.down,
        seconds=time.monotonic() - start,
        dry_run=dry_run,
    )


@contextmanager
def _journal(folder: RemoteFolder, name: str, *, wanted: bool) -> Iterator[PushJournal | None]:
    """The journal of the pushes to a remote, None if another push of this store is at it."""
    with ExitStack() as stack:
        journal = None
        if wanted:
            try:
                stack.enter_context(folder.locked(f"push-{name}", 0))
                journal = PushJournal(folder)
            except BusyError:
                pass
        yield journal


class _Push:
    """One push at work."""

    def __init__(
        self,
        database: Database,
        view: RemoteView,
        plan: RefPlan,
        journal: PushJournal | None,
        progress: Progress | None,
        concurrency: int,
        verify: bool,
    ) -> None:
        self._database = database
        self._view = view
        self._plan = plan
        self._journal = journal
        self._progress = progress if plan.lock is None else plan.lock.renewing(progress)
        self._concurrency = concurrency
        self._verify = verify
        self._gathering = Gathering(database)
        self._supply = Supply(database)
        found = None if journal is None else journal.resume()
        self.push_id = new_push_id() if found is None else found[0]
        self._is_begun = found is not None
        self._mine: list[Sent] = [] if found is None else found[1]
        """Packs of this push that are on the remote, so far as is known."""
        self._era = None if self._mine else (-1, -1)
        """The breaks of the view and the epoch of the root by which they were looked for last; None if never."""
        self._segments: list[tuple[SegmentRef, bytes]] = []
        self._listed: list[Sent] = []
        """The packs that these segments list."""
        self.moves: tuple[RemoteMove, ...] = ()
        self.commits = self.objects = self.packs = self.nbytes = self.resumed = 0
        self.requests: dict[str, int] = {}
        """Those that were made, or of a dry run those that it would take."""

    # -- the next root

    def change(self, root: RemoteRoot) -> RemoteRoot:
        """The root that follows, with everything that it needs sent."""
        refs = self._plan.refs(root)
        self.moves = _moves(root, refs)
        runs = {**root.runs, **self._run_settings(refs)}
        fresh = self._gather(root, refs)
        if not self.moves and runs == root.runs and not fresh:
            return root
        self._send(root)
        now_ns = time.time_ns()
        old = root.refs
        return replace(
            root,
            refs={
                name: old[name] if name in old and old[name].commit == commit else RemoteRef(commit, now_ns, pusher())
                for name, commit in refs.items()
            },
            segments=tuple(sorted({*root.segments, *(ref for ref, _ in self._segments)})),
            # Of what somebody else pushed meanwhile, perhaps more of it than is here, this root says nothing.
            drops=merged_drops(root.drops, {one: self._gathering.commits[one].drop for one in fresh}),
            runs=runs,
        )

    def rehearse(self, root: RemoteRoot | None) -> None:
        """Find out what a push would do."""
        start = empty_root(self.push_id) if root is None else root
        refs = self._plan.refs(start)
        self.moves = _moves(start, refs)
        fresh = self._gather(start, refs)
        if not self.moves and not fresh:
            self.requests = {"list": 1}
            return
        lacking = self._lacking(start)
        chunks, others = self._supply.stored_bytes(lacking)
        self.objects, self.nbytes = len(lacking) // 32, chunks + others
        self.packs = packs_for(chunks) + packs_for(others, METADATA_PACK_BYTES)
        self.requests = {"list": 2, "put": self.packs + packs_for(self.objects, SEGMENT_ROWS) + 1 + (root is None)}

    def report(self, **facts: Any) -> PushReport:
        """What was done, or would be."""
        return PushReport(
            moves=self.moves,
            commits=self.commits,
            objects=self.objects,
            packs=self.packs,
            nbytes=self.nbytes,
            resumed=self.resumed,
            requests=self.requests,
            **facts,
        )

    def finish(self) -> None:
        """Remember the segments that became part of the remote, so that nobody fetches them; end the journal."""
        live = set() if self._view.root is None else {one.key for one in self._view.root.segments}
        for ref, data in self._segments:
            if ref.key in live:
                self._view.keep_segment(ref.key, data)
        if self._journal is not None:
            self._journal.end()

    def _gather(self, root: RemoteRoot, refs: Mapping[str, CommitId]) -> set[CommitId]:
        """Take in the commits that the remote has not, or not as whole as they are here; which these are."""
        theirs = {ref.commit for ref in root.refs.values()}
        ours = {commit for name, commit in refs.items() if name not in root.refs or root.refs[name].commit != commit}
        fresh = new_commits(self._database, ours, theirs)
        absent = [drop.commit for drop in root.drops if drop.rule == ABSENT]
        whole = {one for one in absent if self._database.has_commit(one) and self._database.drop(one) is None}
        if whole:
            fresh += [one for one in new_commits(self._database, self._plan.ours.values(), ()) if one[0] in whole]
        self._gathering.add(fresh)
        self.commits = len(fresh)
        return {identity for identity, _ in fresh}

    def _run_settings(self, refs: Mapping[str, CommitId]) -> dict[str, dict[str, Any]]:
        """Settings of the runs whose `last` there is ours, and the former names of these runs."""
        ours = {name: commit for name, commit in refs.items() if self._plan.ours.get(name) == commit}
        return sent_settings(self._database, ours)

    # -- what goes before it

    def _send(self, root: RemoteRoot) -> None:
        """See that everything that was gathered is there, and listed by segments.

        Raises:
            DamagedObject: something is damaged here.
        """
        self._look_for_mine(root)
        for number in range(_TRIES):
            try:
                self._send_lacking(root)
                break
            except DamagedObject:
                # A collector may have freed what was dropped since it was gathered: then less is sent.
                if number == _TRIES - 1 or self._gathering.is_current():
                    raise
                commits = [(one.id, one.commit) for one in self._gathering.commits.values()]
                self._gathering = Gathering(self._database)
                self._gathering.add(commits)
        wanted = self._wanted(root)
        if wanted != self._listed:
            self._segments = self._sender().segments(wanted)
            self._listed = wanted

    def _look_for_mine(self, root: RemoteRoot) -> None:
        """Let go of packs that were condemned, or are not there any more."""
        era = self._view.breaks, root.epoch
        if self._mine and self._era != era:
            condemned = set(root.condemned)
            self._mine = [one for one in self._mine if one.pack.key not in condemned and self._is_there(one)]
            self._listed, self._segments = [], []
            if self._era is None:
                self.resumed = len(self._mine)
        self._era = era

    def _is_there(self, sent: Sent) -> bool:
        if self._view.objects.size(sent.pack.key) != sent.pack.nbytes:
            return False
        try:
            # Whoever sent it may not have read it back.
            if self._verify:
                verify(self._view.objects, sent)
        except RemoteUntrusted:
            return False
        return True

    def _send_lacking(self, root: RemoteRoot) -> None:
        lacking = self._lacking(root)
        if not lacking:
            return
        self._begin()
        total = sum(self._supply.stored_bytes(lacking))
        sent = self._sender(counted(self._progress, total)).send(partial(self._supply.items, lacking))
        self._mine += sent
        self.packs += len(sent)
        self.nbytes += sum(one.pack.nbytes for one in sent)
        self.objects += sum(len(one.records) for one in sent)

    def _lacking(self, root: RemoteRoot) -> bytes:
        """The ids of what was gathered that neither the remote's index nor a pack of this push has."""
        own = (segment_of(one) for one in self._mine)
        return Holding([*self._view.segments(), *own], set(root.condemned)).lacking(self._gathering.ids())

    def _wanted(self, root: RemoteRoot) -> list[Sent]:
        """The packs of this push that hold something that the remote's index lacks."""
        lacking = Holding(self._view.segments(), set(root.condemned)).lacking(self._gathering.ids())
        ids = {lacking[at : at + 32] for at in range(0, len(lacking), 32)}
        return [one for one in self._mine if any(record.id in ids for record in one.records)]

    def _begin(self) -> None:
        if self._journal is not None and not self._is_begun:
            self._journal.begin(self.push_id)
            self._is_begun = True

    def _sender(self, advance: Callable[[int], None] = lambda count: None) -> Sender:
        note = (lambda sent: None) if self._journal is None else self._journal.add
        return Sender(
            self._view.objects,
            self.push_id,
            concurrency=self._concurrency,
            verify=self._verify,
            note=note,
            advance=advance,
        )


def _track(repository: Repository, remote: str, root: RemoteRoot | None) -> None:
    """Move the tracking refs of a remote to where its refs are, so far as their commits are known here."""
    database = repository.database
    if repository.storage.read_only:
        return
    there = {} if root is None else {tracking_ref(remote, name): ref.commit for name, ref in root.refs.items()}

    def moves() -> tuple[RefMove, ...]:
        here = database.refs(tracking_ref(remote, ""))
        wanted = {name: commit for name, commit in there.items() if database.has_commit(commit)}
        gone = here.keys() - there.keys()
        changed = [RefMove(name, here.get(name), commit) for name, commit in wanted.items() if here.get(name) != commit]
        return (*changed, *(RefMove(name, here[name], None) for name in sorted(gone)))

    database.refresh()
    if moves():
        publish(repository, lambda: Entry("push", time.time_ns(), refs=moves(), by=writer_name()), dry_run=False)


def _moves(root: RemoteRoot, refs: Mapping[str, CommitId]) -> tuple[RemoteMove, ...]:
    old = {name: ref.commit for name, ref in root.refs.items()}
    changed = sorted(name for name in old.keys() | refs.keys() if old.get(name) != refs.get(name))
    return tuple(RemoteMove(name, _hex(old.get(name)), _hex(refs.get(name))) for name in changed)


def _hex(commit: CommitId | None) -> str | None:
    return None if commit is None else commit.hex()
