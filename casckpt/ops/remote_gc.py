"""Collection of a remote: what its refs and its policy leave is kept, all else is condemned by a root, then removed.

    newest root -> what is needed -> packs, segments and files of nobody -> what is little needed is written again
        -> root: live segments, epoch + 1, condemned -> (delay) -> removed -> root without what was removed

What keeps it safe is the order of roots alone. A collection condemns by the root that follows the one it looked at, or
not at all; whoever pushes meanwhile is first or sees the epoch grow; and no file gets the name of one that was there.
Clocks decide how soon something goes, never whether it may, and those of the remote itself.

It may be killed at any request. What it condemned the next one removes, and what it uploaded for nobody is condemned
when it is old enough, as what an interrupted push left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from casckpt.errors import DamagedObject, IntegrityError, NotOnRemote, RemoteUnavailable, UnreadableCommit
from casckpt.format.canonical import encode
from casckpt.format.remote import RemoteRoot, SegmentRef, check_key, segment_key
from casckpt.format.remote_index import Segment
from casckpt.odb.database import Database
from casckpt.ops.gc_reports import EARLY, FREES, WAITS, GcCommit
from casckpt.ops.remote_gc_reports import RemoteGcPlan, RemoteGcReport
from casckpt.ops.remote_live import Look, RemoteLive
from casckpt.ops.remote_removing import remove_condemned, remove_old_roots
from casckpt.ops.values import Progress, counted
from casckpt.plan.policy import Retention
from casckpt.plan.reclaim import freed
from casckpt.plan.remote_gc import Listing, PackUse, Uses
from casckpt.remote.clock import RemoteClock
from casckpt.remote.reading import RemoteReader
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.sending import Sender, row_of, store
from casckpt.remote.supply import Item
from casckpt.remote.view import RemoteView
from casckpt.storage.objects import Listed
from casckpt.units import DAY, SECOND

ROUNDS = 100
"""How often somebody else may be first with a root."""
_REWRITES = 3
"""In so many rounds packs are written again; what pushes meanwhile leave to do waits for the next collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """For how long a collection lets things be. Shorter waits cost others requests, and lose nothing.

    Args:
        delay_s: after so long files that were condemned are removed: who reads has had time to look where objects are.
        grace_s: for so long a file in no segment is left alone: a push may be about to name it.
        keep_roots: so many of the newest roots stay, which tell who moved what when,
        keep_roots_s: and all that are younger.
    """

    delay_s: float = 3600
    grace_s: float = 86400
    keep_roots: int = 200
    keep_roots_s: float = 30 * DAY / SECOND


def remote_gc(
    database: Database,
    view: RemoteView,
    policy: Retention | None = None,
    *,
    now: bool = False,
    repack: bool = True,
    dry_run: bool = False,
    waits: Waits | None = None,
    progress: Progress | None = None,
) -> RemoteGcReport:
    """Drop what the policy of a remote lets go, and free what its refs do not need.

    Args:
        database: of the store that collects; objects it holds need not be fetched. It is not changed.
        policy: of the remote; None to drop nothing.
        now: remove at once what is condemned, and end the graces of drops.
        repack: also write packs again of which little is needed.
        dry_run: change nothing.
        progress: called with the bytes removed, and in all.

    Raises:
        NotOnRemote, UnreadableCommit: nobody knows what is needed, or it is not there; nothing was changed.
        RemoteUntrusted, RolledBack: the remote is not what it was, or cannot be believed.
        InvalidRetention: the policy cannot be meant.
        OutcomeUnknown, RemoteUnavailable, RemoteDenied: the remote failed. To collect again is always right.

    Cost: lists all files, 1000 a request, and reads what leads to content where the store has it not. Memory: some 90
    bytes for each object of the remote.
    """
    collection = _Collection(database, view, policy, waits or Waits(), now=now, repack=repack)
    return collection.run(dry_run=dry_run, progress=progress)


class _Moved(Exception):
    """Somebody else made a root since the one that was looked at."""


class _Seen(NamedTuple):
    """A root, and what it leaves to do."""

    root: RemoteRoot
    segments: Sequence[Segment]
    look: Look
    uses: Uses
    rewrites: tuple[PackUse, ...]
    orphans: tuple[Listed, ...]
    young: tuple[Listed, ...]


class _Collection:
    """One collection; what it has seen, written and done so far."""

    def __init__(
        self, database: Database, view: RemoteView, policy: Retention | None, waits: Waits, *, now: bool, repack: bool
    ) -> None:
        self._view = view
        self._live = RemoteLive(view, database, policy, now=now)
        self._repack = repack
        self._waits = waits
        self._delay_ns = 0 if now else int(waits.delay_s * SECOND)
        self._grace_ns = int(waits.grace_s * SECOND)
        self._push_id = new_push_id()
        self._clock = RemoteClock(view)
        self._files: dict[str, Listed] = {}
        self._era = (-1, -1)
        self._written: list[Segment] = []
        """Packs that this collection wrote, as segments that are nowhere yet; nobody can have condemned them."""
        self._uploaded: set[str] = set()
        """Keys that nobody else knows: what of them no root comes to name is condemned with the rest."""
        self._condemned = self._removed = self._nbytes = self._segments = self._packs = 0

    def run(self, *, dry_run: bool, progress: Progress | None) -> RemoteGcReport:
        if self._view.refresh() is None:
            return RemoteGcReport(RemoteGcPlan(0), 0, dry_run=dry_run)
        self._list_files()
        seen = self._look()
        plan = self._plan(seen)
        roots = 0
        if not dry_run:
            self._settle(seen)
            self._remove(progress)
            waits = self._waits
            keep_ns = int(waits.keep_roots_s * SECOND)
            roots = remove_old_roots(self._view, self._clock, waits.keep_roots, keep_ns)
        root = self._view.root
        return RemoteGcReport(
            plan=plan,
            root=0 if root is None else root.seq,
            condemned=self._condemned,
            removed=self._removed,
            nbytes=self._nbytes,
            rewritten=self._packs,
            segments=self._segments,
            roots=roots,
            dry_run=dry_run,
        )

    def _settle(self, seen: _Seen) -> None:
        """Condemn what is not needed, by a root that follows the one that was looked at."""
        for number in range(ROUNDS):
            if self._must_ask(seen):
                self._clock.ask(self._push_id)
            elif seen.rewrites and number < _REWRITES:
                self._rewrite(seen)
            else:
                try:
                    self._condemn(seen)
                    return
                except _Moved:
                    pass
            seen = self._look()
        raise self._too_late()

    def _too_late(self) -> RemoteUnavailable:
        problem = f"others were first {ROUNDS} times"
        return RemoteUnavailable(remote=self._view.objects.url, operation="take a new root", problem=problem)

    # -- looking

    def _list_files(self) -> None:
        for folder in ("packs", "index"):
            for listed in self._view.objects.list(f"{folder}/"):
                try:
                    check_key(listed.key, folder)
                except IntegrityError:
                    continue  # no file of ours: whoever put it there may want it
                self._files[listed.key] = listed
                self._clock.see(listed)

    def _look(self) -> _Seen:
        """What the newest root leaves to do."""
        for _ in range(ROUNDS):
            root, segments = self._view.root, self._view.segments()
            if root is None or root is not self._view.root:
                continue
            if (self._view.breaks, root.epoch) != self._era:
                # Whoever condemned something may have condemned what this collection wrote.
                self._era, self._written = (self._view.breaks, root.epoch), []
            listing = Listing([*segments, *self._written])
            try:
                look = self._live.look(root, listing, time.time_ns())
            except (NotOnRemote, UnreadableCommit, DamagedObject):
                # What is missing may have gone with a root since; else it is missing.
                if self._view.refresh() is root:
                    raise
                continue
            if root is self._view.root:
                return self._seen(root, segments, listing, look)
        raise self._too_late()

    def _seen(self, root: RemoteRoot, segments: Sequence[Segment], listing: Listing, look: Look) -> _Seen:
        written = {pack for segment in self._written for pack in segment.packs}
        uses = Uses(listing, look.needed, preferred=written, gone=root.condemned)
        look.check(uses.missing, self._view.objects.url)
        rewrites = uses.worth_rewriting(written) if self._repack else ()
        known = {pack.key for pack in listing.packs} | {one.key for one in root.segments} | set(root.condemned)
        left = [one for key, one in self._files.items() if key not in known]
        until_ns = self._clock.now_ns - self._grace_ns
        orphans = tuple(one for one in left if one.time_ns <= until_ns)
        return _Seen(root, segments, look, uses, rewrites, orphans, tuple(one for one in left if one not in orphans))

    def _must_ask(self, seen: _Seen) -> bool:
        """Whether the clock here, which does not count, says of files that they are old, and the other may too."""
        until_ns = time.time_ns() - self._grace_ns
        return not self._clock.is_set and any(one.time_ns <= until_ns for one in seen.young)

    def _plan(self, seen: _Seen) -> RemoteGcPlan:
        rewritten = {use.pack for use in seen.rewrites}
        dead = seen.uses.dead
        kept = [use.pack for use in seen.uses.packs if not use.is_dead and use.pack not in rewritten]
        return RemoteGcPlan(
            root=seen.root.seq,
            commits=tuple(_commits(seen.look, seen.uses.listing)),
            retained=seen.look.retained,
            packs=len(dead),
            pack_bytes=sum(pack.nbytes for pack in dead),
            rewrites=len(seen.rewrites),
            rewrite_bytes=sum(use.nbytes for use in seen.rewrites),
            orphans=len(seen.orphans),
            orphan_bytes=sum(one.nbytes for one in seen.orphans),
            young=len(seen.young),
            condemned=len(seen.root.condemned),
            kept_packs=len(kept),
            kept_bytes=sum(pack.nbytes for pack in kept),
        )

    # -- changing

    def _condemn(self, seen: _Seen) -> None:
        """Make the root that names what stays and what goes; _Moved if somebody else made one since."""
        root, uses = seen.root, seen.uses
        keep = [number < len(seen.segments) for number in range(len(uses.listing.segments))]
        staying, merged = uses.merged(keep)
        segments = {root.segments[number] for number in staying} | {self._upload(segment) for segment in merged}
        live = {one.key for one in segments} | {use.pack.key for use in uses.packs if not use.is_dead}
        gone = {pack.key for pack in uses.dead} | {one.key for one in root.segments} | self._uploaded
        gone |= {one.key for one in seen.orphans}
        condemned = tuple(sorted((gone - live) | set(root.condemned)))
        fresh = len(condemned) - len(root.condemned)
        drops = tuple(sorted(seen.look.drops, key=lambda drop: encode(drop[:4])))
        if not (fresh or merged or drops != root.drops):
            return

        def change(start: RemoteRoot) -> RemoteRoot:
            if start.seq != root.seq:
                raise _Moved
            return replace(
                start,
                epoch=start.epoch + bool(fresh),
                segments=tuple(sorted(segments)),
                condemned=condemned,
                drops=drops,
            )

        note = f"gc: drops {len(seen.look.dropped)} commits, condemns {fresh} files"
        append_root(self._view, change, self._push_id, note=note)
        self._clock.is_set = True
        self._condemned, self._segments = fresh, len(merged)

    def _rewrite(self, seen: _Seen) -> None:
        """Write what is needed of some packs again: a copy more, which makes them superfluous."""
        ids = seen.uses.of({use.pack for use in seen.rewrites})
        found = RemoteReader(self._view).read(ids)
        sender = Sender(self._view.objects, self._push_id)
        try:
            arrived = sender.send(lambda room: (Item(one.record, one.stored, ends_unit=True) for one in found))
        except NotOnRemote:
            if self._view.refresh() is seen.root:
                raise
            return  # what it was about has gone meanwhile
        for sent in arrived:
            self._written.append(Segment.build([sent.pack], [row_of(record, 0) for record in sent.records]))
            self._uploaded.add(sent.pack.key)
            self._packs += 1

    def _upload(self, segment: Segment) -> SegmentRef:
        """Store a segment, and what a root says of it."""
        data = segment.encode()
        key = segment_key(data, store(self._view.objects, partial(segment_key, data), data))
        self._uploaded.add(key)
        self._view.keep_segment(key, data)
        return SegmentRef(key, len(segment.packs), len(segment), len(data))

    def _remove(self, progress: Progress | None) -> None:
        root = self._view.root
        sizes = {key: one.nbytes for key, one in self._files.items()}
        advance = counted(progress, sum(sizes.get(key, 0) for key in (root.condemned if root else ())))

        def removed(keys: list[str]) -> None:
            nbytes = sum(sizes.get(key, 0) for key in keys)
            self._removed += len(keys)
            self._nbytes += nbytes
            advance(nbytes)

        remove_condemned(self._view, self._clock, self._delay_ns, self._push_id, removed)


def _commits(look: Look, listing: Listing) -> list[GcCommit]:
    """The commits that leave, but for those nothing is left of."""
    found = []
    new = {drop.commit for drop in look.dropped}
    nbytes = freed(look.reached, listing.stored(look.reached.ids), len(look.leaving))
    for rank, (one, own) in enumerate(zip(look.leaving, nbytes, strict=True)):
        if own.together or one.id in new:
            found.append(
                GcCommit(
                    id=one.id.hex(),
                    run=one.commit.run,
                    step=one.commit.step,
                    time_ns=one.commit.time_ns,
                    outcome=WAITS if rank >= look.ended else EARLY if one.final_ns > look.now_ns else FREES,
                    rule=one.drop.rule,
                    parts=one.drop.parts,
                    dropped_ns=one.drop.time_ns,
                    is_new=one.id in new,
                    final_ns=one.final_ns,
                    alone=own.alone,
                    together=own.together,
                )
            )
    return found
