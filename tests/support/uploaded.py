"""The content of a store as a remote, put there file by file, so that no test of reading depends on a push."""

from __future__ import annotations

import os

import casckpt
from casckpt.format.decode import decode
from casckpt.format.ids import ObjectId
from casckpt.format.pack import Record
from casckpt.format.remote import RemoteRef
from casckpt.format.remote_index import SegmentPack
from casckpt.odb.pack_writer import pack_name
from casckpt.storage.base import read_exact
from tests.support.build import Pack
from tests.support.remote_content import HandMade


def uploaded(store: casckpt.Store) -> HandMade:
    """A remote that holds the packs of a store, what rides in its journal, its refs and its drops."""
    database = store._repository.database
    remote, listed, known = HandMade(), dict[SegmentPack, list[Record]](), set[ObjectId]()
    for pack in database.pack_set():
        file = database.packs.open(pack_name(pack.id))
        one = SegmentPack(pack.id, os.urandom(4), pack.nbytes)
        remote.objects.create(one.key, read_exact(file, 0, pack.nbytes))
        listed[one] = [record for record in database.packs.contents(pack.id).records if record.id not in known]
        known.update(record.id for record in listed[one])
    frames = Pack()
    for _, entry in database.history():
        for record, stored in entry.objects:
            if record.id not in known:
                known.add(record.id)
                frames.add(bytes(decode(record, stored)), kind=record.kind, element=record.element)
    if frames.records:
        listed[remote.add_pack(frames)] = frames.records
    refs = {name: RemoteRef(identity, 1, "test") for name, identity in database.refs().items()}
    drops = tuple(drop for _, drop in sorted(database.drops().items()))
    remote.append(remote.add_segment(listed), refs=refs, drops=drops)
    return remote
