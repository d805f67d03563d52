"""A commit of files back on disk: verified on the way, built aside, renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from casckpt.errors import StorageError, TargetExists, UnsafePath, UsageError
from casckpt.format.ids import CommitId
from casckpt.odb.database import Database
from casckpt.ops.history import require_tree
from casckpt.ops.load import LoadedComponent, Loader
from casckpt.ops.reports import CheckoutReport
from casckpt.ops.values import Progress, counted
from casckpt.state import paths as state_paths
from casckpt.state.walk import LeafInfo

_MAX_NAME_BYTES = 255


def checkout_path(
    database: Database, identity: CommitId, destination: str | os.PathLike[str], progress: Progress | None = None
) -> CheckoutReport:
    """Write a commit to `destination`, which must be absent: aside first, then renamed, so it is whole or not there.

    The files come back byte for byte in a folder; a commit of a single file gives that file.

    Raises:
        TargetExists: the destination is there already.
        UsageError: the commit holds a live state, not files.
        DamagedLeaf: stored bytes are wrong or missing; nothing is left behind.
    """
    target = Path(destination)
    if os.path.lexists(target):
        raise TargetExists(path=str(target))
    if not target.absolute().parent.is_dir():
        raise UsageError(problem=f"the folder {target.absolute().parent} does not exist")
    aside = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        files, nbytes = _write(database, identity, aside, progress)
        if os.path.lexists(target):
            raise TargetExists(path=str(target))
        os.rename(aside, target)
        _sync_folder(target.absolute().parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(operation="write", path=str(target), problem=error.strerror, errno=error.errno) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)
    return CheckoutReport(identity.hex(), str(target), files, nbytes)


def _write(database: Database, identity: CommitId, aside: Path, progress: Progress | None) -> tuple[int, int]:
    loader = Loader(database, identity, require_tree(database, identity))
    leaves = [(loaded, leaf) for loaded in loader.components(loader.tree()) for leaf in loaded.leaves()]
    leaves = [(loaded, leaf) for loaded, leaf in leaves if leaf.kind != "part"]
    if all(leaf.kind in ("file", "dict") for _, leaf in leaves):
        total = sum(loaded.structure.sizes[leaf.blob] for loaded, leaf in leaves if leaf.blob is not None)
        return _write_files(loader, leaves, aside, counted(progress, total))
    problem = "this commit holds a live state, not files: restore it with Store.checkout in Python"
    raise UsageError(problem=problem)


def _write_files(
    loader: Loader, leaves: list[tuple[LoadedComponent, LeafInfo]], aside: Path, advance: Callable[[int], None]
) -> tuple[int, int]:
    files = nbytes = 0
    single = len(leaves) == 1 and leaves[0][1].kind == "file" and "/" not in leaves[0][1].path
    if not single:
        aside.mkdir(mode=0o700)
    for loaded, leaf in leaves:
        names = [_safe_name(part, leaf.path) for part in leaf.path.split("/")] if leaf.path else []
        path = aside if single else aside.joinpath(*names)
        if leaf.kind == "dict":
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        nbytes += _write_file(loader, loaded, leaf, path, advance)
        files += 1
    if not single:
        for folder, _, _ in os.walk(aside, topdown=False):
            _sync_folder(Path(folder))
    return files, nbytes


def _write_file(
    loader: Loader, loaded: LoadedComponent, leaf: LeafInfo, path: Path, advance: Callable[[int], None]
) -> int:
    mode = 0o700 if leaf.value else 0o600
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    written = 0
    with open(descriptor, "wb", buffering=0) as file:
        for piece in loader.pieces(loaded, leaf.blob) if leaf.blob is not None else _nothing():
            view = memoryview(piece)
            while view:
                count = file.write(view)
                view = view[count:]
            written += len(piece)
            advance(len(piece))
        os.fsync(file.fileno())
    return written


def _nothing() -> Iterator[bytes]:
    return iter(())


def _safe_name(element: str, path: str) -> str:
    """The file name of a path element from a store that may be hostile.

    Raises:
        UnsafePath: a name that would leave the target folder or mean something else on another system.
    """
    name = state_paths.text_of(element)
    problem = ""
    if name is None or name in ("", ".", "..") or "/" in name or "\0" in name or "\\" in name:
        problem = "it is no plain file name"
    elif len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        problem = "a name in it is longer than 255 bytes"
    elif name.casefold() == ".casckpt":
        problem = "a store's own folder is never written from a commit"
    if problem or name is None:
        raise UnsafePath(path=path, problem=problem)
    return name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
