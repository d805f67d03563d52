"""Runs as names: begin one at any commit, give one another name, say how one ended and what of it is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from casckpt.errors import RevisionNotFound, RunExists, UsageError
from casckpt.format.entry import Entry, RefMove
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.odb.renames import renames_of
from casckpt.odb.repository import Repository, writer_name
from casckpt.ops.history import run_info
from casckpt.ops.lookup import close_names, did_you_mean
from casckpt.ops.publishing import as_if, publish, settings_changed
from casckpt.ops.resolve import resolve
from casckpt.ops.values import RunInfo
from casckpt.plan.names import check_name, head_ref, run_of

ENDS = ("completed", "failed", "cancelled", "preempted")
_OF_A_RUN = ("best", "finished", "retention")
"""Settings that say something of a run, and go with it."""


def fork_run(repository: Repository, revision: str, name: str, *, dry_run: bool = False) -> RunInfo:
    """Begin a run at a commit of another, with its rule for `best`; its first commit becomes a child of that one.

    Raises:
        RunExists: there is a run of that name.
    """
    check_name("run", name)
    database = repository.database
    identity = resolve(database, revision)

    def settle() -> Entry:
        _require_free(database, name)
        commit = database.commit(identity)
        if commit is None:
            raise RevisionNotFound(text=revision, problem="it vanished meanwhile")
        best = database.run_settings(commit.run).get("best")
        runs, before = settings_changed(database, {name: {"best": best, "finished": None}})
        return Entry(
            "run-fork",
            time.time_ns(),
            refs=(RefMove(head_ref(name, "last"), None, identity),),
            runs=runs,
            before=before,
            by=writer_name(),
        )

    return _described(repository, name, settle, dry_run)


def rename_run(repository: Repository, old: str, new: str, *, dry_run: bool = False) -> RunInfo:
    """Give a run another name; its commits, refs and settings go along. Later commits to the old name begin a new run.

    Raises:
        RevisionNotFound: there is no run `old`.
        RunExists: there is a run `new`.

    Cost: all commits of the store are looked at.
    """
    check_name("run", new)
    database = repository.database

    def settle() -> Entry:
        heads = _heads(database, old)
        _require_free(database, new)
        known = database.run_settings(old)
        moved = {key: known.get(key) for key in _OF_A_RUN}
        renamed = [*known.get("renamed", []), [_after_all(database, old), new]]
        wanted = {old: {**dict.fromkeys(moved), "renamed": renamed}, new: moved}
        runs, before = settings_changed(database, wanted)
        return Entry(
            "run-rename",
            time.time_ns(),
            refs=(
                *(RefMove(head_ref(old, head), commit, None) for head, commit in heads.items()),
                *(RefMove(head_ref(new, head), None, commit) for head, commit in heads.items()),
            ),
            runs=runs,
            before=before,
            by=writer_name(),
        )

    return _described(repository, new, settle, dry_run)


def finish_run(repository: Repository, name: str, status: str = "completed", *, dry_run: bool = False) -> RunInfo:
    """Say how a run ended; a later commit to it takes that back.

    Raises:
        RevisionNotFound: there is no such run.
        UsageError: a run cannot end so.
    """
    if status not in ENDS:
        raise UsageError(problem=f"a run ends {', '.join(ENDS[:-1])} or {ENDS[-1]}, not {status!r}")
    database = repository.database

    def settle() -> Entry:
        last = database.commit(_heads(database, name)["last"])
        # Not before its last commit, whose machine may have another clock.
        at = max(time.time_ns(), 0 if last is None else last.time_ns)
        runs, before = settings_changed(database, {name: {"finished": {"time": at, "status": status}}})
        return Entry("run-finish", at, runs=runs, before=before, by=writer_name())

    return _described(repository, name, settle, dry_run)


def keep_run_policy(
    repository: Repository, name: str, table: Mapping[str, Any] | None, *, dry_run: bool = False
) -> bool:
    """Keep a retention policy for one run, or none any more; whether that changes anything.

    Raises:
        RevisionNotFound: there is no such run.
    """
    database = repository.database

    def settle() -> Entry:
        _heads(database, name)
        runs, before = settings_changed(database, {name: {"retention": table}})
        return Entry("run-policy", time.time_ns(), runs=runs, before=before, by=writer_name())

    database.refresh()
    if not settle().runs:
        return False
    publish(repository, settle, dry_run=dry_run)
    return True


def _heads(database: Database, run: str) -> dict[str, CommitId]:
    """What the refs of a run name, by head."""
    found = {name.rpartition("/")[2]: commit for name, commit in database.refs(f"runs/{run}/").items()}
    if "last" not in found:
        names = [head[0] for head in map(run_of, database.refs("runs/")) if head is not None]
        raise RevisionNotFound(text=run, problem=did_you_mean(close_names(run, names)) or "there is no such run")
    return found


def _require_free(database: Database, run: str) -> None:
    taken = database.refs(f"runs/{run}/")
    if taken:
        raise RunExists(run=run, actual=taken.get(head_ref(run, "last"), next(iter(taken.values()))).hex()[:12])


def _after_all(database: Database, run: str) -> int:
    """Now, but not before any commit of a run, and after every rename: so that names can be followed in their order."""
    commits = (commit.time_ns for _, commit in database.commits() if commit.run == run)
    renames = (at + 1 for found in renames_of(database.tables).values() for at, _ in found)
    return max((time.time_ns(), *commits, *renames))  # a fork may have no commit yet


def _described(repository: Repository, run: str, settle: Callable[[], Entry], dry_run: bool) -> RunInfo:
    """A run as a change leaves it, or would."""
    _, entry = publish(repository, settle, dry_run=dry_run)
    database = repository.database
    return run_info(as_if(database, entry) if dry_run else database, run)
