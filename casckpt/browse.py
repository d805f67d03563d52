"""The part of `Store` that looks into commits by path, and back at what names meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.reports import LeafSummary, PathInfo, RefChange


class Browse:
    """Looking around, for `Store` alone; every method delegates to one operation."""

    _repository: Repository

    def leaves(self, revision: str = "@") -> Iterator[LeafSummary]:
        """Every leaf of a commit's state with its type, shape and size; reads no tensor."""
        from casckpt.ops.history import resolve
        from casckpt.ops.inspect import leaves

        database = self._repository.database
        return leaves(database, resolve(database, revision))

    def metadata(self, revision: str = "@") -> dict[str, Any]:
        """The config, environment, code and data values a commit was made with."""
        from casckpt.ops.history import resolve
        from casckpt.ops.inspect import metadata

        database = self._repository.database
        return metadata(database, resolve(database, revision))

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

    def entry(self, revision: str = "@") -> PathInfo:
        """The leaf or container at `REV:PATH`; of a commit of a single file that file. Reads no tensor.

        Raises:
            NotFoundError: the commit has nothing at that path.
        """
        from casckpt.ops.listing import entry

        return entry(self._repository.database, revision)

    def pieces(self, revision: str) -> Iterator[bytes]:
        """The bytes of a committed file, or of a text or bytes value, in pieces; each is verified before it is given.

        Args:
            revision: with a path, as `gpt/best:out/config.json`; a commit of a single file needs none.

        Raises:
            NotFoundError: the commit has nothing at that path.
            UsageError: what lies there is no file, text or bytes.
            DamagedLeaf: stored bytes are wrong or missing; the pieces before were right.
        """
        from casckpt.ops.listing import pieces

        return pieces(self._repository.database, revision)

    def reflog(self, ref: str | None = None, *, limit: int | None = None) -> Iterator[RefChange]:
        """What a ref named before and from when on, newest first; without `ref` the changes of all.

        Args:
            ref: a run (its last commit), `gpt/best`, a tag, `@`, or a full name as `runs/gpt/last`.

        Raises:
            RevisionNotFound: no ref has or had that name.
        """
        from casckpt.ops.reflog import reflog

        return reflog(self._repository.database, ref, limit)
