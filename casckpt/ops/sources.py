"""A file as the blob of a commit: its bytes, and where they are cut.

    large tensors    every 1 MiB from the tensor's own start, as in a live state, so that the chunks are the same
    all between      by content
    holes            chunks of zeros that nobody reads

The cuts follow from the content alone: a file with holes and its copy without are cut alike.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from casckpt.errors import FileChanged
from casckpt.foreign.content import cut_points
from casckpt.foreign.cuts import Tensor, tensors
from casckpt.format import chunking
from casckpt.state.flat import Cut

# A pipe that took the place of the file must not make the open wait.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_STAT_BLOCK = 512


class FileSource:
    """The bytes of a file that must not change while it is read; by several threads at once.

    Args:
        path: where it is.
        leaf: its canonical path in the commit, for errors.
        status: of the file, as it was found.
    """

    private = True

    def __init__(self, path: Path, leaf: str, status: os.stat_result) -> None:
        self._path, self._leaf = path, leaf
        self._seen = _identity(status)
        self._size = status.st_size
        self._has_holes = status.st_blocks * _STAT_BLOCK < status.st_size

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop`.

        Raises:
            FileChanged: the file is another than it was found.
        """
        # Opened for each piece: a folder may have more files than a process may have open.
        with self._opened() as descriptor:
            data = os.pread(descriptor, stop - start, start)
            self._check(descriptor)
        return memoryview(data)  # one that is cut short is noticed by whoever asked for it

    def cuts(self) -> Iterator[Cut]:
        """Where the file is cut, while it is read; it is read once more for its chunks, soon after.

        Raises:
            FileChanged: the file is another than it was found.

        Memory: the list of its large tensors, and a window of 4 MiB.
        """
        with self._opened() as descriptor:
            file = _OpenFile(descriptor, str(self._path), self._size, has_holes=self._has_holes)
            at = 0
            for tensor in (*tensors(file, chunking.SMALL), Tensor(self._size, 0, "bytes")):
                yield from self._between(file, at, tensor.offset)
                at = tensor.offset + tensor.nbytes
                yield from _grid(file, tensor)
            # Holes were not read, so nothing else would notice that one was filled meanwhile.
            self._check(descriptor)

    def _between(self, file: _OpenFile, start: int, stop: int) -> Iterator[Cut]:
        def fill(offset: int, memory: memoryview) -> None:
            if os.preadv(file.descriptor, [memory], offset) != len(memory):
                raise FileChanged(path=self._leaf)

        for cut in cut_points(fill, start, stop, file.data_from):
            yield Cut(cut.stop, "bytes", cut.stop == stop, cut.is_hole)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._path, _FLAGS)
        try:
            self._check(descriptor)  # a pipe, say, cannot be read at an offset
            yield descriptor
        finally:
            os.close(descriptor)

    def _check(self, descriptor: int) -> None:
        if _identity(os.fstat(descriptor)) != self._seen:
            raise FileChanged(path=self._leaf)


class _OpenFile:
    """An open file for the parsers, and its holes. Used by one thread.

    Args:
        has_holes: whether it takes less room than its length. Only then is the system asked where the holes are.
    """

    def __init__(self, descriptor: int, name: str, size: int, *, has_holes: bool) -> None:
        self.descriptor = descriptor
        self.name = name
        self.size = size
        self._has_holes = has_holes

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, min(length, max(0, self.size - offset)), offset)

    def data_from(self, offset: int) -> int:
        """The least offset, from this one on, that is not in a hole; the size of the file if there is none."""
        if _SEEK_DATA is None or not self._has_holes:
            return offset
        try:
            return os.lseek(self.descriptor, offset, _SEEK_DATA)
        except OSError as error:
            # Where holes cannot be asked for, everything is data.
            return self.size if error.errno == errno.ENXIO else offset


def _grid(file: _OpenFile, tensor: Tensor) -> Iterator[Cut]:
    """The cuts of a tensor: fixed, from its own start."""
    end = tensor.offset + tensor.nbytes
    at = tensor.offset
    while at < end:
        hole = min(file.data_from(at), end) - at
        is_hole = hole >= chunking.CHUNK
        at = at + hole - hole % chunking.CHUNK if is_hole else min(at + chunking.CHUNK, end)
        yield Cut(at, tensor.element, at == end, is_hole)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
