"""Packs made by hand, as whatever replaces packs by better ones makes them."""

from __future__ import annotations

import time

from casckpt.format.entry import Entry, PackRef
from casckpt.odb.pack_writer import PackWriter, pack_name
from casckpt.odb.repository import Repository
from casckpt.storage.base import read_exact


def merge_packs(repository: Repository) -> PackRef:
    """One more pack, with all that the packs of a store hold: they are redundant then."""
    database = repository.database
    with repository.session() as session:
        writer = PackWriter(repository.storage)
        for pack in sorted(database.pack_set()):
            file = repository.storage.open_read(pack_name(pack.id))
            for record in database.packs.records(pack):
                writer.add(record, read_exact(file, record.offset, record.stored))
                writer.end_leaf()
            file.close()
        merged = writer.finish({})
        session.publish(lambda: (Entry("repack", time.time_ns(), packs=(merged,)), []))
    return merged
