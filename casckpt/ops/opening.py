"""A commit opened for reading: the one place where what it lost is either refused or asked for elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import require_tree
from casckpt.ops.load import Loader


def loader_of(
    database: Database, identity: CommitId, may_lack: Callable[[str], bool] = lambda component: False
) -> Loader:
    """What reads a commit, all of it but for components that it may lack.

    Of a commit that lost something, objects that are not here come from elsewhere when they are read.

    Raises:
        CommitDropped, CommitThinned: by which rule and when; nothing else has what it lost.
    """
    commit = require_tree(database, identity, may_lack)
    return Loader(database, identity, commit, elsewhere=None if database.drop(identity) is None else database.elsewhere)
