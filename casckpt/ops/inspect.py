"""Looking into a commit without reading its chunks: leaves and metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from casckpt.format.canonical import decode
from casckpt.format.ids import CommitId, Kind, ObjectId
from casckpt.odb.database import Database
from casckpt.ops.opening import loader_of
from casckpt.ops.remains import lost_parts
from casckpt.ops.reports import LeafSummary


def leaves(database: Database, identity: CommitId) -> Iterator[LeafSummary]:
    """Every leaf of a commit's state that it has not lost, without reading any chunk."""
    loader = loader_of(database, identity, lambda component: True)
    lost = lost_parts(database, identity)
    for loaded in (loader.component(*one) for one in loader.tree().components if one[0] not in lost):
        for leaf in loaded.leaves():
            if leaf.kind != "part":
                size = None if leaf.blob is None else loaded.structure.sizes[leaf.blob]
                yield LeafSummary(leaf.path, leaf.kind, leaf.dtype, leaf.shape, size, leaf.value)


def metadata(database: Database, identity: CommitId) -> dict[str, Any]:
    """The config, environment, code and data values of a commit that has them."""
    commit = database.commit(identity)
    found = {}
    for name in ("config", "environment", "code", "data"):
        reference: ObjectId | None = getattr(commit, name)
        if reference is not None:
            found[name] = decode(database.read(reference, Kind.META), name)
    return found
