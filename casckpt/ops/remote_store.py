"""A remote opened as a store that is only read, without a clone: names at once, content when somebody reads it.

What was read lies in a folder of the cache, which is a store of its own. Its commits came as names alone, so that all
of it but these may go at any time: of the rest the oldest packs go when the folder grows over its cap.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping

from casckpt.errors import StoreExists, StoreNotFound
from casckpt.format.entry import Entry, PackRef, RefMove
from casckpt.format.ids import CommitId, Kind
from casckpt.format.remote_about import ABOUT_KEY, MAX_ABOUT_BYTES, RemoteAbout
from casckpt.odb import locks
from casckpt.odb import tables as t
from casckpt.odb.removing import remove, take_out
from casckpt.odb.repository import Repository, initialize, writer_name
from casckpt.ops.fetch import fetch_all
from casckpt.ops.fetch_choice import Selection
from casckpt.ops.on_demand import OnDemand, Place
from casckpt.ops.publishing import publish
from casckpt.plan.ref_policy import CONFLICTS
from casckpt.remote.reading import CONCURRENCY
from casckpt.storage.local import LocalStorage
from casckpt.storage.objects import Objects

CACHE_BYTES = 10 << 30
SPARED_S = 600.0
"""What came within this time stays, whatever the cap: somebody may be about to read it."""
_NAME = "origin"


def cache_folder() -> str:
    """Where users keep what can be had again."""
    home = os.path.expanduser("~")
    return os.path.join(home, *(("Library", "Caches") if sys.platform == "darwin" else (".cache",)), "casckpt")


def open_remote(
    objects: Objects,
    *,
    cache: str | None = None,
    cache_bytes: int = CACHE_BYTES,
    threads: int | None = None,
    run: str | None = None,
    concurrency: int = CONCURRENCY,
) -> Repository:
    """A repository that reads a remote, brought up to date with it.

    Args:
        cache: the folder in which folders of remotes lie; None for the usual one of the user.
        cache_bytes: what the folder of this remote may take.

    Raises:
        StoreNotFound: nothing was ever pushed there.
        RolledBack, RemoteUntrusted, RemoteUnavailable, RemoteDenied: it cannot be read, or not be believed.

    Cost: two requests, and those for what was pushed since the last time.
    """
    try:
        about = RemoteAbout.decode(objects.get(ABOUT_KEY, limit=MAX_ABOUT_BYTES))
    except FileNotFoundError:
        raise StoreNotFound(path=objects.url, problem="nothing was ever pushed there") from None
    path = os.path.join(cache or cache_folder(), "remotes", about.id.hex())
    os.makedirs(path, mode=0o700, exist_ok=True)
    with contextlib.suppress(StoreExists):
        initialize(LocalStorage(path), time_ns=time.time_ns(), by=writer_name())
    writer = Repository(LocalStorage(path), threads=threads)
    fetched = fetch_all(
        writer,
        objects,
        _NAME,
        Selection(depth=0),
        dry_run=False,
        concurrency=concurrency,
        accept_rollback=False,
        progress=None,
    )
    wanted = {ref: commit for ref, commit in fetched.refs.items() if not ref.startswith(CONFLICTS)}
    _take_names(writer, wanted)
    room = Room(writer, cache_bytes)
    room.make(spared_s=0)
    reader = Repository(LocalStorage(path, read_only=True), threads=threads, run=run)
    reader.ask(OnDemand(writer, lambda: [Place(_NAME, lambda: objects, concurrency)], make_room=room.make))
    return reader


def _take_names(repository: Repository, wanted: Mapping[str, CommitId]) -> None:
    """Make the names of the store those of the remote."""
    database = repository.database

    def moves() -> tuple[RefMove, ...]:
        here = {ref: commit for ref, commit in database.refs().items() if not ref.startswith("remotes/")}
        names = sorted(here.keys() | wanted.keys())
        return tuple(RefMove(one, here.get(one), wanted.get(one)) for one in names if here.get(one) != wanted.get(one))

    database.refresh()
    if moves():
        publish(repository, lambda: Entry("pull", time.time_ns(), refs=moves(), by=writer_name()), dry_run=False)


class Room:
    """Keeps the folder of a remote within its cap. One thread at a time.

    Args:
        cap: stored bytes; packs that name commits stay whatever it says, since they are small.
    """

    def __init__(self, repository: Repository, cap: int) -> None:
        self._repository = repository
        self._cap = cap
        self._seen: dict[bytes, float] = {}
        """When each pack was here first, on the monotonic clock."""

    def make(self, spared_s: float = SPARED_S) -> None:
        """Remove the oldest packs until the cap is kept, but for those that came within `spared_s` seconds."""
        database, now = self._repository.database, time.monotonic()
        database.refresh()
        packs = self._oldest_first()
        for pack in packs:
            self._seen.setdefault(pack.id, now)
        excess = sum(pack.nbytes for pack in packs) - self._cap
        going: list[PackRef] = []
        for pack in packs:
            if excess > 0 and now - self._seen[pack.id] >= spared_s and not self._names_commits(pack):
                going.append(pack)
                excess -= pack.nbytes
        if not going:
            return
        storage, uuid = self._repository.storage, self._repository.format.uuid
        with locks.collecting(storage), locks.alone(storage, locks.COMMIT_WAIT_S):
            entry = Entry("gc", time.time_ns(), by=writer_name(), note="over the cap of the cache")
            for _, aside in take_out(database, uuid, going, (), entry):
                remove(storage, aside)
        database.absorb()

    def _oldest_first(self) -> list[PackRef]:
        database = self._repository.database
        numbers = {identity: t.decode_pack(value)[0] for identity, value in database.tables.scan(t.PACKS)}
        return sorted(database.pack_set(), key=lambda pack: numbers[pack.id])

    def _names_commits(self, pack: PackRef) -> bool:
        return any(record.kind == Kind.COMMIT for record in self._repository.database.packs.records(pack))
