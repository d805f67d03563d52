"""A stored state of an old version becomes one of the version the program knows, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from casckpt.errors import MigrationFailed, SchemaWarning
from casckpt.format.ids import CommitId, short_id
from casckpt.odb.database import Database
from casckpt.ops.history import require_tree
from casckpt.plan.schema import Schema, SchemaLike, Step, registered

_shown: dict[Any, Any] = {}
"""Which warnings were shown, as Python's filters note it; so one is shown once, from wherever the commit is read."""


def steps_ahead(database: Database, identity: CommitId, asked: SchemaLike | None) -> tuple[Step, ...]:
    """The steps the state of a commit must go through; see `Migrations.way` for what it raises."""
    schema = None if asked is None else Schema.of(asked)
    return registered.way(short_id(identity), require_tree(database, identity, lambda component: True).schema, schema)


def migrate_state(state: Any, steps: Sequence[Step], identity: CommitId) -> Any:
    """A state after some steps; belongs to the steps, which may change it.

    Raises:
        MigrationFailed: a step raised, or returned nothing; the cause is what it raised.

    Memory: what a step makes; the state before it is let go.
    """
    _warn(steps, identity)
    for step in steps:
        facts = {"commit": short_id(identity), "name": step.name, "start": step.start, "end": step.end}
        try:
            state = step.function(state)
        except Exception as error:
            raise MigrationFailed(**facts, problem=f"{type(error).__name__}: {error}") from error
        if state is None:
            raise MigrationFailed(**facts, problem="it returned None instead of the state")
    return state


def _warn(steps: Sequence[Step], identity: CommitId) -> None:
    first, last = steps[0], steps[-1]
    text = (
        f"commit {short_id(identity)} holds version {first.start} of the schema {first.name!r}: "
        f"it is migrated to {last.end} after reading, here and not in the store"
    )
    # The place that is shown is the first step: the same for every reader of the commit, and where to look.
    code = getattr(first.function, "__code__", None)
    file, line = ("casckpt", 1) if code is None else (code.co_filename, code.co_firstlineno)
    warnings.warn_explicit(text, SchemaWarning, file, line, "casckpt", _shown)
