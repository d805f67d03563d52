"""What remotes have of a store, as far as it was seen: no remote is asked."""

from __future__ import annotations

from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.plan.graph import ancestors
from casckpt.plan.names import REMOTES, tracked_by
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.view import kept_root


def pushed(database: Database) -> set[CommitId]:
    """The commits whose content at least one remote has whole, by the newest root of each that was seen.

    Cost: an index look-up for each commit.
    """
    found: set[CommitId] = set()
    for remote in {known[0] for name in database.refs(REMOTES) if (known := tracked_by(name)) is not None}:
        root = kept_root(RemoteFolder(database.storage, remote))
        if root is not None:
            lacking = {drop.commit for drop in root.drops}
            line = ancestors((ref.commit for ref in root.refs.values()), database.commit)
            found.update(identity for identity, _ in line if identity not in lacking)
    return found
