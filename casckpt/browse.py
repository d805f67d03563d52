"""The part of `Store` that looks around: runs, history as a graph, commits by path, what names meant before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casckpt.odb.repository import Repository
    from casckpt.ops.graph import GraphRow
    from casckpt.ops.journal_reports import RefChange
    from casckpt.ops.lazy import StoredState
    from casckpt.ops.relatives import Relatives
    from casckpt.ops.remains import Remains
    from casckpt.ops.reports import BlameLine, LeafSummary, PathInfo
    from casckpt.ops.storage import StorageInfo
    from casckpt.ops.values import CommitInfo, RunInfo, Status


class Browse:
    """Looking around, for `Store` alone; every method delegates to one operation."""

    _repository: Repository

    def log(
        self, revision: str | None = None, *, limit: int | None = None, where: str | None = None
    ) -> Iterator[CommitInfo]:
        """Commits newest first: the ancestors of a revision (a run's name is its last commit), of a range, or all."""
        from casckpt.ops.history import log

        return log(self._repository.database, revision, limit, where)

    def show(self, revision: str = "@") -> CommitInfo:
        """One commit."""
        from casckpt.ops.history import describe
        from casckpt.ops.resolve import resolve

        database = self._repository.database
        return describe(database, resolve(database, revision))

    def tree(self, revision: str = "@") -> StoredState:
        """The leaves of a commit by path, read when they are asked for: `store.tree("best")["model/w"][:10]`."""
        from casckpt.ops.lazy import StoredState
        from casckpt.ops.resolve import resolve

        return StoredState(self._repository, resolve(self._repository.database, revision))

    def runs(self, *, where: str | None = None, sort: str = "time") -> list[RunInfo]:
        """All runs, or those whose newest commit a filter wants; sorted by time, name, commits or a metric."""
        from casckpt.ops.overview import runs

        return runs(self._repository.database, where, sort)

    def status(self) -> Status:
        """The store at a glance."""
        from casckpt.ops.overview import status

        return status(self._repository.database)

    def leaves(self, revision: str = "@") -> Iterator[LeafSummary]:
        """Every leaf of a commit's state with its type, shape and size; reads no tensor."""
        from casckpt.ops.inspect import leaves
        from casckpt.ops.resolve import resolve

        database = self._repository.database
        return leaves(database, resolve(database, revision))

    def metadata(self, revision: str = "@") -> dict[str, Any]:
        """The config, environment, code and data values a commit was made with."""
        from casckpt.ops.inspect import metadata
        from casckpt.ops.resolve import resolve

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

    def blame(self, path: str = "", revision: str = "@", *, by: int | None = None) -> Iterator[BlameLine]:
        """In which commit each leaf at or below a path changed last, newest first; reads no tensor.

        Args:
            path: as of `ls`; empty for the whole state.
            revision: its first parents are followed until every leaf has differed once.
            by: one line for all leaves that have so many elements of their paths and the commit in common.

        Raises:
            NotFoundError: the commit has nothing at that path.
            CommitDropped: the commit has no state any more. Dropped ones before it are passed over.
        """
        from casckpt.ops.blame import blame

        return blame(self._repository.database, path, revision, by)

    def reflog(self, ref: str | None = None, *, limit: int | None = None) -> Iterator[RefChange]:
        """What a ref named before and from when on, newest first; without `ref` the changes of all.

        Args:
            ref: a run (its last commit), `gpt/best`, a tag, `@`, or a full name as `runs/gpt/last`.

        Raises:
            RevisionNotFound: no ref has or had that name.
        """
        from casckpt.ops.reflog import reflog

        return reflog(self._repository.database, ref, limit)

    def graph(
        self, revision: str | None = None, *, limit: int | None = None, where: str | None = None
    ) -> Iterator[GraphRow]:
        """What `log` gives, as the rows of a drawing: commits in lanes, edges to their parents, gaps where some are
        left out. Dropped commits that no ref names are gaps, unless a filter wants them."""
        from casckpt.ops.graph import graph

        return graph(self._repository.database, revision, limit, where)

    def storage(self, revision: str = "@") -> StorageInfo:
        """What a commit takes, by component, and how much of it its first parent has too; reads no tensor.

        Raises:
            CommitDropped, CommitThinned: its tree is not whole any more.
        """
        from casckpt.ops.resolve import resolve
        from casckpt.ops.storage import storage

        database = self._repository.database
        return storage(database, resolve(database, revision))

    def remains(self, revision: str = "@") -> Remains | None:
        """What is left of a commit that was dropped or thinned, and until when undo brings back the rest; else None."""
        from casckpt.ops.remains import remains
        from casckpt.ops.resolve import resolve

        database = self._repository.database
        return remains(database, resolve(database, revision))

    def relatives(self, revision: str = "@") -> Relatives:
        """The commits that a commit was made from, and those that were made from it."""
        from casckpt.ops.relatives import relatives
        from casckpt.ops.resolve import resolve

        database = self._repository.database
        return relatives(database, resolve(database, revision))
