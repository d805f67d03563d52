"""Commits that only a remote has, for who walks along their parents.

One by one each would take a request. A push writes the commits of a line side by side, so whoever asks for one is given
those of its pack that lie near it, in the same request.
"""

from __future__ import annotations

from collections.abc import Callable

from casckpt.errors import NotOnRemote, RemoteUntrusted
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, short_id
from casckpt.remote.reading import RemoteReader
from casckpt.remote.view import Found, RemoteView

NEAR_BYTES = 8 << 20
"""Stored bytes of the commits that come along: those of one pack of metadata at most, as a push writes them."""


class RemoteCommits:
    """The commits of a remote. One thread.

    Args:
        is_here: whether a commit is known without the remote, so that it need not come along.
    """

    def __init__(self, view: RemoteView, is_here: Callable[[CommitId], bool]) -> None:
        self._view = view
        self._reader = RemoteReader(view)
        self._is_here = is_here
        self._known: dict[CommitId, Commit | None] = {}

    def get(self, identity: CommitId) -> Commit | None:
        """A commit, None if the remote has it not.

        Raises:
            RemoteUntrusted, RemoteUnavailable, RemoteDenied: it could not be read.

        Cost: a request for the commits of a pack, the first time that one of them is asked for.
        """
        if identity not in self._known:
            found = self._view.find(identity)
            try:
                self._known[identity] = None if found is None else self._read(identity, self._near(identity, found))
            except NotOnRemote:  # one of them has gone; whether it was this one tells the next request
                self._known[identity] = self._alone(identity)
        return self._known[identity]

    def _read(self, identity: CommitId, near: list[CommitId]) -> Commit | None:
        for one in self._reader.read([identity, *near]):
            if one.record.kind != Kind.COMMIT:
                problem = f"object {short_id(one.record.id)} is not a commit"
                raise RemoteUntrusted(remote=self._view.objects.url, problem=problem)
            self._known[CommitId(one.record.id)] = Commit.decode(one.plain())
        return self._known.get(identity)

    def _alone(self, identity: CommitId) -> Commit | None:
        try:
            return self._read(identity, [])
        except NotOnRemote:
            return None

    def _near(self, identity: CommitId, found: Found) -> list[CommitId]:
        """The commits of the same pack that are not known, the nearest first, as far as there is room for them."""
        rows = {
            one: row
            for segment in self._view.segments()
            if found.pack in segment.packs
            for one in map(CommitId, segment.ids(Kind.COMMIT))
            if one != identity and one not in self._known and not self._is_here(one)
            if (row := segment.find(one)) is not None and segment.packs[row.pack] == found.pack
        }
        near: list[CommitId] = []
        room = NEAR_BYTES
        for one in sorted(rows, key=lambda one: abs(rows[one].offset - found.row.offset)):
            room -= rows[one].stored
            if room < 0:
                break
            near.append(one)
        return near
