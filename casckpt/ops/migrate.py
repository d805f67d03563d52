"""migrate: the last state of a run, brought to the version the program knows, becomes the next commit of the run."""

from __future__ import annotations

from functools import partial

from casckpt.format.ids import CommitId
from casckpt.odb.coder import Compress
from casckpt.odb.repository import Repository
from casckpt.ops.checkout import checkout_state
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.consent import AllowPickle, take_apart
from casckpt.ops.history import describe
from casckpt.ops.inspect import metadata
from casckpt.ops.values import CommitInfo, Progress
from casckpt.ops.versions import migrate_state, steps_ahead
from casckpt.plan.schema import Schema, SchemaLike


def migrate_commit(
    repository: Repository,
    identity: CommitId,
    asked: SchemaLike | None,
    run: str | None = None,
    compress: Compress = "auto",
    progress: Progress | None = None,
    allow_pickle: AllowPickle = False,
) -> CommitInfo:
    """A child of a commit that holds its state in the current version; the commit itself if that is current.

    Args:
        asked: the version to arrive at, with the paths it requires; None for the current one.
        allow_pickle: as of a checkout and of a commit.
        run: where the child goes; None for the run of the commit, of which it must then be the last.

    Raises:
        ConflictError: `run` is not given and its last is another commit; nothing was changed.
        MigrationFailed: a step raised; nothing was changed.
        RequiredPathMissing: the migrated state lacks a required path; nothing was written.

    Cost: a checkout and a commit; memory is one state.
    """
    before = describe(repository.database, identity)
    steps = steps_ahead(repository.database, identity, asked)
    if not steps:
        return before
    schema = Schema.of(asked or (steps[-1].name, steps[-1].end))
    name = f"id:{before.id}"
    options = CommitOptions(
        run=before.run if run is None else run,
        step=before.step,
        epoch=before.epoch,
        kind=before.kind,
        status=before.status,
        metrics=before.metrics,
        message=f"migrated from {schema.name} {steps[0].start} to {schema.version}",
        author=before.author,
        parents=(name,),
        # An older state must not become the last of a run: whoever goes on from there would lose what came after it.
        expect=name if run is None else None,
        schema=schema,
        **metadata(repository.database, identity),
    )
    old = partial(checkout_state, repository, identity, progress=progress, allow_pickle=allow_pickle)
    state = migrate_state(old(), steps, identity)
    flat = take_apart(state, None, allow_pickle, schema)
    return commit_state(repository, flat, options, compress, progress)
