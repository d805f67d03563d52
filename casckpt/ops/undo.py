"""undo: take back an operation with an entry of its own, which sets everything the operation changed to what it was.

Compare-and-swap under the journal lock: everything must still be as the operation left it, else nothing is changed.
An undo can be taken back like any operation. Commits and their data stay; only what names them moves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from casckpt.errors import AlreadyUndone, NothingToUndo, NotUndoable, UndoConflict, UsageError
from casckpt.format.entry import Drop, Entry, Mark
from casckpt.format.ids import CommitId
from casckpt.format.marks import OF_LEAVES
from casckpt.odb.database import Database
from casckpt.odb.fold import mark_of
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.journal_reports import Operation, UndoReport
from casckpt.ops.operations import done, operation_of
from casckpt.ops.publishing import publish

_PASSED_OVER = frozenset(("commit", "import", "push", "fetch", "pull", "remote", "init", "repair", "undo"))
"""What an undo without a number passes over: work that is rarely a slip, and undo itself, so that it goes on back."""
_FINAL = frozenset(("init", "repair", "push", "fetch", "remote", "gc", "repack", "forget"))
"""What makes, heals or rearranges the store itself, or must not be taken back."""
_SHOWN = 5


def undo(repository: Repository, number: int | None = None, *, dry_run: bool = False) -> UndoReport:
    """Take back an operation, by default the newest change of names and facts that is in effect.

    Raises:
        NothingToUndo: there is no such operation.
        AlreadyUndone: another undo took it back.
        NotUndoable: it changed what cannot be set back.
        UndoConflict: something that it changed was changed again since; nothing was changed.
        CommitProtected: a drop would be done again, and something holds a commit by now; nothing was changed.

    Cost: reads the journal back to the operation.
    """
    if number is not None and (type(number) is not int or number < 0):
        raise UsageError(problem=f"operations have numbers of 0 or more, not {number!r}")
    database = repository.database
    database.refresh()
    undone, entry = _wanted(database, number)
    looked = database.tail.position.seq

    def check() -> None:
        # Within a session nothing can be freed; but somebody may have done it before the session began.
        problem = _freed(database, entry) if database.tail.position.seq != looked else ""
        if problem:
            raise NotUndoable(operation=undone.number, op=undone.op, problem=problem)

    own, made = publish(repository, lambda: _inverse(database, undone, entry), dry_run=dry_run, prepare=check)
    return UndoReport(undone, operation_of(own, made), dry_run)


def _wanted(database: Database, number: int | None) -> tuple[Operation, Entry]:
    """The operation of a number, or the newest that an undo without one takes back."""
    packs_are_gone = False
    why = ""
    for operation, entry in done(database):
        packs_are_gone = packs_are_gone or bool(entry.gone)
        is_wanted = operation.number == number or (number is None and operation.op not in _PASSED_OVER)
        problem = _obstacle(operation, entry) if is_wanted else ""
        if is_wanted and not problem and packs_are_gone and operation.undone_by is None:
            problem = _freed(database, entry)
            why = why or (f"operation {operation.number}, {operation.op}: {problem}" if problem else "")
        if number is None:
            if operation.undone_by is None and is_wanted and not problem:
                return operation, entry
        elif operation.number <= number:
            if operation.number < number:
                break
            if operation.undone_by is not None:
                raise AlreadyUndone(operation=number, op=operation.op, by=operation.undone_by)
            if problem:
                raise NotUndoable(operation=number, op=operation.op, problem=problem)
            return operation, entry
    if number is None:
        problem = why or "no change of names is in effect; commits are taken back by their number alone"
        raise NothingToUndo(problem=problem)
    problem = f"the journal has no operation {number}"
    if database.forgotten():
        problem += "; what was done before a forget is not in it any more"
    raise NothingToUndo(problem=problem)


def _obstacle(operation: Operation, entry: Entry) -> str:
    """Why an operation cannot be taken back, empty if it can."""
    if operation.op in _FINAL or entry.gone:
        return "it made or rewrote the store itself"
    if not operation.changes:
        return "it changed nothing"
    if not entry.runs.keys() <= entry.before.keys():
        return "its entry does not tell what the settings were before"
    return ""


def _freed(database: Database, entry: Entry) -> str:
    """Which of the states that an undo would bring back are not there any more, in words; empty if all are."""
    if not entry.drops:
        return ""
    from casckpt.ops.reach import Reach  # most undos are about names

    reach = Reach(database)
    # What a record was replaced by says the same as the record and more.
    after = {drop.commit: drop for drop in reversed(entry.drops)}.values()
    lost = {drop.commit: drop.parts for drop in after if drop.cancelled}
    freed = [
        identity.hex()[:12]
        for identity in dict.fromkeys(drop.commit for drop in entry.drops if not drop.cancelled)
        # Of one that is to be dropped again nothing is needed.
        if (parts := lost.get(identity, ())) is not None
        and ((commit := database.commit(identity)) is None or not reach.is_whole(identity, commit, parts))
    ]
    if not freed:
        return ""
    shown = ", ".join(freed[:_SHOWN]) + (f" and {len(freed) - _SHOWN} more" if len(freed) > _SHOWN else "")
    return f"what these commits lost has been freed since: {shown}"


def _inverse(database: Database, undone: Operation, entry: Entry) -> Entry:
    """The entry that takes one back.

    Raises:
        UndoConflict: what it changed is not as it left it.
        CommitProtected: it took back a drop, and something holds a commit by now.
        NotUndoable: it names a commit that was forgotten.
    """
    for identity in _named(entry):
        if identity in database.forgotten():
            problem = f"commit {identity.hex()[:12]} was forgotten since"
            raise NotUndoable(operation=undone.number, op=undone.op, problem=problem)
    for what, expected, actual in _now(database, entry):
        if expected != actual:
            facts = {"operation": undone.number, "op": undone.op, "what": what}
            raise UndoConflict(expected=_shown(expected), actual=_shown(actual), **facts)
    # Backwards: who replaced a record took the one before back first.
    drops = tuple(drop._replace(cancelled=not drop.cancelled) for drop in reversed(entry.drops))
    if drops:
        from casckpt.ops.losses import refuse_held  # most undos are about names

        refuse_held(database, drops)
    return Entry(
        "undo",
        time.time_ns(),
        refs=tuple(move._replace(old=move.new, new=move.old) for move in entry.refs if move.old != move.new),
        runs={run: _restored(entry.before[run], settings) for run, settings in entry.runs.items()},
        before={
            run: {key: value for key, value in set_.items() if value is not None} for run, set_ in entry.runs.items()
        },
        marks=tuple(mark._replace(old=mark.new, new=mark.old) for mark in _taken_back(entry.marks)),
        drops=drops,
        by=writer_name(),
        note=f"took back operation {undone.number}, {undone.op}",
        undoes=undone.number,
    )


def _named(entry: Entry) -> Iterator[CommitId]:
    """The commits that an entry says something of."""
    for move in entry.refs:
        yield from (one for one in (move.old, move.new) if one is not None)
    yield from (mark.commit for mark in entry.marks)
    yield from (drop.commit for drop in entry.drops)


def _taken_back(marks: Sequence[Mark]) -> Iterator[Mark]:
    """The marks that an undo sets back: what was found out about the content of a commit stays true."""
    return (mark for mark in marks if mark.old != mark.new and mark.key not in OF_LEAVES)


def _restored(before: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: before.get(key) for key in settings}


def _now(database: Database, entry: Entry) -> Iterator[tuple[str, Any, Any]]:
    """(what, as the entry left it, as it is now) for everything that an entry changed, and what its refs named."""
    for move in entry.refs:
        if move.old != move.new:
            yield move.name, move.new, database.ref(move.name)
            # Else a run would end at a commit that cannot be checked out.
            drop = None if move.old is None else database.drop(move.old)
            if move.old is not None and drop is not None and drop.parts is None:
                yield f"the retention of {move.old.hex()[:12]}", None, drop
    for mark in _taken_back(entry.marks):
        yield (
            f"the {mark.key} of {mark.commit.hex()[:12]}",
            mark.new,
            mark_of(database.tables, mark.commit, mark.key),
        )
    for run, settings in entry.runs.items():
        found = database.run_settings(run)
        for key, value in settings.items():
            yield f"the setting {key!r} of run {run!r}", value, found.get(key)
    for drop in {drop.commit: drop for drop in entry.drops}.values():
        kept = None if drop.cancelled else drop
        yield f"the retention of {drop.commit.hex()[:12]}", kept, database.drop(drop.commit)


def _shown(value: Any) -> str:
    """A value for people: ids in 12 digits, records in words."""
    if isinstance(value, Drop):
        lost = "its state" if value.parts is None else ", ".join(value.parts)
        return f"{lost} dropped by the rule {value.rule!a}"
    return "nothing" if value is None else value.hex()[:12] if isinstance(value, bytes) else repr(value)
