"""bundle: runs, tags and commits as one file, which another store takes in without a network between them.

    create   commits that the names lead to -> objects -> a remote in a file, written aside -> the file
    list     head, root and commits of the file; with a look at every byte
    apply    fetch from the file, and move refs as a pull does; nothing is remembered of it

A bundle since a commit leaves out what that commit and those before it reach. Its head names the commit, and a store
that has it not whole takes nothing in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from functools import partial
from itertools import islice
from pathlib import Path

from casckpt.errors import BundleNeeds, CasckptError, DamagedBundle, UsageError
from casckpt.format.bundle import BundleHead
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, ObjectId, short_id
from casckpt.format.remote import RemoteRef, RemoteRoot
from casckpt.odb import locks
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.aside import written_aside
from casckpt.ops.bundle_reports import BundledCommit, BundledRef, BundleInfo, BundleReport, Content
from casckpt.ops.fetch import fetch_all
from casckpt.ops.fetch_choice import Selection, refs_of
from casckpt.ops.fetch_reports import PullReport
from casckpt.ops.gathering import Gathering, new_commits
from casckpt.ops.history import require_tree
from casckpt.ops.pull import PullPolicy, move_refs
from casckpt.ops.push_refs import OWN, chosen_refs, sent_settings
from casckpt.ops.reach import Reach
from casckpt.ops.remote_contents import commit_ids
from casckpt.ops.resolve import refs_named, resolve
from casckpt.ops.values import Progress, counted
from casckpt.plan.transfer import ABSENT, merged_drops
from casckpt.remote.bundle_objects import BundleReader, BundleWriter
from casckpt.remote.holding import without
from casckpt.remote.reading import RemoteReader
from casckpt.remote.roots import append_root, new_push_id, pusher
from casckpt.remote.salvage import UNREADABLE, readable
from casckpt.remote.sending import Sender
from casckpt.remote.supply import Supply
from casckpt.remote.view import RemoteView

COMMITS = "commits/"
"""What refs begin with that stand for commits which were asked for by anything but a run or tag."""
PROBLEMS_MAX = 100
_SHOWN = 3
_VERIFIED_AT_ONCE = 10_000
_WRITERS = 1
"""A disk takes one pack after another, and each that waits for it is 32 MiB of memory."""
_READERS = 2
"""One piece is read while another is compared with its ids."""


def bundle_create(
    repository: Repository,
    target: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    since: Sequence[str] = (),
    replace: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BundleReport:
    """Write runs, tags and commits with their histories into one file; it is whole there, or not at all.

    Args:
        target: the file; `replace` one that is there.
        names: runs and tags, and revisions of commits; none for the current run. `everything`: all runs and tags.
        since: revisions of commits that whoever applies the bundle has: what these and those before them reach is left
            out.
        dry_run: say what would be in it, and write nothing.
        progress: called with the stored bytes written, and in all.

    Raises:
        RevisionNotFound: nothing has one of the names.
        CommitDropped, CommitThinned: a commit that was asked for by itself is not whole here.
        UsageError: nothing is asked for.
        TargetExists: something is there, and is not to be replaced.
        DamagedObject: something that would go into it is damaged here.
        TooLarge: it would have more than 50 000 packs.
        StorageError: the disk failed or is full; nothing is left behind.

    Memory: two packs of 32 MiB, and 60 bytes for each object that goes into it or is left out.
    """
    started = time.monotonic()
    # What is being read must not be collected meanwhile.
    with locks.committing(repository.storage):
        database = repository.database
        database.refresh()
        load = _Load(
            database, _chosen(database, names, everything=everything), [resolve(database, one) for one in since]
        )
        sizes = sum(load.supply.stored_bytes(load.ids))
        nbytes = sizes
        with written_aside(Path(target), replace=replace, dry_run=dry_run) as file:
            if not dry_run:
                head = BundleHead(time.time_ns(), writer_name(), load.needs)
                with BundleWriter(file, os.fspath(target), head) as bundle:
                    load.send(bundle, counted(progress, sizes))
                nbytes = file.seek(0, os.SEEK_END)
        if progress is not None and not dry_run:  # what rode in the journal is shorter now that it was encoded
            progress(sizes, sizes)
    return BundleReport(
        path=os.fspath(target),
        refs=tuple(sorted(load.refs)),
        needs=tuple(one.hex() for one in load.needs),
        commits=load.commits,
        objects=len(load.ids) // 32,
        nbytes=nbytes,
        seconds=time.monotonic() - started,
        dry_run=dry_run,
    )


def _chosen(database: Database, names: Sequence[str], *, everything: bool) -> dict[str, CommitId]:
    """What goes into a bundle, by the refs that it will have there."""
    if everything or not names:
        found = chosen_refs(database, names, everything=everything)
        if not found:
            raise UsageError(problem="the store has no runs and tags that could go into a bundle")
        return found
    found = {}
    for text in names:
        ref = refs_named(database, text)[0]
        if ref.startswith(OWN) and database.ref(ref) is not None:
            found |= chosen_refs(database, [text], everything=False)
        else:
            commit = resolve(database, text)
            require_tree(database, commit)
            found[f"{COMMITS}{commit.hex()}"] = commit
    return found


class _Load:
    """What goes into a bundle.

    Args:
        refs: its names.
        since: commits whose objects stay out, and those of the commits before them.
    """

    def __init__(self, database: Database, refs: Mapping[str, CommitId], since: Iterable[CommitId]) -> None:
        self._database = database
        self.refs = refs
        self.needs = tuple(sorted(set(since)))
        self.supply = Supply(database)
        gathering, left_out = Gathering(database), Gathering(database)
        gathering.add(new_commits(database, refs.values(), self.needs))
        left_out.add(_commits(database, self.needs))
        self.commits = len(gathering.commits)
        # A name for a commit from before goes along with that commit's own object, for who does not know it any more.
        stubs = sorted({commit for commit in refs.values() if commit not in gathering.commits})
        self.ids = without(gathering.ids(), left_out.ids()) + b"".join(stubs)
        now_ns = time.time_ns()
        absent = {one: Drop(one, None, ABSENT, now_ns) for one in stubs}
        self._drops = merged_drops((), {one.id: one.drop for one in gathering.commits.values()} | absent)

    def send(self, bundle: BundleWriter, advance: Callable[[int], None]) -> None:
        """Make an empty bundle the remote that holds it."""
        push_id = new_push_id()
        view = RemoteView(bundle)
        view.refresh()
        sender = Sender(bundle, push_id, concurrency=_WRITERS, advance=advance)
        segments = sender.segments(sender.send(partial(self.supply.items, self.ids)))

        def change(root: RemoteRoot) -> RemoteRoot:
            return replaced(
                root,
                refs={name: RemoteRef(commit, time.time_ns(), pusher()) for name, commit in self.refs.items()},
                segments=tuple(sorted(ref for ref, _ in segments)),
                drops=self._drops,
                runs=sent_settings(self._database, self.refs),
            )

        append_root(view, change, push_id)


def _commits(database: Database, ids: Iterable[CommitId]) -> Iterator[tuple[CommitId, Commit]]:
    return ((one, commit) for one in ids if (commit := database.commit(one)) is not None)


def bundle_list(
    source: str | os.PathLike[str], *, verify: bool = False, progress: Progress | None = None
) -> BundleInfo:
    """What is in a bundle; no store is needed for it.

    Args:
        verify: also compare every object with its id.
        progress: hears of the plain bytes compared then.

    Raises:
        NotFoundError: there is no such file.
        DamagedBundle, RemoteUntrusted: it is no bundle, or not a whole one.
        FormatError: one of a newer version.

    Memory: what it returns, two pieces of 34 MiB, and some dozen MB.
    """
    with BundleReader(source) as bundle:
        view = RemoteView(bundle)
        root = view.refresh()
        if root is None:
            raise DamagedBundle(remote=bundle.url, problem="it has no root")
        reader = RemoteReader(view, concurrency=_READERS)
        problems: list[str] = []
        commits = list(_listed(view, reader, root, problems))
        if verify:
            _verify(view, reader, problems, progress)
        return BundleInfo(
            path=bundle.url,
            nbytes=bundle.nbytes,
            time_ns=bundle.head.time_ns,
            by=bundle.head.by,
            needs=tuple(one.hex() for one in bundle.head.needs),
            refs=tuple(BundledRef(name, ref.commit.hex(), ref.time_ns) for name, ref in sorted(root.refs.items())),
            commits=tuple(sorted(commits, key=lambda one: (-one.time_ns, one.id))),
            objects=sum(map(len, view.segments())),
            verified=verify,
            problems=tuple(dict.fromkeys(problems)),
        )


def bundle_apply(
    repository: Repository,
    source: str | os.PathLike[str],
    *,
    policy: PullPolicy = "ff",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PullReport:
    """Take in what a bundle holds, every object verified, and move the runs and tags of the store as a pull does.

    Args:
        policy: what becomes of a ref that has gone on both sides: `ff` refuses, `newest` takes the newer and keeps the
            other as `conflicts/...`.
        dry_run: read its metadata to tell what would come; change nothing.
        progress: called with the plain bytes that came, and all that are known to be missing.

    Raises:
        NotFoundError: there is no such file.
        BundleNeeds: it builds on commits that are not here, or not whole; nothing was changed.
        Diverged: a ref has gone on both sides; what came stays, and no ref was moved.
        DamagedBundle, RemoteUntrusted: it is not to be believed; no ref was moved. What came before is whole, and the
            next try finds it.
        StorageError: the disk failed or is full.

    Memory: two pieces of 34 MiB, and some dozen MB.
    """
    with BundleReader(source) as bundle:
        database = repository.database
        database.refresh()
        lacking = [one for one in bundle.head.needs if not _is_whole(database, one)]
        if lacking:
            shown = " ".join(map(short_id, lacking[:_SHOWN])) + (" and more" if len(lacking) > _SHOWN else "")
            raise BundleNeeds(bundle=bundle.url, commits=shown, needs=[one.hex() for one in lacking])
        fetched = fetch_all(
            repository,
            bundle,
            None,
            _selection(bundle),
            dry_run=dry_run,
            concurrency=_READERS,
            accept_rollback=False,
            progress=progress,
        )
        return move_refs(repository, fetched, policy=policy)


def _is_whole(database: Database, identity: CommitId) -> bool:
    commit = database.commit(identity)
    return commit is not None and database.drop(identity) is None and Reach(database).is_whole(identity, commit)


def _selection(bundle: BundleReader) -> Selection:
    """All refs of a bundle, and the commits in it that have none."""
    root = RemoteView(bundle).refresh()
    refs = {} if root is None else root.refs
    alone = [ref.commit.hex() for name, ref in refs.items() if name.startswith(COMMITS)]
    return Selection(refs=list(refs_of(root, bundle.url)) if alone else (), revisions=alone, whole=True)


def _listed(view: RemoteView, reader: RemoteReader, root: RemoteRoot, problems: list[str]) -> Iterator[BundledCommit]:
    drops = {drop.commit: drop for drop in root.drops}
    for one in readable(reader, commit_ids(view), partial(_note, problems)):
        identity = CommitId(one.record.id)
        try:
            commit = Commit.decode(one.plain())
        except UNREADABLE as error:
            _note(problems, identity, error)
            continue
        drop = drops.get(identity)
        content: Content = "whole" if drop is None else "absent" if drop.parts is None else "thinned"
        yield BundledCommit(identity.hex(), commit.run, commit.step, commit.time_ns, commit.nbytes, content)


def _verify(view: RemoteView, reader: RemoteReader, problems: list[str], progress: Progress | None) -> None:
    segments = view.segments()
    advance = counted(progress, sum(row.length for segment in segments for row in segment.rows()))
    for segment in segments:
        rows = segment.rows()
        while some := [row.id for row in islice(rows, _VERIFIED_AT_ONCE)]:
            for one in readable(reader, some, partial(_note, problems)):
                advance(one.record.length)


def _note(problems: list[str], identity: ObjectId, error: CasckptError) -> None:
    if len(problems) < PROBLEMS_MAX:
        problems.append(f"object {short_id(identity)}: {error.reason or error.summary}")
