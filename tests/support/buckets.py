"""What a bucket holds, read without the code that fetches: its chain, its packs, and a store made of these."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection

import casckpt
from casckpt.format import pack as p
from casckpt.format.entry import Entry, PackRef, RefMove
from casckpt.format.ids import ObjectId, checksum
from casckpt.format.remote import RemoteRoot, root_seq
from casckpt.format.remote_index import Segment, SegmentPack
from casckpt.odb.pack_writer import pack_name
from casckpt.odb.repository import Repository, initialize
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.objects import Objects

_LIMIT = 1 << 30


def chain(objects: Objects) -> list[RemoteRoot]:
    """All roots of a bucket; asserts that their links hold."""
    keys = [listed.key for listed in objects.list("root/")]
    files = [objects.get(key, limit=_LIMIT) for key in keys]
    roots = [RemoteRoot.decode(data) for data in files]
    assert [root.seq for root in roots] == [root_seq(key) for key in keys]
    assert [root.seq for root in roots] == list(range(roots[0].seq, roots[0].seq + len(roots))) if roots else True
    for before, root in itertools.pairwise(zip(files, roots, strict=True)):
        assert root[1].prev == checksum(before[0])
    return roots


def newest(objects: Objects) -> RemoteRoot:
    """The newest root of a bucket."""
    return chain(objects)[-1]


def pack_contents(data: bytes) -> p.PackContents:
    """What the footer of a pack says."""
    identity, offset, size = p.decode_trailer(data[-p.TRAILER_BYTES :], len(data))
    return p.decode_footer(data[: p.BLOCK], data[offset : offset + size], offset, identity)


def all_records(objects: Objects) -> list[p.Record]:
    """The records of all packs of a bucket, those that no root names included."""
    packs = [objects.get(listed.key, limit=_LIMIT) for listed in objects.list("packs/")]
    return [record for data in packs for record in pack_contents(data).records]


def all_ids(objects: Objects) -> set[ObjectId]:
    """The ids of all objects in all packs of a bucket, those that no root names included."""
    return {record.id for record in all_records(objects)}


def live_packs(objects: Objects) -> list[SegmentPack]:
    """The packs that the newest root names; asserts that it names no condemned one and no object that is not there."""
    root = newest(objects)
    found: dict[str, SegmentPack] = {}
    for one in root.segments:
        data = objects.get(one.key, limit=_LIMIT)
        assert (len(data), checksum(data).hex()) == (one.nbytes, one.key[6:70])
        segment = Segment.decode(data)
        assert (len(segment.packs), len(segment)) == (one.packs, one.rows)
        for row in segment.rows():
            pack = segment.packs[row.pack]
            known = {record.id: record for record in pack_contents(objects.get(pack.key, limit=_LIMIT)).records}
            record = known[row.id]
            assert record[1:4] == (row.offset, row.length, row.stored)
            assert (record.kind, record.codec, record.element, record.flags) == row[5:]
        found.update((pack.key, pack) for pack in segment.packs)
    assert not found.keys() & set(root.condemned)
    return list(found.values())


def store_of(objects: Objects, forgotten: Collection[str] = ()) -> casckpt.Store:
    """A store in memory that has what the newest root of a bucket leads to; asserts that it is whole.

    Args:
        forgotten: ids of parents that need not be there.
    """
    storage = MemoryStorage()
    initialize(storage, time_ns=time.time_ns(), by="test")
    packs: dict[bytes, PackRef] = {}
    for pack in live_packs(objects):
        data = objects.get(pack.key, limit=_LIMIT)
        assert pack_contents(data).id == pack.id
        file = storage.create(pack_name(pack.id))
        file.write_at(data, 0)
        file.close()
        packs[pack.id] = PackRef(pack.id, len(data))
    root = newest(objects)
    refs = tuple(RefMove(name, None, ref.commit) for name, ref in root.refs.items())
    repository = Repository(storage)
    entry = Entry(
        "fetch", time.time_ns(), refs=refs, packs=tuple(packs.values()), drops=root.drops, runs=root.runs, by="test"
    )
    with repository.session() as session:
        session.publish(lambda: (entry, []))
    store = casckpt.Store(repository)
    report = store.fsck("full")
    assert report.ok, report
    database = repository.database
    for ref in root.refs.values():
        assert database.has_commit(ref.commit)
    for _, commit in database.commits():
        assert all(database.has_commit(parent) or parent.hex() in forgotten for parent in commit.parents)
    return store
