"""The part of `Store` that looks into commits by path, and back at what names meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.reports import PathInfo


class Browse:
    """Looking around, for `Store` alone; every method delegates to one operation."""

    _repository: Repository

    def ls(self, revision: str = "@", *, recursive: bool = False) -> Iterator[PathInfo]:
        """What lies one level below a commit or a path in it, in order; reads no tensor.

        Args:
            revision: `gpt/best`, or with a path as in `gpt/best:model/encoder`; of a leaf that leaf comes back.
            recursive: every leaf below instead.

        Raises:
            NotFoundError: the commit has nothing at that path.
        """
        from casckpt.ops.listing import listing

        return listing(self._repository.database, revision, recursive=recursive)
