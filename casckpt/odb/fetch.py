"""Many chunks at once, from packs straight into their places: the reading side of a checkout.

    wants -> tasks of up to 8 MiB -> workers: look up, one read for what lies side by side, compare with the ids

Raw chunks that follow each other in a file and in memory are one read into their final place, and are hashed there by
the same worker. Encoded ones are read aside and decoded into place. Whatever goes wrong on this way is tried again
by `Database.read`, which knows other copies and says what is damaged.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from casckpt.errors import CasckptError, DamagedObject
from casckpt.format import limits
from casckpt.format import pack as p
from casckpt.format.codec import Codec
from casckpt.format.decode import decode, decode_into
from casckpt.format.ids import Kind, ObjectId, object_id
from casckpt.odb.database import Database
from casckpt.odb.locator import Locator, Place
from casckpt.odb.workers import Workers
from casckpt.storage.pages import pages

TASK_BYTES = 8 << 20
THREADED_FROM = 16 << 20
READERS = 2
"""Workers for each thread asked for: one waits for the disk while another hashes. Cold, a gigabyte took 0.66 s by four
on two cores and 1.18 s by two; warm, it makes no difference."""
_FIRST_DELTA = Codec.DELTA_PLANES
_SCRATCH_BYTES = limits.MAX_OBJECT_BYTES[Kind.CHUNK] + limits.MAX_STORED_EXCESS + p.BLOCK


class Want(NamedTuple):
    """A chunk, and where its plain bytes go."""

    chunk: ObjectId
    length: int
    memory: memoryview | None
    """Gets the chunk at `at`; None to verify only."""
    at: int
    owner: object
    """Whatever tells the caller whose chunk it is."""
    slack: bool = False
    """Whether what follows in `memory`, up to the next multiple of 4 KiB, may be overwritten."""
    parts: list[tuple[int, memoryview]] = []  # noqa: RUF012 - never appended to where it was not given
    """Instead of `memory`: runs of the chunk by their starts in it, and where they go."""


class ChunkLost(Exception):
    """A chunk cannot be read."""

    def __init__(self, owner: object, error: DamagedObject) -> None:
        super().__init__(owner, error)
        self.owner = owner
        self.error = error


def fetch(database: Database, wants: Iterable[Want], threads: int, done: Callable[[Sequence[Want]], None]) -> None:
    """Fill the places of all wants; every chunk is compared with its id.

    Args:
        wants: in an order in which neighbours lie together; read lazily.
        threads: cores to keep busy; with 1 all is done by the calling thread.
        done: called in this thread with the wants of a task that is complete.

    Raises:
        ChunkLost: a chunk is damaged or missing; what the places hold is then undefined. No worker is left.
    """
    fetcher = _Fetcher(database)
    if threads == 1:
        for task in _tasks(wants):
            fetcher.run(task)
            done(task)
        return
    running: deque[tuple[Future[None], list[Want]]] = deque()
    # The workers write to the caller's memory: they have ended before it gets the control back.
    readers = READERS * threads
    with Workers[None](readers, "casckpt-reader") as workers:
        for task in _tasks(wants):
            running.append((workers.submit(partial(fetcher.run, task)), task))
            if len(running) > readers:
                _take_oldest(running, done)
        while running:
            _take_oldest(running, done)


def _take_oldest(running: deque[tuple[Future[None], list[Want]]], done: Callable[[Sequence[Want]], None]) -> None:
    future, task = running.popleft()
    future.result()
    done(task)


def _tasks(wants: Iterable[Want]) -> Iterator[list[Want]]:
    task: list[Want] = []
    filled = 0
    for want in wants:
        if task and filled + want.length > TASK_BYTES:
            yield task
            task, filled = [], 0
        task.append(want)
        filled += want.length
    if task:
        yield task


class _Fetcher:
    """What the workers of one `fetch` share."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._locator = Locator(database)
        self._local = threading.local()

    def run(self, task: list[Want]) -> None:
        """Fill the places of one task."""
        found = [(want, self._locator.find(want.chunk, Kind.CHUNK, want.length)) for want in task]
        for run in runs(found):
            try:
                if self._read_run(run):
                    continue
            except (CasckptError, FileNotFoundError):
                pass
            for want, _ in run:
                self._read_slowly(want)

    def _read_run(self, run: list[tuple[Want, Place | None]]) -> bool:
        """Read wants that lie side by side; False if anything is not as it should be."""
        first, place = run[0]
        if place is None or place.row.codec >= _FIRST_DELTA:
            return False
        if place.row.codec != Codec.RAW or first.memory is None:
            return all(self._read_aside(want, at) for want, at in run if at is not None)
        if any(at is None or at.row.stored != want.length for want, at in run):
            return False
        last = run[-1][0]
        size = last.at + last.length - first.at
        room = size + p.pad(size) if last.slack else size
        file = self._database.packs.open(place.name)
        if file.read_into(first.memory[first.at : first.at + room], place.row.offset) < size:
            return False
        return all(_is(want, first.memory[want.at : want.at + want.length]) for want, _ in run)

    def _read_aside(self, want: Want, place: Place) -> bool:
        """Read one want into memory of the worker's own, and from there to its place."""
        row = place.row
        if row.stored > row.length + limits.MAX_STORED_EXCESS:
            return False
        aside = self._scratch()[: row.stored + p.pad(row.stored)]
        if self._database.packs.open(place.name).read_into(aside, row.offset) < row.stored:
            return False
        record = p.Record(want.chunk, row.offset, row.length, row.stored, row.kind, row.codec, row.element)
        if want.memory is not None:
            target = want.memory[want.at : want.at + want.length]
            decode_into(record, aside[: row.stored], target)
            return _is(want, target)
        plain = memoryview(decode(record, aside[: row.stored]))
        if not _is(want, plain):
            return False
        _place(want, plain)
        return True

    def _read_slowly(self, want: Want) -> None:
        try:
            if want.memory is not None:
                self._database.read(want.chunk, Kind.CHUNK, want.memory[want.at : want.at + want.length])
                return
            plain = memoryview(self._database.read(want.chunk, Kind.CHUNK))
        except DamagedObject as error:
            raise ChunkLost(want.owner, error) from error
        if len(plain) != want.length:
            short = want.chunk.hex()[:12]
            problem = f"it has {len(plain)} bytes, its leaf says {want.length}"
            raise ChunkLost(want.owner, DamagedObject(kind="chunk", id=short, problem=problem, location="its pack"))
        _place(want, plain)

    def _scratch(self) -> memoryview:
        if not hasattr(self._local, "scratch"):
            self._local.scratch = memoryview(pages(_SCRATCH_BYTES))
        scratch: memoryview = self._local.scratch
        return scratch


def _is(want: Want, plain: memoryview) -> bool:
    return object_id(Kind.CHUNK, plain) == want.chunk


def _place(want: Want, plain: memoryview) -> None:
    if want.memory is not None:
        want.memory[want.at : want.at + want.length] = plain
    for start, target in want.parts:
        target[:] = plain[start : start + len(target)]


def runs(found: list[tuple[Want, Place | None]]) -> Iterator[list[tuple[Want, Place | None]]]:
    """Wants and their places, those together that lie side by side in a file and in memory, raw."""
    run: list[tuple[Want, Place | None]] = []
    for item in found:
        if run and not _follows(run[-1], item):
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _follows(one: tuple[Want, Place | None], other: tuple[Want, Place | None]) -> bool:
    (want, place), (after, behind) = one, other
    return (
        place is not None
        and behind is not None
        and want.memory is not None
        and after.memory is want.memory
        and after.at == want.at + want.length
        and place.row.pack == behind.row.pack
        and place.row.codec == behind.row.codec == Codec.RAW
        and behind.row.offset == place.row.offset + place.row.stored
    )
