"""What a store may ask for that it has not itself; remotes answer, in a room above this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId


class Elsewhere(Protocol):
    """Other places that hold what commits lost here, or what never came here. Thread-safe."""

    def lacking(self, identity: CommitId, commit: Commit, parts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """What of a commit can be had nowhere: names of components, or None for all of it.

        Args:
            parts: what of it is not here, in the same way.
        """

    def need(self, ids: Sequence[ObjectId], kind: Kind) -> None:
        """Make objects part of the store that are not, as far as they can be had."""
