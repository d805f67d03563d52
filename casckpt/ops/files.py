"""Files and folders as commits: kept byte for byte; `checkout_path` brings them back.

Regular files, folders, and symbolic links that stay inside what is committed; links are never followed, and devices,
pipes and sockets are refused by name. The executable bit is kept; owners, other modes, times and holes are not.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from casckpt.errors import (
    NotFoundError,
    StateTooDeep,
    StorageError,
    TooLarge,
    UnsafeLink,
    UnsafeName,
    UnsafePath,
    UsageError,
)
from casckpt.format import chunking, limits
from casckpt.odb.coder import Compress
from casckpt.odb.repository import Repository
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.sources import FileSource
from casckpt.ops.values import CommitInfo, Progress
from casckpt.state import paths as state_paths
from casckpt.state.flat import DEPTH_MAX, LINK_MAX_BYTES, PARTS_MAX, Blob, FlatComponent, FlatState
from casckpt.state.values import encode_key

if TYPE_CHECKING:
    from casckpt.remote.locks import RemoteLock

_NAME_BYTES_MAX = 255
_SHOWN = 5
"""Most names that an error lists."""


class _Gather:
    """Walks files and folders into nodes and blobs, as `flatten` does for a live state."""

    def flat(self, tree: dict[str, Any]) -> FlatState:
        folders = [name for name, item in tree.items() if isinstance(item, dict)]
        split = folders if 1 <= len(folders) <= PARTS_MAX else []
        parts = [self.component(state_paths.element(name), tree[name]) for name in split]
        blobs: list[tuple[Blob, list[Any]]] = []
        children = [
            ["part", split.index(name)] if name in split else self.node(item, state_paths.element(name), blobs)
            for name, item in tree.items()
        ]
        return FlatState(_number("", ["dict", _keys(tree), children], blobs), tuple(parts), ())

    def component(self, name: str, tree: dict[str, Any]) -> FlatComponent:
        blobs: list[tuple[Blob, list[Any]]] = []
        return _number(name, self.node(tree, name, blobs), blobs)

    def node(self, item: Any, path: str, blobs: list[tuple[Blob, list[Any]]]) -> list[Any]:
        if isinstance(item, dict):
            below = [self.node(child, f"{path}/{state_paths.element(name)}", blobs) for name, child in item.items()]
            return ["dict", _keys(item), below]
        if isinstance(item, bytes):
            return ["link", item]
        node: list[Any] = ["file", None, bool(item.status.st_mode & stat.S_IXUSR)]
        if item.status.st_size:
            blobs.append((_blob(item, path), node))
        return node


def _blob(file: _File, path: str) -> Blob:
    size = file.status.st_size
    if size > limits.MAX_BLOB_BYTES:
        raise TooLarge(object=str(file.path), size=f"{size} bytes", limit=f"{limits.MAX_BLOB_BYTES} bytes")
    source = FileSource(file.path, path, file.status)
    return Blob(path, "bytes", size, source, source.cuts if size >= chunking.SMALL else None)


def _keys(tree: dict[str, Any]) -> list[object]:
    return [encode_key(name, name, 0) for name in tree]


def _number(name: str, node: list[Any], blobs: list[tuple[Blob, list[Any]]]) -> FlatComponent:
    """Number the blobs of a component in bytewise order of their paths, as the format demands."""
    blobs.sort(key=lambda pair: pair[0].path.encode())
    for number, (_, leaf) in enumerate(blobs):
        leaf[1] = number
    return FlatComponent(name, node, [], tuple(blob for blob, _ in blobs))


class _File(NamedTuple):
    """A regular file as the scan found it; from then on it must stay so."""

    path: Path
    status: os.stat_result


class _Scan:
    """Looks through a path that is to be committed. Collects names that could never be checked out."""

    def __init__(self) -> None:
        self.unsafe: list[str] = []

    def item(self, path: Path, name: str, depth: int) -> Any:
        """Nested dicts of names, with regular files (`_File`) and targets of links (bytes).

        Sorted, so that equal folders are equal trees.

        Args:
            depth: how many folders of what is committed are around it.
        """
        if not _is_portable(name):
            self.unsafe.append(str(path))
        try:
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                return _File(path, status)
            if stat.S_ISLNK(status.st_mode):
                return _target(path, depth)
            names = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else None
        except FileNotFoundError as error:
            raise NotFoundError(thing=str(path)) from error
        except OSError as error:
            raise StorageError(operation="read", path=str(path), problem=error.strerror, errno=error.errno) from error
        if names is None:
            raise UnsafePath(path=str(path), problem=f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}")
        if depth >= DEPTH_MAX - 1:
            raise StateTooDeep(path=str(path), limit=DEPTH_MAX)
        return {below: self.item(path / below, below, depth + 1) for below in names}


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _is_portable(name: str) -> bool:
    """Whether a checkout would ever write a file of this name."""
    return "\\" not in name and name.casefold() != ".casckpt" and len(os.fsencode(name)) <= _NAME_BYTES_MAX


def _target(path: Path, depth: int) -> bytes:
    """The target of a symbolic link that stays inside what is committed, wherever that will be.

    Nothing is followed. `..` may stand at the front only: behind a name, that may itself be a link, it could lead
    anywhere.

    Args:
        depth: how many folders of what is committed are around the link.
    """
    target = os.fsencode(os.readlink(path))
    steps = [step for step in target.split(b"/") if step not in (b"", b".")]
    up = next((number for number, step in enumerate(steps) if step != b".."), len(steps))
    problem = ""
    if target.startswith(b"/"):
        problem = "it is a symbolic link with an absolute target"
    elif up >= depth:
        problem = "it is a symbolic link that leaves what is committed"
    elif b".." in steps[up:]:
        problem = "it is a symbolic link that goes up after it went down"
    elif not all(_is_portable(os.fsdecode(step)) for step in steps) or len(target) > LINK_MAX_BYTES:
        problem = "it is a symbolic link that no checkout would make"
    if problem:
        raise UnsafeLink(path=str(path), problem=f"{problem}: {os.fsdecode(target)!r}")
    return target


def commit_paths(
    repository: Repository,
    paths: tuple[str | os.PathLike[str], ...],
    options: CommitOptions,
    compress: Compress = "auto",
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
    lock: RemoteLock | None = None,
) -> CommitInfo:
    """Commit files and folders under their own names.

    Args:
        dry_run, lock: as of `commit_state`.

    Raises:
        UnsafePath: a device, a pipe or a socket.
        UnsafeLink: a symbolic link that is absolute or leaves its path.
        UnsafeName: names that no checkout would write.
        FileChanged: a file changed while it was read; nothing was committed.
    """
    tree: dict[str, Any] = {}
    scan = _Scan()
    for path in map(Path, paths):
        name = path.absolute().name
        if name in ("", ".."):
            raise UsageError(problem=f"{path} does not say under which name it is to be kept")
        if name in tree:
            raise UsageError(problem=f"two paths would be called {name!r}")
        tree[name] = scan.item(path, name, 0)
    if scan.unsafe:
        more = f" and {len(scan.unsafe) - _SHOWN} more" if len(scan.unsafe) > _SHOWN else ""
        shown = ", ".join(scan.unsafe[:_SHOWN]) + more
        raise UnsafeName(path=shown, problem="a backslash, or the name of a store, is never written by a checkout")
    try:
        return commit_state(repository, _Gather().flat(tree), options, compress, progress, dry_run=dry_run, lock=lock)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(operation="read", path=error.filename, problem=error.strerror, errno=error.errno) from error
