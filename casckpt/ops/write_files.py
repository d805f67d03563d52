"""Files out of chunks: read, compared with their ids and written, window by window.

    files -> windows of up to 4 MiB -> workers: read, compare with the ids, write -> the last one at a file closes it

A window holds pieces of any files, so that one large file and many middling ones keep all workers busy alike, and
memory depends on their number only. Small files, which lie in chunks with others, are written by the calling thread:
nearly all they cost is to be made, one after the other, in one folder.

A chunk of zeros is not written, so it becomes a hole; once one was read, others of the same id are not even read.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from casckpt.errors import IntegrityError, UnsafePath
from casckpt.format.ids import ObjectId
from casckpt.format.layout import Grouped, Large, Place, Tiny
from casckpt.odb.fetch import READERS, THREADED_FROM, Want
from casckpt.odb.workers import Workers
from casckpt.ops.load import GroupTarget, LoadedComponent, Loader, Span, Target
from casckpt.ops.slabs import PAGE
from casckpt.plan.placing import PlacedFile, Placing
from casckpt.storage.below import Below, Names, make_executable
from casckpt.storage.flock import Descriptor
from casckpt.storage.libc import begin_writing, can_flush_all, flush_all, is_zero
from casckpt.storage.pages import pages

WINDOW_BYTES = 4 << 20
"""Of a window; at least twice the longest chunk."""

SYNCED_EACH_MAX = 32
"""Most files and folders that are made durable one by one. More of them are, with all else that waits for that file
system, by one call: 5 000 files of 20 kB took 1.5 s one by one and 0.9 s so, on a disk that flushes in no time."""

BEGUN_FROM = 1 << 20
"""The disk is told to begin with writes of this length and more while others are still read: 512 MB were durable after
0.21 s so, and after 0.34 s where the flush began it all."""

_ZEROS_MAX = 256
_NOTHING = memoryview(b"")

File = PlacedFile[LoadedComponent]


def write_files(
    loader: Loader, placing: Placing[LoadedComponent], top: int, threads: int, advance: Callable[[int], None]
) -> None:
    """Make all files, folders and links durably.

    Args:
        top: an open folder that is empty, or the open file that is all there is to write.
        advance: called with the plain bytes done since the last call.

    Raises:
        DamagedLeaf: stored bytes are wrong or missing.
        UnsafePath: the file system takes two names for one.
        OSError: as the system says. What was written so far is there.
    """
    each = len(placing.files) + len(placing.folders) <= SYNCED_EACH_MAX or not can_flush_all()
    with Below(top) as below:
        writer = _Writer(loader, below if placing.is_folder else None, top, advance, sync=each)
        for names in placing.folders:
            with _named(names):
                below.make_folder(names)
        writer.write_small(placing.files)
        writer.write_large(placing.files, threads)
        for names, target in placing.links:
            with _named(names):
                below.link(names, target)
        if not each:
            flush_all(top)
        elif placing.is_folder:
            for names in (*reversed(placing.folders), ()):
                below.sync_folder(names)


@contextmanager
def _named(names: Names) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        problem = "the file system of the target takes its name for that of another"
        raise UnsafePath(path=os.fsdecode(b"/".join(names)), problem=problem) from error


def _write_at(fd: int, data: list[memoryview], offset: int) -> None:
    """Write all of the views, one after the other, from `offset` on."""
    left = [view for view in data if view]
    start = offset
    while left:
        count = os.pwritev(fd, left, offset)
        offset += count
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if count:
            left[0] = left[0][count:]
    if offset - start >= BEGUN_FROM:
        begin_writing(fd, start, offset - start)


def _blob(file: File) -> int:
    """The number of a file's blob, which must be there.

    Raises:
        IntegrityError: there is none of that number.
    """
    blob = file.leaf.blob
    if blob is None or blob >= len(file.owner.structure.sizes):
        raise IntegrityError(object=file.leaf.path, problem=f"it has bytes in blob {blob}, and there is none")
    return blob


def file_size(file: File) -> int:
    """The length of a file in bytes."""
    return 0 if file.leaf.blob is None else file.owner.structure.sizes[_blob(file)]


def _place(file: File) -> Place | None:
    """Where the bytes of a file are, None if it is empty."""
    return None if file.leaf.blob is None else file.owner.places[_blob(file)]


class _Growing:
    """A file that several workers write to. Who releases it last makes it durable, if it is to be, and closes it."""

    def __init__(self, descriptor: Descriptor, *, sync: bool) -> None:
        self.descriptor = descriptor
        self._sync = sync
        self._holders = 1
        self._mutex = threading.Lock()

    def hold(self) -> None:
        """Keep it open until one more `release`."""
        with self._mutex:
            self._holders += 1

    def release(self) -> None:
        """Take back a `hold`, or the one that it was born with."""
        with self._mutex:
            self._holders -= 1
            if self._holders:
                return
        if self._sync:
            os.fsync(self.descriptor.fd)
        self.descriptor.close()


class _Piece(NamedTuple):
    """A chunk in a window, and where it goes in a file."""

    want: Want
    file: _Growing
    offset: int


class _Window:
    """Memory for chunks on their way to files."""

    def __init__(self) -> None:
        self.memory = memoryview(pages(WINDOW_BYTES))
        self.pieces: list[_Piece] = []
        self._end = 0

    def take(self, nbytes: int) -> int | None:
        """Where there is room for so many bytes and what pads them to a page; None if there is none left."""
        at, end = self._end, self._end + nbytes + -nbytes % PAGE
        if end > len(self.memory):
            return None
        self._end = end
        return at

    def clear(self) -> None:
        """Make it empty."""
        self.pieces = []
        self._end = 0


class _Lane:
    """Windows on their way: one is filled by the calling thread while the workers empty others."""

    def __init__(
        self, workers: Workers[None], count: int, empty: Callable[[_Window], None], advance: Callable[[int], None]
    ) -> None:
        self._workers, self._count = workers, count
        self._empty, self._advance = empty, advance
        self._running: deque[tuple[Future[None], _Window]] = deque()
        self._window = _Window()

    def put(self, span: Span, owner: Target, file: _Growing) -> None:
        """Let a chunk be written."""
        at = self._window.take(span.length)
        if at is None:
            self._hand_over()
            at = self._window.take(span.length)
            assert at is not None
        file.hold()
        want = Want(span.chunk, span.length, self._window.memory, at, owner, slack=True)
        self._window.pieces.append(_Piece(want, file, span.offset))

    def finish(self) -> None:
        """Wait for all of it."""
        self._hand_over()
        while self._running:
            self._take_oldest()

    def _hand_over(self) -> None:
        self._running.append((self._workers.submit(partial(self._empty, self._window)), self._window))
        self._window = self._take_oldest() if len(self._running) > self._count else _Window()

    def _take_oldest(self) -> _Window:
        future, window = self._running.popleft()
        future.result()
        self._advance(sum(piece.want.length for piece in window.pieces))
        window.clear()
        return window


class _Writer:
    """Writes the files of one checkout; `below` is None if `top` is the only file."""

    def __init__(
        self, loader: Loader, below: Below | None, top: int, advance: Callable[[int], None], *, sync: bool
    ) -> None:
        self._loader, self._below, self._top = loader, below, top
        self._advance = advance
        self._sync = sync
        self._zeros: set[ObjectId] = set()

    def write_small(self, files: list[File]) -> None:
        """Write the files that are empty, tiny, or in a group with others."""
        groups: dict[tuple[int, int], list[tuple[File, Grouped]]] = {}
        for file in files:
            place = _place(file)
            if place is None:
                self._write(file, _NOTHING)
            elif isinstance(place, Tiny):
                self._write(file, memoryview(file.owner.component.tiny)[place.offset : place.offset + file_size(file)])
            elif isinstance(place, Grouped):
                groups.setdefault((id(file.owner), place.entry), []).append((file, place))
        if not groups:
            return
        window = _Window()
        batch: list[tuple[GroupTarget, list[tuple[File, Grouped]]]] = []
        for (_, entry), members in groups.items():
            file, place = members[0]
            at = window.take(place.length)
            if at is None:
                self._write_groups(batch)
                window.clear()
                batch, at = [], window.take(place.length)
                assert at is not None
            batch.append((GroupTarget(file.owner, entry, window.memory[at : at + place.length]), members))
        self._write_groups(batch)

    def _write_groups(self, batch: list[tuple[GroupTarget, list[tuple[File, Grouped]]]]) -> None:
        self._loader.fetch([target for target, _ in batch], 1)
        for target, members in batch:
            for file, place in members:
                self._write(file, target.memory[place.offset : place.offset + file_size(file)])

    def _write(self, file: File, data: memoryview) -> None:
        growing = self._create(file)
        _write_at(growing.descriptor.fd, [data], 0)
        growing.release()
        self._advance(len(data))

    def write_large(self, files: list[File], threads: int) -> None:
        """Write the files that have chunks of their own."""
        large = [file for file in files if isinstance(_place(file), Large)]
        # Without any worker, the calling thread does it.
        count = READERS * threads if threads > 1 and sum(map(file_size, large)) >= THREADED_FROM else 0
        with Workers[None](count, "casckpt-writer") as workers:
            lane = _Lane(workers, count, self._empty, self._advance)
            for file in large:
                growing = self._create(file)
                os.ftruncate(growing.descriptor.fd, file_size(file))
                blob = _blob(file)
                owner = Target(file.owner, blob, _NOTHING)
                for span in self._loader.spans(file.owner, blob):
                    if span.chunk in self._zeros:
                        self._advance(span.length)
                    else:
                        lane.put(span, owner, growing)
                growing.release()
            lane.finish()

    def _empty(self, window: _Window) -> None:
        """Read what a window is for, and write it to the files. Run by workers."""
        self._loader.read([piece.want for piece in window.pieces], 1)
        for run in self._runs(window):
            data = [window.memory[want.at : want.at + want.length] for want, _, _ in run]
            _write_at(run[0].file.descriptor.fd, data, run[0].offset)
        for piece in window.pieces:
            piece.file.release()

    def _runs(self, window: _Window) -> Iterator[list[_Piece]]:
        """What of a window is to be written, that together which lies side by side in one file."""
        run: list[_Piece] = []
        for piece in window.pieces:
            want, file, offset = piece
            if is_zero(window.memory[want.at : want.at + want.length]):
                if len(self._zeros) < _ZEROS_MAX:
                    self._zeros.add(want.chunk)
                continue
            if run and not (run[-1].file is file and run[-1].offset + run[-1].want.length == offset):
                yield run
                run = []
            run.append(piece)
        if run:
            yield run

    def _create(self, file: File) -> _Growing:
        if self._below is None:
            descriptor = Descriptor(os.dup(self._top))
            if file.leaf.value:
                make_executable(descriptor.fd)
        else:
            with _named(file.names):
                descriptor = self._below.create(file.names, executable=bool(file.leaf.value))
        return _Growing(descriptor, sync=self._sync)
