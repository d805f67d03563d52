"""fetch: what a remote has becomes known here, and its content part of the store; no ref of this store moves.

    newest root -> refs -> commits -> what is missing here -> objects, each verified -> packs durable -> one frame

The frame adds the packs, the commits, the records of what was not fetched, and the tracking refs, all at once. What
came before an interruption stays in the store, so that the next try goes on from there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from casckpt.errors import CasckptError, NotOnRemote, RemoteUntrusted
from casckpt.format.entry import Drop, Entry, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.format.remote import RemoteRoot
from casckpt.odb.database import Database
from casckpt.odb.renames import listed
from casckpt.odb.repository import Repository, writer_name
from casckpt.odb.session import Session
from casckpt.ops.fetch_choice import RUN_SETTINGS, Selection, chosen_refs, plain_rule, refs_of
from casckpt.ops.fetch_reports import FetchReport, moved
from casckpt.ops.incoming import Incoming
from casckpt.ops.incoming_content import Content, Wanted
from casckpt.ops.incoming_history import History, Reached
from casckpt.ops.publishing import settings_changed
from casckpt.ops.values import Progress
from casckpt.plan.names import run_of
from casckpt.plan.transfer import ABSENT
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.reading import CONCURRENCY, RemoteReader
from casckpt.remote.view import RemoteView
from casckpt.state.select import may_reach
from casckpt.storage.metered import Metered
from casckpt.storage.objects import Objects

TRACKING = "remotes"
TRIES = 6
"""How often a fetch is planned by a newer root, where a collection has removed what it was about to read."""


class _Fate(NamedTuple):
    """What a commit lacks after the fetch: nothing, all (`lost` None) or components; by which rule, since when."""

    lost: tuple[str, ...] | None
    rule: str
    time_ns: int

    @property
    def is_whole(self) -> bool:
        return self.lost == ()


def fetch(
    repository: Repository,
    objects: Objects,
    name: str,
    selection: Selection | None = None,
    *,
    dry_run: bool = False,
    concurrency: int = CONCURRENCY,
    accept_rollback: bool = False,
    progress: Progress | None = None,
) -> FetchReport:
    """Take over from a remote what is asked for, every object verified.

    Args:
        name: of the remote, for its tracking refs.
        dry_run: read metadata to tell what would come; change nothing.
        concurrency: pieces of packs on their way at a time.
        accept_rollback: take the remote as it is, even if it is older than it was.
        progress: called with the plain bytes that came, and all that are known to be missing.

    Raises:
        NotOnRemote: the remote has not what is asked for, also by its newest root.
        RolledBack, RemoteUntrusted: the remote is not to be believed; nothing was changed.
        RemoteUnavailable, RemoteDenied: it could not be read; what came before is kept for another try.
        StorageError: the disk failed or is full.

    Memory: `concurrency` pieces of 34 MiB, and some dozen MB.
    """
    return fetch_all(
        repository,
        objects,
        name,
        selection or Selection(),
        dry_run=dry_run,
        concurrency=concurrency,
        accept_rollback=accept_rollback,
        progress=progress,
    ).report


class Fetched(NamedTuple):
    """A fetch that is done, or was tried."""

    report: FetchReport
    refs: Mapping[str, CommitId]
    """The refs of the remote that were asked for, by their names there."""
    fresh: Mapping[CommitId, bytes]
    """Encoded commits that were not here."""
    view: RemoteView


def fetch_all(
    repository: Repository,
    objects: Objects,
    name: str | None,
    selection: Selection,
    *,
    dry_run: bool,
    concurrency: int,
    accept_rollback: bool,
    progress: Progress | None,
) -> Fetched:
    """`fetch`, for who goes on with what it found.

    Args:
        name: None for what is read once and has no name: then nothing of it is remembered, and no ref tracks it.
    """
    start = time.monotonic()
    selection.check()
    metered = Metered(objects)
    view = RemoteView(metered, None if name is None else RemoteFolder(repository.storage, name))
    root = view.refresh(accept_rollback=accept_rollback)
    repository.database.refresh()
    with repository.session(dry_run=dry_run) as session:
        reader = RemoteReader(view, concurrency=concurrency)
        incoming = Incoming(repository.database, session, view, reader, progress, store=not dry_run)
        for number in range(TRIES):
            step = _Step(repository.database, session, incoming, view, name, selection)
            try:
                step.bring(root)
                break
            except BaseException as error:
                # Objects that nothing names: no more than a next try finds.
                with contextlib.suppress(CasckptError):
                    session.keep()
                before = root
                if not isinstance(error, NotOnRemote) or number == TRIES - 1:
                    raise
                # What is missing may have gone with a root since, which says what there is to be had now.
                root = view.refresh()
                if root is before:
                    raise
                session.keep(least=0)
                incoming.look_again()
        facts = step.publish(dry_run=dry_run)
    report = FetchReport(
        remote=objects.url if name is None else name,
        url=objects.url,
        root=0 if root is None else root.seq,
        requests=dict(metered.traffic.requests),
        up=metered.traffic.up,
        down=metered.traffic.down,
        seconds=time.monotonic() - start,
        dry_run=dry_run,
        **facts,
    )
    return Fetched(report, step.refs, step.fresh, view)


class _Step:
    """One fetch between its look at the remote and its frame."""

    def __init__(
        self,
        database: Database,
        session: Session,
        incoming: Incoming,
        view: RemoteView,
        name: str | None,
        selection: Selection,
    ) -> None:
        self._database = database
        self._session = session
        self._incoming = incoming
        self._view = view
        self._name = view.objects.url if name is None else name
        self._prefix = None if name is None else f"{TRACKING}/{name}/"
        self._selection = selection
        self._now_ns = time.time_ns()
        self._root: RemoteRoot | None = None
        self._refs: dict[str, CommitId] = {}
        self._gone: list[str] = []
        self._history = History(database, view, incoming)
        self._fates: dict[CommitId, _Fate] = {}
        self._named: set[CommitId] = set()
        """Commits that were asked for by their ids: their content comes even if it was dropped here by a rule."""

    def bring(self, root: RemoteRoot | None) -> None:
        """Bring what is asked for into the session; nothing names it yet."""
        self._root = root
        url = self._view.objects.url
        known = refs_of(root, url)
        self._refs, ids = chosen_refs(known, self._selection, url)
        prefix = self._prefix
        if self._selection.is_all and prefix is not None:
            self._gone = [ref for ref in self._database.refs(prefix) if ref.removeprefix(prefix) not in known]
        self._named = {self._commit_by(text) for text in ids}
        drops = self._database.drops().values() if self._selection.is_deeper else ()
        is_absent_here = any(drop.rule == ABSENT for drop in drops)
        named = self._history.reach(self._named, through_known=False)
        reached = named | self._history.reach(self._refs.values(), through_known=is_absent_here)
        self._decide(reached)
        content = Content(self._incoming, url)
        only = self._selection.only
        wanted = [
            Wanted(identity, reached[identity].commit, self._lacks(identity, fate, only))
            for identity, fate in self._fates.items()
            if fate.lost is not None
        ]
        content.bring(sorted(wanted, key=lambda one: one.commit.time_ns))
        for one in wanted:
            fate = self._fates[one.id]
            lost = tuple(sorted(name for name in content.parts[one.id] if one.lacks(name)))
            is_by_rule = set(lost) <= set(fate.lost or ())
            rule, time_ns = (fate.rule, fate.time_ns) if is_by_rule else (ABSENT, self._now_ns)
            self._fates[one.id] = _Fate(lost, rule, time_ns)

    def _commit_by(self, text: str) -> CommitId:
        """The commit of the remote whose id begins so."""
        fits = {one for one in self._incoming.commits() if one.hex().startswith(text)}
        if len(fits) != 1:
            problem = f"{len(fits)} of its commits have such an id"
            raise NotOnRemote(remote=self._view.objects.url, object=f"one commit {text}", problem=problem)
        return fits.pop()

    def _decide(self, reached: Mapping[CommitId, Reached]) -> None:
        """What becomes of each commit that was reached and is not here as a whole."""
        there = {drop.commit: drop for drop in (() if self._root is None else self._root.drops)}
        depth = self._selection.depth
        for identity, (_, steps) in reached.items():
            is_fresh = identity in self._history.fresh
            own = None if is_fresh else self._database.drop(identity)
            is_named = identity in self._named
            is_left_out = own is not None and own.rule == ABSENT and self._selection.is_deeper
            if not (is_fresh or is_left_out or (own is not None and is_named)):
                continue
            drop = there.get(identity)
            is_far = depth is not None and steps >= depth and not is_named
            if is_far or (drop is not None and drop.parts is None):
                fate = _Fate(None, ABSENT, self._now_ns)
            else:
                fate = _Fate((), "", self._now_ns)
            if drop is not None and (drop.parts is None or not is_far):
                fate = _Fate(drop.parts, plain_rule(drop.rule, self._view.objects.url), drop.time_ns)
            # What is here in part stays, whatever is asked for now.
            if own is None or fate.lost is not None or (drop is not None and own.parts is None):
                self._fates[identity] = fate

    def _lacks(self, identity: CommitId, fate: _Fate, only: Sequence[str] | None) -> Callable[[str], bool]:
        """Which components of a commit will not be here."""
        own = None if identity in self._history.fresh else self._database.drop(identity)
        lost = frozenset(fate.lost or ())

        def lacks(part: str) -> bool:
            is_here = own is not None and own.parts is not None and part not in own.parts
            return not is_here and (part in lost or (only is not None and not may_reach(only, part)))

        return lacks

    @property
    def refs(self) -> dict[str, CommitId]:
        """The refs that were asked for, but for those of commits that this store is to know nothing of."""
        forgotten = self._database.forgotten()
        return {ref: commit for ref, commit in self._refs.items() if commit not in forgotten}

    @property
    def fresh(self) -> Mapping[CommitId, bytes]:
        """Encoded commits that were not here."""
        return self._history.fresh

    def publish(self, *, dry_run: bool) -> dict[str, Any]:
        """Make what came part of the store, and say where the refs of the remote are; fields of the report."""
        made: list[Entry] = []
        fresh = self._history.fresh

        def settle() -> tuple[Entry, list[tuple[ObjectId, Kind, bytes]]]:
            made.append(self._entry())
            return made[-1], []

        number = None
        entry = self._entry()
        if entry.refs or entry.drops or entry.runs or fresh:
            if not dry_run:
                for data in fresh.values():
                    self._session.put(Kind.COMMIT, data)
            number = self._session.publish(settle)
            entry = made[-1]
        elif not dry_run:
            self._session.keep()
        fates = self._fates
        came = [fate for fate in fates.values() if fate.lost is not None]
        moves = (moved(ref.removeprefix(self._prefix or ""), old, new) for ref, old, new in entry.refs)
        return {
            "refs": tuple(moves),
            "commits": len(fresh),
            "whole": sum(fate.rule != ABSENT for fate in came),
            "partial": sum(fate.rule == ABSENT for fate in came),
            "absent": sum(identity in fates and fates[identity].lost is None for identity in fresh),
            "objects": self._incoming.objects,
            "nbytes": self._incoming.nbytes,
            "operation": None if dry_run else number,
        }

    def _entry(self) -> Entry:
        database, prefix = self._database, self._prefix
        wanted: dict[str, CommitId | None] = dict.fromkeys(self._gone)
        if prefix is not None:
            wanted |= {prefix + ref: commit for ref, commit in self.refs.items()}
        moves = ((ref, database.ref(ref), commit) for ref, commit in sorted(wanted.items()))
        runs, before = settings_changed(database, self._settings())
        return Entry(
            "fetch",
            time.time_ns(),
            refs=tuple(RefMove(*move) for move in moves if move[1] != move[2]),
            drops=tuple(self._drops()),
            runs=runs,
            before=before,
            by=writer_name(),
            note=f"from {self._name}",
        )

    def _drops(self) -> Iterable[Drop]:
        """Records of what is not here now, and the end of those that are out of date."""
        for identity, fate in self._fates.items():
            before = self._database.drop(identity)
            is_fresh = identity in self._history.fresh
            if is_fresh and before is None and self._database.has_commit(identity):
                continue  # somebody else brought it meanwhile, whole
            after = None if fate.is_whole else Drop(identity, fate.lost, fate.rule, fate.time_ns)
            if before is not None and (after is None or before[1:3] != after[1:3]):
                yield before._replace(cancelled=True)
            if after is not None and (before is None or before[1:3] != after[1:3]):
                yield after

    def _settings(self) -> dict[str, dict[str, Any]]:
        """What the remote says of the runs that were asked for, where nothing is said of them here."""
        runs = {head[0] for head in map(run_of, self._refs) if head is not None}
        found: dict[str, dict[str, Any]] = {}
        for run, settings in ({} if self._root is None else self._root.runs).items():
            known = {key: settings[key] for key in RUN_SETTINGS if key in settings}
            later = {name for _, name in listed(settings.get("renamed"))}
            if known and not runs.isdisjoint({run, *later}) and self._is_new(run):
                if not all(RUN_SETTINGS[key](value) for key, value in known.items()):
                    raise RemoteUntrusted(remote=self._view.objects.url, problem=f"settings of run {run!a} are wrong")
                found[run] = known
        return found

    def _is_new(self, run: str) -> bool:
        """Whether nothing of a run is known here: what somebody else says of it then changes nothing."""
        database = self._database
        return not (database.run_settings(run) or database.total(run)[0] or database.refs(f"runs/{run}/"))


def tracked(database: Database, name: str) -> dict[str, CommitId]:
    """What the refs of a remote named at the last fetch or push, by their names there."""
    prefix = f"{TRACKING}/{name}/"
    return {ref.removeprefix(prefix): commit for ref, commit in database.refs(prefix).items()}
