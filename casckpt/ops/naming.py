"""Names and facts of commits: tags, pins and notes. The commits themselves never change."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from casckpt.errors import NotFoundError, RefExists, RevisionNotFound, UsageError
from casckpt.format.canonical import encode
from casckpt.format.entry import Entry, Mark, RefMove
from casckpt.format.ids import CommitId
from casckpt.format.limits import MAX_MARK_BYTES
from casckpt.odb.database import Database
from casckpt.odb.fold import mark_of
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.history import describe
from casckpt.ops.lookup import close_names, did_you_mean, pinned
from casckpt.ops.publishing import as_if, publish
from casckpt.ops.resolve import resolve
from casckpt.ops.values import CommitInfo
from casckpt.plan.names import check_name, is_text, tag_ref
from casckpt.plan.until import parse_until


def tag(repository: Repository, name: str, revision: str, *, dry_run: bool = False) -> CommitInfo:
    """Give a commit a name that never moves.

    Raises:
        RefExists: the tag names another commit.
    """
    check_name("tag", name)
    database = repository.database
    identity = resolve(database, revision)
    if database.ref(tag_ref(name)) == identity:
        return describe(database, identity)  # nothing to write down, and nothing for an undo to take back

    def settle() -> Entry:
        old = database.ref(tag_ref(name))
        if old is not None and old != identity:
            raise RefExists(ref=f"tag {name!r}", actual=old.hex()[:12])
        if database.commit(identity) is None:
            raise RevisionNotFound(text=revision, problem="it vanished meanwhile")
        return Entry("tag", time.time_ns(), refs=(RefMove(tag_ref(name), old, identity),), by=writer_name())

    return _described(repository, identity, settle, dry_run)


def untag(repository: Repository, name: str, *, dry_run: bool = False) -> CommitInfo:
    """Remove a tag; the commit that it named.

    Raises:
        RevisionNotFound: there is no such tag.
    """
    database = repository.database

    def settle() -> Entry:
        return Entry(
            "untag", time.time_ns(), refs=(RefMove(tag_ref(name), _tagged(database, name), None),), by=writer_name()
        )

    _, entry = publish(repository, settle, dry_run=dry_run)
    named = entry.refs[0].old
    assert named is not None
    return describe(as_if(database, entry) if dry_run else database, named)


def _tagged(database: Database, name: str) -> CommitId:
    found = database.ref(tag_ref(name)) if is_text(name) else None
    if found is None:
        tags = [tag.removeprefix("tags/") for tag in database.refs("tags/")]
        close = close_names(name, tags) if is_text(name) else []
        raise RevisionNotFound(
            text=name if is_text(name) else ascii(name), problem=did_you_mean(close) or "it is no tag"
        )
    return found


def pin(
    repository: Repository, revision: str, until: str | datetime | None = None, *, dry_run: bool = False
) -> CommitInfo:
    """Keep a commit reachable whatever its refs do, for good or until a moment. Again: until another moment."""
    now_ns = time.time_ns()
    end_ns = None if until is None else parse_until(until, now_ns)
    database = repository.database
    identity = resolve(database, revision)
    known = mark_of(database.tables, identity, "pin")
    if known is not None and known["until"] == end_ns:
        return describe(database, identity)
    return _mark(repository, "pin", identity, {"time": now_ns, "until": end_ns}, dry_run)


def unpin(repository: Repository, revision: str, *, dry_run: bool = False) -> CommitInfo:
    """Remove the pin of a commit.

    Raises:
        NotFoundError: it has none.
    """
    database = repository.database
    identity = resolve(database, revision)
    if mark_of(database.tables, identity, "pin") is None:
        raise NotFoundError(thing=f"a pin of commit {identity.hex()[:12]}")
    return _mark(repository, "unpin", identity, None, dry_run)


def pins(database: Database) -> list[CommitInfo]:
    """The commits that are pinned now, newest first."""
    database.refresh()
    found = [describe(database, identity) for identity in pinned(database) if database.commit(identity) is not None]
    return sorted(found, key=lambda commit: (-commit.time_ns, commit.id))


def note(repository: Repository, revision: str, text: str, *, dry_run: bool = False) -> CommitInfo:
    """Remark something about a commit, in place of what was remarked before; an empty text removes that.

    Raises:
        UsageError: the text is too long, or has no UTF-8 form.
    """
    if not is_text(text):
        raise UsageError(problem=f"a note must be a text, not {text!a}")
    if len(encode(text)) > MAX_MARK_BYTES:
        raise UsageError(
            problem=f"the note has {len(text.encode())} bytes; the format allows less than {MAX_MARK_BYTES}"
        )
    database = repository.database
    identity = resolve(database, revision)
    if mark_of(database.tables, identity, "note") == (text or None):
        return describe(database, identity)
    return _mark(repository, "note", identity, text or None, dry_run)


def _mark(repository: Repository, op: str, identity: CommitId, value: Any, dry_run: bool) -> CommitInfo:
    database = repository.database
    key = op.removeprefix("un")

    def settle() -> Entry:
        if not database.has_commit(identity):
            raise RevisionNotFound(text=identity.hex()[:12], problem="it vanished meanwhile")
        old = mark_of(database.tables, identity, key)
        return Entry(op, time.time_ns(), marks=(Mark(identity, key, old, value),), by=writer_name())

    return _described(repository, identity, settle, dry_run)


def _described(repository: Repository, identity: CommitId, settle: Callable[[], Entry], dry_run: bool) -> CommitInfo:
    """A commit as a change leaves it, or would."""
    _, entry = publish(repository, settle, dry_run=dry_run)
    database = repository.database
    return describe(as_if(database, entry) if dry_run else database, identity)
