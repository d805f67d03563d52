"""A commit of files back on disk: verified on the way, built aside, put in its place in one step."""

from __future__ import annotations

import os

from casckpt.errors import NotFoundError, UsageError
from casckpt.odb.repository import Repository
from casckpt.ops.export import checkout_view
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.opening import loader_of
from casckpt.ops.reports import CheckoutReport
from casckpt.ops.resolve import resolve
from casckpt.ops.selection import Patterns
from casckpt.ops.values import Progress, counted
from casckpt.ops.write_files import file_size, write_files
from casckpt.plan.placing import place_files
from casckpt.plan.revision import split_path
from casckpt.state import paths
from casckpt.state.select import compile_patterns, may_reach
from casckpt.state.walk import LeafInfo
from casckpt.storage.aside import Aside, check_place
from casckpt.storage.posix import OsErrors


def checkout_path(
    repository: Repository,
    revision: str,
    destination: str | os.PathLike[str],
    *,
    replace: bool = False,
    links: bool = False,
    select: Patterns | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CheckoutReport:
    """Write the files of a commit, or with `REV:path` those at and below a path in it, to `destination`.

    Args:
        select: only those whose paths, or the folders above them, match; they lie in a folder as they did.

    They come back byte for byte in a folder; a single file comes back as that file. The destination is absent, an
    empty folder where a folder is to come, or with `replace` a file or folder that is there whole until the new is.

    Raises:
        RevisionNotFound: nothing has that name.
        TargetExists: the destination is there already.
        UsageError: the commit holds a live state, not files, or the destination cannot be replaced.
        UnsafePath: a name or link in the commit that would leave the destination.
        NotFoundError: the commit has nothing of that path, or nothing matches.
        CommitThinned: it has lost a component that may hold something that is asked for.
        DamagedLeaf: stored bytes are wrong or missing.
        StorageError: the disk failed or is full.

    With `dry_run` all but the stored bytes is checked, and nothing is written.

    After any error the destination is as it was, and nothing is left beside it.

    Cost: one read, one BLAKE3 pass and one write of what is asked for; memory is up to 8 MiB a thread.
    """
    if select is None:
        view = checkout_view(repository, revision, destination, replace=replace, dry_run=dry_run, progress=progress)
        if view is not None:
            return view
    name, path = split_path(revision)
    database = repository.database
    identity = resolve(database, name)
    wanted = _Wanted(path, select)
    loader = loader_of(database, identity, wanted.is_unasked)
    leaves = wanted.leaves(loader)
    if select is not None and not leaves:
        raise NotFoundError(thing=f"a file that matches {select!r} in commit {loader.commit}")
    placing = place_files(leaves, path, links=links, as_folder=select is not None)
    _spare_stores(repository, destination)
    check_place(destination, is_folder=placing.is_folder, replace=replace)
    nbytes = sum(map(file_size, placing.files))
    if dry_run:
        return CheckoutReport(identity.hex(), os.fspath(destination), len(placing.files), nbytes, dry_run=True)
    with (
        OsErrors("write", os.fspath(destination), names_pass=False),
        Aside(destination, is_folder=placing.is_folder) as aside,
    ):
        write_files(loader, placing, aside.descriptor.fd, repository.threads, counted(progress, nbytes))
        aside.place(replace=replace)
    return CheckoutReport(identity.hex(), os.fspath(destination), len(placing.files), nbytes, aside.leftover)


class _Wanted:
    """What of a commit is asked for: all at and below a path that patterns select."""

    def __init__(self, path: str | None, select: Patterns | None) -> None:
        self._first = (path or "").strip("/").partition("/")[0]
        self._patterns = select
        self._selects = None if select is None else compile_patterns(select)

    def is_unasked(self, component: str) -> bool:
        """Whether nothing in a component can be asked for, whatever is in it. Damage there hits nobody."""
        has_path = not self._first or self._first in (component, paths.text_of(component))
        return not has_path or (self._patterns is not None and not may_reach(self._patterns, component))

    def leaves(self, loader: Loader) -> list[tuple[LoadedComponent, LeafInfo]]:
        """The leaves that patterns select, less those of components in which nothing is asked for."""
        found: list[tuple[LoadedComponent, LeafInfo]] = []
        for name, identity in loader.tree().components:
            if not name or not self.is_unasked(name):
                loaded = loader.component(name, identity)
                found += ((loaded, leaf) for leaf in loaded.leaves() if self._is_selected(leaf))
        return found

    def _is_selected(self, leaf: LeafInfo) -> bool:
        return self._selects is None or (leaf.kind != "part" and self._selects(leaf.path))


def _spare_stores(repository: Repository, destination: str | os.PathLike[str]) -> None:
    """Refuse to replace a folder with all the checkpoints in it.

    Raises:
        UsageError: the destination is a store or holds one: this one wherever it is, others where one would look.
    """
    place = os.path.realpath(destination)
    own = repository.storage.path
    holds_own = own is not None and os.path.commonpath([place, os.path.realpath(own)]) == place
    is_other = all(os.path.exists(os.path.join(place, name)) for name in ("format", "journal"))
    if holds_own or is_other or os.path.exists(os.path.join(place, ".casckpt")):
        raise UsageError(problem=f"{place} is not replaced: it is or holds a store")
