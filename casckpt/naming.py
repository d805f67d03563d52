"""The part of `Store` that names commits and takes changes of names back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from casckpt.odb.repository import Repository
    from casckpt.ops.journal_reports import Operation, UndoReport
    from casckpt.ops.values import CommitInfo, RunInfo


class Naming:
    """Tags, pins, notes, names of runs, and undo, for `Store` alone; every method delegates to one operation.

    With `dry_run=True` all is looked at and nothing changed; the answer is what there would be.
    """

    _repository: Repository

    def _in_turn(self) -> Repository:
        raise NotImplementedError

    def tag(self, name: str, revision: str = "@", *, dry_run: bool = False) -> CommitInfo:
        """Give a commit a name that never moves.

        Raises:
            RefExists: the tag names another commit.
        """
        from casckpt.ops.naming import tag

        return tag(self._in_turn(), name, revision, dry_run=dry_run)

    def untag(self, name: str, *, dry_run: bool = False) -> CommitInfo:
        """Remove a tag; the commit that it named.

        Raises:
            RevisionNotFound: there is no such tag.
        """
        from casckpt.ops.naming import untag

        return untag(self._in_turn(), name, dry_run=dry_run)

    def pin(self, revision: str = "@", until: str | datetime | None = None, *, dry_run: bool = False) -> CommitInfo:
        """Keep a commit reachable, whatever happens to its run and tags.

        Args:
            until: a date (to its end, UTC), a time, or a duration from now: `30min`, `12h`, `30d`, `4w`; None for good.
        """
        from casckpt.ops.naming import pin

        return pin(self._in_turn(), revision, until, dry_run=dry_run)

    def unpin(self, revision: str, *, dry_run: bool = False) -> CommitInfo:
        """Remove the pin of a commit.

        Raises:
            NotFoundError: it has none.
        """
        from casckpt.ops.naming import unpin

        return unpin(self._in_turn(), revision, dry_run=dry_run)

    def pins(self) -> list[CommitInfo]:
        """The commits that are pinned now, newest first."""
        from casckpt.ops.naming import pins

        return pins(self._repository.database)

    def note(self, revision: str, text: str, *, dry_run: bool = False) -> CommitInfo:
        """Remark something about a commit, in place of what was remarked before; an empty text removes that."""
        from casckpt.ops.naming import note

        return note(self._in_turn(), revision, text, dry_run=dry_run)

    def fork_run(self, revision: str, name: str, *, dry_run: bool = False) -> RunInfo:
        """Begin a run at a commit of another, with its rule for `best`; its first commit becomes a child of that one.

        Raises:
            RunExists: there is a run of that name.
        """
        from casckpt.ops.run_changes import fork_run

        return fork_run(self._in_turn(), revision, name, dry_run=dry_run)

    def rename_run(self, old: str, new: str, *, dry_run: bool = False) -> RunInfo:
        """Give a run another name: its commits, refs and settings go along, later commits to `old` begin a new run.

        Raises:
            RevisionNotFound: there is no run `old`.
            RunExists: there is a run `new`.
        """
        from casckpt.ops.run_changes import rename_run

        return rename_run(self._in_turn(), old, new, dry_run=dry_run)

    def finish_run(self, name: str, status: str = "completed", *, dry_run: bool = False) -> RunInfo:
        """Say how a run ended: completed, failed, cancelled or preempted; a later commit to it takes that back.

        Raises:
            RevisionNotFound: there is no such run.
        """
        from casckpt.ops.run_changes import finish_run

        return finish_run(self._in_turn(), name, status, dry_run=dry_run)

    def operations(self, limit: int | None = None) -> Iterator[Operation]:
        """What was done to the store, newest first: what each operation changed, and whether it was taken back."""
        from casckpt.ops.operations import operations

        return operations(self._repository.database, limit)

    def undo(self, operation: int | None = None, *, dry_run: bool = False) -> UndoReport:
        """Take back an operation by its number; without one the newest change of names that is in effect.

        That passes over commits, imports and repairs, and over undos, so that undo again goes further back. By its
        number a commit is taken back too: refs move back, the commit stays in the store. An undo by number is a redo.

        Raises:
            NothingToUndo: there is no such operation.
            AlreadyUndone: another undo took it back.
            NotUndoable: it changed what cannot be set back.
            UndoConflict: something that it changed was changed again since; nothing was changed.
            CommitProtected: a drop would be done again, and something holds a commit by now; nothing was changed.
        """
        from casckpt.ops.undo import undo

        return undo(self._in_turn(), operation, dry_run=dry_run)
