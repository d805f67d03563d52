"""What a remote must keep: the commits its refs lead to, what a policy lets go of them, and all that they reach.

root -> refs -> commits -> decision of the policy, drops of the root -> order in which states go -> ids that must stay

Commits and trees are read from the remote, or here where they are known; their content is not read at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

import numpy as np

from casckpt.errors import DamagedObject, FormatError, NotOnRemote, UnreadableCommit
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, Kind, ObjectId, short_id
from casckpt.format.objects import Component
from casckpt.format.pack_columns import Ids, prefixes
from casckpt.format.remote import RemoteRoot
from casckpt.odb.database import Database
from casckpt.ops.losses import is_lost
from casckpt.ops.marks import Leaving, ordered
from casckpt.ops.reach import Loss, Reach
from casckpt.ops.retain import THIN
from casckpt.plan.decision import CommitFacts, Plan
from casckpt.plan.id_sets import among
from casckpt.plan.names import HEADS, run_of
from casckpt.plan.policy import Retention, grace_of
from casckpt.plan.reclaim import STAYS, Holder, Reached, reached
from casckpt.plan.remote_gc import Listing
from casckpt.plan.retention import decide
from casckpt.remote.reading import RemoteReader
from casckpt.remote.view import Found, RemoteView

_BATCH_BYTES = 16 << 20
"""Plain bytes of trees and components that are fetched at a time."""
_Data = bytes | bytearray | memoryview
Item = TypeVar("Item")


class Look(NamedTuple):
    """What a remote needs at one moment."""

    commits: Mapping[CommitId, Commit]
    retained: Plan | None
    """What the policy says of each; None without a policy."""
    drops: tuple[Drop, ...]
    """Of the commits there are: those of the root, and what the policy drops now."""
    dropped: tuple[Drop, ...]
    """What the policy drops now."""
    leaving: tuple[Leaving, ...]
    """Those that lose something, first those whose grace is over; the number of one is its rank in `reached`."""
    ended: int
    reached: Reached
    now_ns: int

    @property
    def needed(self) -> Ids:
        """What must stay, ascending."""
        return self.reached.needed(self.ended)

    def check(self, missing: Ids, url: str) -> None:
        """Raise NotOnRemote if objects that whole commits need are among those that no pack has."""
        lost = missing[among(missing, self.reached.needed())]
        whole = {one.id for one in self.leaving if one.drop.parts is None}
        optional = prefixes(b"".join(one for commit in whole for one in _metadata(self.commits[commit])))
        optional.sort()
        lost = lost[~among(lost, optional)]
        if len(lost):
            problem = f"{len(lost)} objects that its commits need are in none of its packs; nothing was changed"
            raise NotOnRemote(remote=url, object=f"object {int(lost[0]).to_bytes(8, 'little').hex()}", problem=problem)


class RemoteMetadata:
    """Commits, trees and what leads to content, by id: from the store where it knows them, else from the remote."""

    def __init__(self, view: RemoteView, database: Database) -> None:
        self._view = view
        self._database = database
        self._reader = RemoteReader(view)
        self._held: dict[ObjectId, bytes] = {}

    @property
    def url(self) -> str:
        """Of the remote."""
        return self._view.objects.url

    def row(self, identity: bytes, /) -> Found | None:
        """Where an object lies on the remote."""
        return self._view.find(ObjectId(identity))

    def read(self, identity: ObjectId, kind: Kind, /) -> _Data:
        """Plain bytes of an object; DamagedObject if it is nowhere."""
        held = self._held.get(identity)
        if held is not None:
            return held
        if self._is_here(identity):
            with suppress(DamagedObject, FormatError):
                return self._database.read(identity, kind)
        if self.row(identity) is None:
            word = kind.name.lower()
            raise DamagedObject(kind=word, id=short_id(identity), problem="no pack has it", location=self.url)
        return self._reader.plain(identity, kind)

    def nbytes(self, identity: ObjectId) -> int:
        """Plain bytes that an object takes when it is at hand; 0 of what is nowhere, or here anyhow."""
        found = self.row(identity)
        return 0 if found is None or self._is_here(identity) else found.row.length

    def fetch(self, ids: Iterable[ObjectId]) -> None:
        """Have objects at hand that only the remote has, in few requests."""
        wanted = [one for one in dict.fromkeys(ids) if one not in self._held and self.nbytes(one)]
        for found in self._reader.read(wanted):
            self._held[found.record.id] = found.plain()

    def let_go(self, but: Collection[ObjectId] = ()) -> None:
        """Have nothing at hand any more, but for some."""
        self._held = {one: self._held[one] for one in but if one in self._held}

    def _is_here(self, identity: ObjectId) -> bool:
        return self._database.row(identity) is not None


class RemoteLive:
    """Looks at what a remote needs; what was read once stays known. One thread.

    Keeps the commits of the remote, and 8 bytes for each id of their components.

    Args:
        policy: what the remote keeps; None to drop nothing.
        now: as if all graces were over.
    """

    def __init__(self, view: RemoteView, database: Database, policy: Retention | None, *, now: bool) -> None:
        self._policy = () if policy is None else (policy,)
        self._now = now
        self._database = database
        self._metadata = RemoteMetadata(view, database)
        self._reach = Reach(self._metadata)
        self._commits: dict[CommitId, Commit] = {}
        self._read: set[ObjectId] = set()
        """Trees and components that were read."""

    def look(self, root: RemoteRoot, listing: Listing, now_ns: int) -> Look:
        """What the remote needs as this root says.

        Args:
            listing: of the live segments of this root.
            now_ns: the time, for the policy and for graces.

        Raises:
            NotOnRemote: a ref names a commit that is not there.
            UnreadableCommit: an object on the way to a commit's state is damaged or missing.
            InvalidRetention: the policy cannot be meant for one of the runs.
        """
        commits = self._known(root, listing)
        self._read_trees(commits, listing)
        before = _merged(drop for drop in root.drops if drop.commit in commits)
        retained = self._retained(root, commits, before, now_ns)
        dropped = tuple(_new_drops(retained, before, now_ns))
        drops = before | {drop.commit: drop for drop in dropped}
        leaving = ordered(
            Leaving(identity, commits[identity], drop, drop.time_ns + grace_of(self._policy, commits[identity].run))
            for identity, drop in drops.items()
        )
        ended = sum(self._now or one.final_ns <= now_ns for one in leaving)
        losses = {one.id: (Loss(rank, one.drop.parts, rank < ended),) for rank, one in enumerate(leaving)}
        holders = [Holder(prefixes(b"".join(commits)), STAYS, STAYS), *self._reach.holders(commits.items(), losses)]
        return Look(commits, retained, tuple(drops.values()), dropped, tuple(leaving), ended, reached(holders), now_ns)

    def _known(self, root: RemoteRoot, listing: Listing) -> dict[CommitId, Commit]:
        """All commits that refs lead to. A parent that is not there was forgotten, and so was what came before it."""
        there = {CommitId(one) for one in listing.ids(Kind.COMMIT)}
        self._read_commits(there)
        commits: dict[CommitId, Commit] = {}
        for name, ref in root.refs.items():
            if ref.commit not in there:
                problem = f"{name!a} names it; nothing was changed"
                object_name = f"commit {short_id(ref.commit)}"
                raise NotOnRemote(remote=self._metadata.url, object=object_name, problem=problem)
            line = [ref.commit]
            while line:
                identity = line.pop()
                if identity not in commits and identity in there:
                    commits[identity] = self._commits[identity]
                    line += commits[identity].parents
        return commits

    def _read_commits(self, wanted: Iterable[CommitId]) -> None:
        metadata = self._metadata
        for part in _parts(sorted(one for one in wanted if one not in self._commits), metadata.nbytes):
            metadata.fetch(part)
            for identity in part:
                known = self._database.commit(identity)
                if known is None:
                    known = Commit.decode(bytes(metadata.read(identity, Kind.COMMIT)))
                self._commits[identity] = known
            metadata.let_go()

    def _read_trees(self, commits: Mapping[CommitId, Commit], listing: Listing) -> None:
        """Read what leads to the content of commits, many objects at a time; what is not there is passed over."""
        metadata = self._metadata
        users = {commit.tree: identity for identity, commit in commits.items()}
        trees = [tree for tree in users if tree not in self._read and metadata.row(tree) is not None]
        pages = np.sort(prefixes(b"".join(listing.ids(Kind.PAGE))))
        for part in _parts(trees, metadata.nbytes):
            metadata.fetch(part)
            found = {tree: self._reach.tree(users[tree], commits[users[tree]]).components for tree in part}
            metadata.let_go()
            self._read_components({one: users[tree] for tree in part for _, one in found[tree]}, pages)
            self._read.update(part)

    def _read_components(self, users: Mapping[ObjectId, CommitId], pages: Ids) -> None:
        metadata = self._metadata
        components = [one for one in users if one not in self._read and metadata.row(one) is not None]
        for part in _parts(components, metadata.nbytes):
            metadata.fetch(part)
            leads_to = {one: self._leads_to(one, pages) for one in part}
            weights = {one: sum(map(metadata.nbytes, others)) for one, others in leads_to.items()}
            for group in _parts(part, weights.__getitem__):
                metadata.fetch(other for one in group for other in leads_to[one])
                for one in group:
                    # Of what a commit let go a part may be there; whether more must be is asked when it is needed.
                    with suppress(UnreadableCommit):
                        self._reach.component(users[one], one)
                metadata.let_go(but=part)
            metadata.let_go()
        self._read.update(components)

    def _leads_to(self, component: ObjectId, pages: Ids) -> list[ObjectId]:
        """The objects that tell what a component reaches: its structure and its pages."""
        found = Component.decode(bytes(self._metadata.read(component, Kind.COMPONENT)))
        places = np.flatnonzero(among(prefixes(found.digests), pages)).tolist()
        return [found.structure, *(ObjectId(found.digests[at * 32 : at * 32 + 32]) for at in places)]

    def _retained(
        self, root: RemoteRoot, commits: Mapping[CommitId, Commit], drops: Mapping[CommitId, Drop], now_ns: int
    ) -> Plan | None:
        if not self._policy:
            return None
        facts = list(self._facts(root, commits, drops))
        rules = {run: settings.get("best") for run, settings in root.runs.items()}
        best = {run: (rule[0], rule[1]) for run, rule in rules.items() if type(rule) is list and len(rule) == 2}
        return decide(facts, self._policy, now_ns, best=best)

    def _facts(
        self, root: RemoteRoot, commits: Mapping[CommitId, Commit], drops: Mapping[CommitId, Drop]
    ) -> Iterator[CommitFacts]:
        heads: dict[CommitId, set[str]] = {}
        tags: dict[CommitId, list[str]] = {}
        for name, ref in root.refs.items():
            head = run_of(name)
            if head is None:
                tags.setdefault(ref.commit, []).append(name.removeprefix("tags/"))
            else:
                heads.setdefault(ref.commit, set()).add(head[1])
        thins = any(layer.thins() for layer in self._policy)
        for identity, commit in commits.items():
            drop = drops.get(identity)
            lost = () if drop is None else drop.parts
            parts = self._reach.tree(identity, commit).parts if thins and lost is not None else ()
            yield CommitFacts.of(
                identity,
                commit,
                heads=tuple(head for head in HEADS if head in heads.get(identity, ())),
                tags=tuple(tags.get(identity, ())),
                dropped_ns=drop.time_ns if drop is not None and drop.parts is None else None,
                components=tuple(name for name, _ in parts if name not in (lost or ())),
            )


def _parts(items: Iterable[Item], nbytes: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Things in parts of bounded size."""
    part: list[Item] = []
    total = 0
    for item in items:
        part.append(item)
        total += nbytes(item)
        if total >= _BATCH_BYTES:
            yield part
            part, total = [], 0
    if part:
        yield part


def _metadata(commit: Commit) -> Iterator[ObjectId]:
    return (one for one in (commit.config, commit.environment, commit.code, commit.data) if one is not None)


def _merged(drops: Iterable[Drop]) -> dict[CommitId, Drop]:
    """One record for each commit: that of its whole state, else one of all components that it lost."""
    merged: dict[CommitId, Drop] = {}
    for drop in sorted(drops, key=lambda one: one.time_ns):
        before = merged.get(drop.commit)
        if not is_lost(before, drop.parts):
            merged[drop.commit] = _with(before, drop)
    return merged


def _with(before: Drop | None, drop: Drop) -> Drop:
    if before is None or drop.parts is None or before.parts is None:
        return drop
    return drop._replace(parts=tuple(sorted({*before.parts, *drop.parts})))


def _new_drops(plan: Plan | None, drops: Mapping[CommitId, Drop], now_ns: int) -> Iterator[Drop]:
    """What a policy lets go that is not let go yet."""
    for one in () if plan is None else plan.decisions:
        parts = None if one.by is not None else one.thin
        if (parts is None or parts) and not is_lost(drops.get(one.id), parts):
            drop = Drop(one.id, parts, THIN if one.by is None else one.by.rule, now_ns)
            yield _with(drops.get(one.id), drop)
