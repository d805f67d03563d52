"""clone: a new store with all that a remote has, or a part of it, which follows the remote from then on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from casckpt.errors import StoreExists
from casckpt.odb.repository import Repository, check_initializable, initialize, writer_name
from casckpt.ops.fetch import TRACKING, fetch_all
from casckpt.ops.fetch_choice import Selection
from casckpt.ops.fetch_reports import PullReport
from casckpt.ops.pull import move_refs
from casckpt.ops.values import Progress
from casckpt.remote.reading import CONCURRENCY
from casckpt.storage.base import Storage
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.objects import Objects


def clone(
    storage: Storage,
    objects: Objects,
    name: str = "origin",
    names: Sequence[str] = (),
    *,
    configure: Callable[[Storage], object] = lambda storage: None,
    depth: int | None = None,
    only: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    concurrency: int = CONCURRENCY,
) -> tuple[Repository, PullReport]:
    """Make an empty folder a store with what a remote has. A clone that was interrupted goes on.

    Args:
        name: by which the new store knows the remote.
        names: of runs, tags and refs of the remote; none for all of them.
        configure: called with the new store's storage before anything is fetched, to write down where the remote is.
        depth, only, progress, concurrency: as of `fetch`.

    Returns:
        The repository, open, and what was done.

    Raises:
        StoreExists: there is a store that has refs of its own. FolderNotEmpty: the folder holds other files.
        and what `fetch` raises: the store is then there, and a clone to the same place goes on.

    Cost: three requests, one for each index segment, and the ranges of packs that are wanted.
    """
    if not check_place(storage):
        initialize(storage, time_ns=time.time_ns(), by=writer_name())
    configure(storage)
    repository = Repository(storage, threads=threads)
    try:
        selection = Selection(names=names, depth=depth, only=only)
        return repository, _pulled(repository, objects, name, selection, concurrency=concurrency, progress=progress)
    except BaseException:
        repository.close()
        raise


def rehearse(
    storage: Storage,
    objects: Objects,
    name: str,
    names: Sequence[str] = (),
    *,
    depth: int | None = None,
    only: Sequence[str] | None = None,
) -> PullReport:
    """What a clone would do: the metadata is read, and nothing written. Raises as `clone`."""
    check_place(storage)
    nowhere = MemoryStorage()
    initialize(nowhere, time_ns=time.time_ns(), by=writer_name())
    repository = Repository(nowhere)
    try:
        return _pulled(repository, objects, name, Selection(names=names, depth=depth, only=only), dry_run=True)
    finally:
        repository.close()


def _pulled(
    repository: Repository,
    objects: Objects,
    name: str,
    selection: Selection,
    *,
    dry_run: bool = False,
    concurrency: int = CONCURRENCY,
    progress: Progress | None = None,
) -> PullReport:
    """Everything that is asked for, and the refs that lead to it."""
    fetched = fetch_all(
        repository, objects, name, selection,
        dry_run=dry_run, concurrency=concurrency, accept_rollback=False, progress=progress,
    )  # fmt: skip
    return move_refs(repository, fetched, policy="ff")


def check_place(storage: Storage) -> bool:
    """Whether an interrupted clone has begun a store there; False if there is nothing yet.

    Raises:
        StoreExists: there is a store that has refs of its own. FolderNotEmpty: the folder holds other files.
    """
    try:
        check_initializable(storage)
    except StoreExists:
        if not _is_unfinished(storage):
            raise
        return True
    return False


def _is_unfinished(storage: Storage) -> bool:
    """Whether a store has nothing but what an interrupted clone leaves."""
    repository = Repository(storage)
    try:
        database = repository.database
        return all(name.startswith(f"{TRACKING}/") for name in database.refs()) and not any(
            entry.op == "commit" for _, entry in database.history()
        )
    finally:
        repository.close()
