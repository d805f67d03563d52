"""Files and folders as commits: kept byte for byte; `checkout_path` brings them back.

Regular files and folders only; symbolic links, devices and sockets are refused by name, never followed. The
executable bit is kept; owners, other modes and times are not.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from casckpt.errors import NotFoundError, StateChanged, StorageError, UnsafePath, UsageError
from casckpt.odb.coder import Compress
from casckpt.odb.repository import Repository
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.ops.values import CommitInfo, Progress
from casckpt.state import paths as state_paths
from casckpt.state.flat import PARTS_MAX, Blob, FlatComponent, FlatState
from casckpt.state.values import encode_key


class _FileSource:
    """The bytes of a file that must not change while it is read; by several threads at once."""

    private = True

    def __init__(self, path: Path, leaf: str, status: os.stat_result) -> None:
        self._path, self._leaf, self._status = path, leaf, status

    def read(self, start: int, stop: int) -> memoryview:
        # Opened for each piece: a folder may have more files than a process may have open.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = os.pread(descriptor, stop - start, start)
            now = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        seen = (self._status.st_dev, self._status.st_ino, self._status.st_size, self._status.st_mtime_ns)
        if len(data) != stop - start or (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != seen:
            raise StateChanged(path=self._leaf)
        return memoryview(data)


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
        status = item.lstat()
        node: list[Any] = ["file", None, bool(status.st_mode & stat.S_IXUSR)]
        if status.st_size:
            blobs.append((Blob(path, "bytes", status.st_size, _FileSource(item, path, status)), node))
        return node


def _keys(tree: dict[str, Any]) -> list[object]:
    return [encode_key(name, name, 0) for name in tree]


def _number(name: str, node: list[Any], blobs: list[tuple[Blob, list[Any]]]) -> FlatComponent:
    """Number the blobs of a component in bytewise order of their paths, as the format demands."""
    blobs.sort(key=lambda pair: pair[0].path.encode())
    for number, (_, leaf) in enumerate(blobs):
        leaf[1] = number
    return FlatComponent(name, node, [], tuple(blob for blob, _ in blobs))


def _scan(path: Path) -> Any:
    """A path as nested dicts of names with paths of regular files; sorted, so that equal folders are equal trees."""
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            return path
        if stat.S_ISDIR(status.st_mode):
            return {name: _scan(path / name) for name in sorted(os.listdir(path))}
    except FileNotFoundError as error:
        raise NotFoundError(thing=str(path)) from error
    except OSError as error:
        raise StorageError(operation="read", path=str(path), problem=error.strerror, errno=error.errno) from error
    raise UnsafePath(path=str(path), problem="it is neither a regular file nor a folder")


def commit_paths(
    repository: Repository,
    paths: tuple[str | os.PathLike[str], ...],
    options: CommitOptions,
    compress: Compress = "auto",
    progress: Progress | None = None,
) -> CommitInfo:
    """Commit files and folders under their own names.

    Raises:
        UnsafePath: a symbolic link, device or other thing that is no regular file.
        StateChanged: a file changed while it was read; nothing was committed.
    """
    tree: dict[str, Any] = {}
    for path in map(Path, paths):
        name = path.absolute().name
        if not name or name in tree:
            raise UsageError(problem=f"two paths, or none, would be called {name!r}")
        tree[name] = _scan(path)
    flat = _Gather().flat(tree)
    try:
        return commit_state(repository, flat, options, compress, progress)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(operation="read", path=error.filename, problem=error.strerror, errno=error.errno) from error
