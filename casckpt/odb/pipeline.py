"""The chunks of large blobs on their way into a session: read, hashed, looked up and staged by several threads.

    pieces -> tasks of up to 8 MiB -> workers: hash, look up, stage what is new -> window, in order -> pack writer

Each task in flight owns one staging buffer, so the number of buffers bounds the window and the memory, whatever the
size of the state; buffers of tasks without anything new are never touched. Results are taken in the order of the
pieces, so ids and errors do not depend on which worker was faster. Of equal new chunks in tasks at work together
either may be the one that is stored; without such chunks the bytes of the packs do not depend on it either.

What is stored is a private copy, and that copy is what its id was made of: when somebody writes to the memory between
the look and the copy, nothing wrong is stored. Hashing the copy alone is enough while everything is new; so a worker
copies first as long as the chunk before was new, and hashes the memory itself first when it was known. A task begins
as the last one whose result was taken ended: that depends on how fast the workers are, but only the order of work does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np

from casckpt.errors import StateChanged
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.finite import UNSCANNED, Scan, is_sound, scan_of
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.odb.staging import Pool, Staging
from casckpt.odb.workers import Workers

TASK_BYTES = 8 << 20


class Piece(NamedTuple):
    """A run of plain bytes that becomes one chunk: `read(start, stop)`, 1 byte to 1 MiB."""

    read: Callable[[int, int], memoryview]
    start: int
    stop: int
    element: int
    path: str
    """Of the leaf, for errors."""
    private: bool
    """Whether `read` returns memory that nobody else writes to."""
    ends_leaf: bool


class Run(NamedTuple):
    """New records of one leaf that lie in [start, stop) of a staging buffer; their offsets are in the buffer."""

    start: int
    stop: int
    records: list[p.Record]
    ends_leaf: bool


class Staged(NamedTuple):
    """What a task found: the ids of all its pieces joined, and what of them is new."""

    ids: bytes
    runs: list[Run]
    staging: Staging
    nbytes: int
    """Plain bytes of all pieces."""
    ends_new: bool
    """Whether the last piece was new."""
    unsound: tuple[int, ...] = ()
    """Which of its pieces, counted from 0, hold NaN or infinities."""


class Drained(NamedTuple):
    """What became of pieces: their ids joined in order, and which of them, counted from 0, hold NaN or infinities."""

    ids: bytes
    unsound: list[int]


class Coder(Protocol):
    """How a new chunk is stored. One per worker."""

    def pays(self, plain: memoryview, element: int) -> bool:
        """Whether a leaf of which this is a chunk should be encoded."""

    def code(self, plain: memoryview, element: int, *, encoded: bool) -> tuple[int, memoryview | bytes, int]:
        """(codec, stored bytes, flags) of a chunk; the stored bytes are `plain` itself if it stays raw."""


class RawCoder:
    """Stores chunks as they are, unscanned."""

    def pays(self, plain: memoryview, element: int) -> bool:
        """Never."""
        return False

    def code(self, plain: memoryview, element: int, *, encoded: bool) -> tuple[int, memoryview | bytes, int]:
        """The chunk itself."""
        return Codec.RAW, plain, UNSCANNED


class Sink(Protocol):
    """Where staged chunks go: the session."""

    def claim_chunk(self, identity: ObjectId, length: int) -> Scan | None:
        """None if a chunk is neither stored nor claimed yet: the caller has claimed it then. Else what is known of it.

        Thread-safe.
        """

    def take_staged(self, staged: Staged) -> None:
        """Store what is new and release the buffer. Called in order, by one thread."""


class Pipeline:
    """Tasks in flight of one session. One thread feeds it; a context manager that leaves no worker behind.

    Args:
        threads: workers; with 1 all work is done by the thread that feeds.
        coder: makes what encodes new chunks, once for each worker.
        advance: called by the thread that feeds with the plain bytes done since the last call; what it raises ends
            the work.
    """

    def __init__(
        self,
        sink: Sink,
        threads: int,
        coder: Callable[[], Coder] = RawCoder,
        advance: Callable[[int], object] = bool,
    ) -> None:
        self._sink = sink
        self._threads = threads
        self._new_coder = coder
        self._advance = advance
        self._local = threading.local()
        # For every worker one, one being written and, while memory allows, one waiting to be.
        self._pool = Pool(max(threads + 1, min(threads + 2, 5)), TASK_BYTES)
        self._workers: Workers[Staged] = Workers(threads, "casckpt-worker")
        self._window: deque[Future[Staged]] = deque()
        self._pieces: list[Piece] = []
        self._filled = 0
        self._ids = bytearray()
        self._unsound: list[int] = []
        # At first a look costs a hash where it was needless, a copy would cost fresh staging memory.
        self._expect_new = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def add(self, piece: Piece) -> None:
        """Put the chunk of one piece, after those before.

        Raises:
            StateChanged: another thread wrote to the memory meanwhile.
        """
        size = piece.stop - piece.start
        size += p.pad(size)
        if self._filled + size > TASK_BYTES:
            self._submit()
        self._pieces.append(piece)
        self._filled += size

    def drain(self) -> Drained:
        """Wait for everything added since the last call, and tell what became of it."""
        self._submit()
        while self._window:
            self._take_oldest()
        drained = Drained(bytes(self._ids), self._unsound)
        self._ids, self._unsound = bytearray(), []
        return drained

    def _submit(self) -> None:
        pieces, self._pieces, self._filled = self._pieces, [], 0
        if not pieces:
            return
        staging = self._free_buffer()
        if self._threads == 1:
            self._take(self._work(pieces, staging, self._expect_new))
            return
        future = self._workers.submit(partial(self._work, pieces, staging, self._expect_new))
        future.add_done_callback(lambda _: self._pool.wake())
        self._window.append(future)

    def _work(self, pieces: list[Piece], staging: Staging, expect_new: bool) -> Staged:
        """One task, in whichever thread."""
        if not hasattr(self._local, "coder"):
            self._local.coder = self._new_coder()
        return _Task(self._sink, self._local.coder, staging, expect_new).run(pieces)

    def _free_buffer(self) -> Staging:
        """A buffer, as soon as there is one. Results that are there meanwhile go on to the disk."""
        while True:
            self._take_done()
            staging = self._pool.try_take()
            # A task that ended before this look may have been told to `try_take`; a later one will be to `wait`.
            if staging is None and not (self._window and self._window[0].done()):
                staging = self._pool.wait()
            if staging is not None:
                return staging

    def _take_done(self) -> None:
        while self._window and self._window[0].done():
            self._take_oldest()

    def _take_oldest(self) -> None:
        self._take(self._window.popleft().result())

    def _take(self, staged: Staged) -> None:
        before = len(self._ids) // 32
        self._unsound += [before + number for number in staged.unsound]
        self._ids += staged.ids
        self._expect_new = staged.ends_new
        self._sink.take_staged(staged)
        self._advance(staged.nbytes)


class _Task:
    """One task at work: what of its pieces is new goes into the staging buffer, as a pack wants it.

    Leaves and records of 64 KiB and more start on 4 KiB, others on 64 bytes, with zeros between.
    """

    def __init__(self, sink: Sink, coder: Coder, staging: Staging, expect_new: bool) -> None:
        self._sink = sink
        self._coder = coder
        self._staging = staging
        self._memory = np.frombuffer(staging.view, np.uint8)
        self._end = 0
        self._runs: list[Run] = []
        self._begin = 0
        self._records: list[p.Record] = []
        self._copy_first = expect_new
        self._sound = True  # the piece at work
        self._encoded: bool | None = None  # not decided for this leaf; by task, so that it does not depend on threads

    def run(self, pieces: list[Piece]) -> Staged:
        """Do the work."""
        ids, unsound = [], []
        for number, piece in enumerate(pieces):
            ids.append(self._piece(piece))
            if not self._sound:
                unsound.append(number)
            if piece.ends_leaf:
                self._end_run(ends_leaf=True)
                self._encoded = None
        if self._records:
            self._end_run(ends_leaf=False)
        nbytes = sum([piece.stop - piece.start for piece in pieces])
        return Staged(b"".join(ids), self._runs, self._staging, nbytes, self._copy_first, tuple(unsound))

    def _piece(self, piece: Piece) -> ObjectId:
        at = self._end + p.pad(self._end)
        identity, new = self._stage(piece, at)
        # Memory that `read` made is given back by now: encoding takes as much again.
        if new:
            self._keep(identity, at, piece.stop - piece.start, piece.element)
        return identity

    def _stage(self, piece: Piece, at: int) -> tuple[ObjectId, bool]:
        """The id of a piece, and whether it is new; then a private copy lies at `at`."""
        data = piece.read(piece.start, piece.stop)
        length = len(data)
        if length != piece.stop - piece.start:  # a bytearray that was cut short
            raise StateChanged(path=piece.path)
        place = self._memory[at : at + length]
        if self._copy_first:
            # numpy's copy lets other threads go on meanwhile, a memoryview's does not.
            np.copyto(place, np.frombuffer(data, np.uint8))
            identity = object_id(Kind.CHUNK, place.data)
            known = self._sink.claim_chunk(identity, length)
            self._copy_first = known is None
            if known is not None:
                self._sound = is_sound(place.data, piece.element, known)
            return identity, self._copy_first
        identity = object_id(Kind.CHUNK, data)
        known = self._sink.claim_chunk(identity, length)
        if known is not None:
            self._sound = is_sound(data, piece.element, known)
            return identity, False
        self._copy_first = True
        np.copyto(place, np.frombuffer(data, np.uint8))
        if not piece.private and object_id(Kind.CHUNK, place.data) != identity:
            raise StateChanged(path=piece.path)
        return identity, True

    def _keep(self, identity: ObjectId, at: int, length: int, element: int) -> None:
        """Make the new chunk at `at` a record, encoded if that is worth it."""
        plain = self._staging.view[at : at + length]
        if self._encoded is None:
            self._encoded = self._coder.pays(plain, element)
        codec, stored, flags = self._coder.code(plain, element, encoded=self._encoded)
        self._sound = is_sound(plain, element, scan_of(element, flags))
        if codec != Codec.RAW:
            if self._records and len(stored) < p.ALIGNED_FROM:
                at = self._end + p.pad(self._end, p.UNIT)
            np.copyto(self._memory[at : at + len(stored)], np.frombuffer(stored, np.uint8))
        if not self._records:
            self._begin = at
        self._memory[self._end : at] = 0
        self._end = at + len(stored)
        check = p.check_of(codec, identity, Kind.CHUNK, stored)
        record = p.Record(identity, at, length, len(stored), Kind.CHUNK, codec, element, flags, check)
        self._records.append(record)

    def _end_run(self, *, ends_leaf: bool) -> None:
        stop = self._end + p.pad(self._end)
        self._memory[self._end : stop] = 0
        self._end = stop
        self._runs.append(Run(self._begin if self._records else stop, stop, self._records, ends_leaf))
        self._records = []
