"""The history that refs of a remote lead to: commits by their parents, those that are not here read from the remote.

The first commits are read with what lies beside them, which is all there is to an ordinary fetch. A longer way back
would be one request after the other, so that all commits of the remote that are not here are read then: they are small.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from casckpt.errors import IntegrityError, InvalidName, RemoteUntrusted
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, short_id
from casckpt.odb.database import Database
from casckpt.ops.incoming import Incoming
from casckpt.plan.names import check_name
from casckpt.remote.view import RemoteView

STEPS = 2
"""How often only what is needed next is read."""


class Reached(NamedTuple):
    """A commit that the wanted ones lead to, and by how many steps."""

    commit: Commit
    steps: int


class History:
    """Commits of a remote. One thread.

    Keeps the encoded form of those that are not here: some hundred bytes each.
    """

    def __init__(self, database: Database, view: RemoteView, incoming: Incoming) -> None:
        self._database = database
        self._view = view
        self._incoming = incoming
        self._read: dict[CommitId, bytes] = {}
        self._steps = 0
        self.fresh: dict[CommitId, bytes] = {}
        """Encoded commits that were reached and are not in the store."""

    def reach(self, tips: Iterable[CommitId], *, through_known: bool) -> dict[CommitId, Reached]:
        """What commits lead to, those first that the fewest steps lead to; forgotten ones are passed over.

        Args:
            through_known: whether to go on behind commits that are in the store.

        Raises:
            NotOnRemote: a tip is not there. A parent may be missing: it was forgotten somewhere.
            RemoteUntrusted, FormatError, RemoteUnavailable, RemoteDenied: as `RemoteReader.read`.
        """
        found: dict[CommitId, Reached] = {}
        level, steps = list(dict.fromkeys(tips)), 0
        while level:
            self._load(level, is_needed=not steps)
            following: dict[CommitId, None] = {}
            for identity in level:
                known = self._database.commit(identity)
                commit = known or self._decoded(identity)
                if commit is None:
                    continue
                if identity not in self._database.forgotten():
                    found[identity] = Reached(commit, steps)
                    if known is None:
                        self.fresh[identity] = self._read[identity]
                if known is None or through_known:
                    following |= dict.fromkeys(parent for parent in commit.parents if parent not in found)
            level, steps = list(following), steps + 1
        return found

    def _load(self, ids: Collection[CommitId], *, is_needed: bool) -> None:
        """Read those of some commits that are not here.

        Args:
            is_needed: whether it is an error if the remote has them not.
        """
        missing = [one for one in ids if one not in self._read and not self._database.has_commit(one)]
        if not is_needed:
            missing = [one for one in missing if self._view.find(one) is not None]
        if not missing:
            return
        self._steps += 1
        if self._steps > STEPS:
            missing = [
                one for one in self._incoming.commits() if one not in self._read and not self._database.has_commit(one)
            ]
        self._read |= {CommitId(one): data for one, data in self._incoming.metadata(missing, Kind.COMMIT).items()}

    def _decoded(self, identity: CommitId) -> Commit | None:
        data = self._read.get(identity)
        if data is None:
            return None
        try:
            commit = Commit.decode(data)
            check_name("run", commit.run)
        except (IntegrityError, InvalidName) as error:
            problem = f"commit {short_id(identity)} matches its id, but {error}"
            raise RemoteUntrusted(remote=self._view.objects.url, problem=problem) from error
        return commit
