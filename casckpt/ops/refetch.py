"""What a store has lost, brought back from a remote: found by walking its commits, asked for by id, written as packs.

refs, pins, parents -> commits -> trees, metadata -> components -> structures, pages -> chunks

What is above must be there before anybody knows what is missing below, so this goes in rounds, one for each level that
lost anything. Nothing that the remote says counts but bytes that have the id that was asked for; what it brings is
only added. Every pack is listed on its own, so whoever is interrupted keeps what came and asks for the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence
from functools import partial

from casckpt.errors import CasckptError, FormatError, IntegrityError, RemoteNotFound, UnreadableCommit
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.odb.database import Database
from casckpt.odb.repository import Repository
from casckpt.odb.rewriting import Rewriting
from casckpt.ops.lookup import pinned
from casckpt.ops.reach import Reach
from casckpt.ops.remote_contents import commit_ids
from casckpt.ops.reports import Brought
from casckpt.ops.values import Progress, counted
from casckpt.remote.reading import RemoteReader
from casckpt.remote.salvage import readable
from casckpt.remote.view import RemoteView

ROUND_MAX = 100_000
"""Objects that are asked for in one round; bounds the memory, 20 MB."""
LACKING_MAX = 100_000
"""After so many that the remote does not have either, it is not asked for more."""
_LISTED = 100


def refetch(repository: Repository, view: RemoteView, progress: Progress | None = None) -> Brought:
    """Bring every object back that the commits of a store need and that it does not have any more.

    Args:
        view: of the remote; it is refreshed.
        progress: hears of the plain bytes that come, anew for each round.

    Raises:
        RemoteNotFound: nothing was ever pushed there.
        RolledBack, RemoteUntrusted: its root or segments are not what they can be.
        RemoteUnavailable, RemoteDenied: it could not be read. What came stays.
        StorageError, NotReadBack: the disk failed or is full. What came before stays.

    Cost: a look-up for each object of the store in every round; the bytes of what is missing.
    """
    if view.refresh() is None:
        raise RemoteNotFound(remote=view.objects.url, problem="nothing was pushed there yet")
    reader = RemoteReader(view)
    database = repository.database
    lacking: dict[ObjectId, None] = {}
    objects = nbytes = 0
    while len(lacking) < LACKING_MAX:
        wanted = missing(database, lacking, ROUND_MAX)
        if not wanted:
            break
        rows = {one: place.row for one in wanted if (place := view.find(one)) is not None}
        lacking |= {one: None for one in wanted if one not in rows}
        ids = [*rows, *_ancestors(database, view, reader, [one for one in rows if rows[one].kind == Kind.COMMIT])]
        advance = counted(progress, sum(row.length for row in rows.values()))
        with Rewriting(repository, "repair", {}) as output:
            for found in readable(reader, ids, partial(_note, lacking)):
                output.add(found.record, found.stored)
                output.end_leaf()
                objects, nbytes = objects + 1, nbytes + found.record.length
                if found.record.id in rows:
                    advance(found.record.length)
            output.publish()
    listed = tuple(one.hex() for one in sorted(lacking)[:_LISTED])
    return Brought(view.objects.url, objects, nbytes, listed, len(lacking))


def _ancestors(database: Database, view: RemoteView, reader: RemoteReader, lost: Sequence[ObjectId]) -> list[ObjectId]:
    """Commits that lost ones descend from and that are not here either: else each generation would be a round.

    Cost: reads the commit objects of the remote that are not here.
    """
    absent = commit_ids(view) if lost else []
    absent = [one for one in absent if not database.has_commit(one) and one not in database.forgotten()]
    parents: dict[ObjectId, tuple[CommitId, ...]] = {}
    for one in readable(reader, absent, lambda *_: None):
        with contextlib.suppress(IntegrityError, FormatError):  # then nothing will come of it here either
            parents[one.record.id] = Commit.decode(one.plain()).parents
    found: dict[ObjectId, None] = {}
    waiting = list(lost)
    while waiting:
        following = [one for one in parents.get(waiting.pop(), ()) if one in parents and one not in found]
        found |= dict.fromkeys(following)
        waiting += following
    return [one for one in found if one not in lost]


def _note(lacking: dict[ObjectId, None], identity: ObjectId, _: CasckptError) -> None:
    lacking[identity] = None


def missing(database: Database, known: Container[ObjectId], most: int) -> list[ObjectId]:
    """Objects that commits of a store need and that no pack or frame of it lists, each once.

    Args:
        known: those that are left out.
        most: how many at most.

    What is above comes first: of what lies below a missing object nothing is known.
    """
    found: dict[ObjectId, None] = {}
    for identity in _needed(database):
        if identity not in known and identity not in found and database.row(identity) is None:
            found[identity] = None
            if len(found) == most:
                break
    return list(found)


def _needed(database: Database) -> Iterator[ObjectId]:
    """Ids of all that is needed, as far as it can be read; what several commits share may come several times."""
    reach = Reach(database)
    seen: set[ObjectId] = set()
    yield from database.refs().values()
    yield from pinned(database)
    for identity, commit in database.commits():
        yield from (parent for parent in commit.parents if not database.has_commit(parent))
        drop = database.drop(identity)
        if drop is None or drop.parts is not None:
            yield from _below(database, reach, identity, commit, () if drop is None else drop.parts or (), seen)


def _below(
    database: Database,
    reach: Reach,
    identity: CommitId,
    commit: Commit,
    thinned: Container[str],
    seen: set[ObjectId],
) -> Iterator[ObjectId]:
    yield from (one for one in (commit.config, commit.environment, commit.code, commit.data) if one is not None)
    yield commit.tree
    if database.row(commit.tree) is None:
        return
    try:
        components = reach.tree(identity, commit).components
    except UnreadableCommit:
        return
    for name, component in components:
        if name in thinned or component in seen:
            continue
        seen.add(component)
        yield component
        if database.row(component) is None:
            continue
        try:
            for joined in reach.ids_of(identity, component):
                yield from (ObjectId(joined[at : at + 32]) for at in range(0, len(joined), 32))
        except UnreadableCommit:
            continue  # what was told before is what stands in the way
