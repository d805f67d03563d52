"""Staging memory on its way to a file, and the thread that writes it.

New chunks are copied once, into a staging buffer, and go to the disk straight out of it: past the page cache where
the file can, since a buffer is private page-aligned memory. Writing has a thread of its own, so that the disk works
while the next buffer is filled; there is one write in flight, which is all that a disk needs.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

from casckpt.storage.base import WriteFile, write_all
from casckpt.storage.pages import pages


class Staging:
    """Private page-aligned memory. Who took it from its pool fills it, and gives it back by `release`, once."""

    def __init__(self, pool: Pool) -> None:
        self.view = memoryview(pages(pool.nbytes))
        # Weak, since the pool holds what is free: in a cycle the memory would wait for the collector.
        self._pool = weakref.ref(pool)

    def release(self) -> None:
        """Give the memory back: nobody looks at what is in it any more."""
        pool = self._pool()
        if pool is not None:
            pool.free.put(self)


class Pool:
    """So many staging buffers, made when they are first needed; untouched ones cost no memory.

    One thread takes; any thread releases, or wakes the one that waits.
    """

    def __init__(self, count: int, nbytes: int) -> None:
        self.nbytes = nbytes
        self._left = count
        self.free: SimpleQueue[Staging | None] = SimpleQueue()
        """Buffers that came back, and None for each time somebody was to be woken."""

    def try_take(self) -> Staging | None:
        """A free buffer, None if all are in use."""
        while not self.free.empty():
            found = self.free.get()
            if found is not None:
                return found
        if self._left:
            self._left -= 1
            return Staging(self)
        return None

    def wait(self) -> Staging | None:
        """The next buffer that is released, None if somebody wakes first."""
        return self.free.get()

    def wake(self) -> None:
        """Let `wait` return, now or when it is next called."""
        self.free.put(None)

    def take(self) -> Staging:
        """A buffer, as soon as one is released."""
        while (found := self.try_take() or self.wait()) is None:
            pass
        return found


class _Block(NamedTuple):
    data: memoryview
    offset: int
    release: Callable[[], None] | None


class BlockWriter:
    """Writes blocks of memory to one file in the order given, on a thread of its own.

    One thread submits. An error of the file is raised by the next call; from then on nothing is written.
    """

    def __init__(self, file: WriteFile) -> None:
        self._file = file
        self._queue: SimpleQueue[_Block | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._stopped = False

    def submit(self, data: memoryview, offset: int, release: Callable[[], None] | None = None) -> None:
        """Let `data` be written at `offset`. It must stay as it is until `release` is called, which always happens."""
        if self._error is not None or self._stopped:
            if release is not None:
                release()
            self._check()
            return
        block = _Block(data, offset, release)
        if self._thread is None and not self._start():
            self._do(block)
            self._check()
        else:
            self._queue.put(block)

    def write(self, data: memoryview, offset: int) -> None:
        """Write `data` after everything submitted, and return when all of it is written."""
        self.end()
        write_all(self._file, data, offset)

    def end(self) -> None:
        """Wait until everything submitted is written.

        Raises:
            StorageError: the disk failed or is full.
        """
        self._join()
        self._check()

    def stop(self) -> None:
        """Give up what is not written yet, and return when the file is at rest. Raises nothing of the file."""
        self._stopped = True
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            # A join that an interrupt broke off may take a thread that still runs for ended; this event does not.
            self._ended.wait()
            self._thread.join()
            self._thread = None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _start(self) -> bool:
        self._ended.clear()
        thread = threading.Thread(target=self._run, name="casckpt-writer", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:  # no more threads to be had: the caller writes
            return False
        except BaseException:  # an interrupt may come when the thread runs already: nobody will wait for it
            self._queue.put(None)
            raise
        return True

    def _run(self) -> None:
        more = True
        while more:
            try:
                more = self._next()
            # Out of memory even to take a block or give it back. The thread must live on to release the others, and
            # its silent end would be taken for a success: a pack with a hole.
            except BaseException as error:
                self._error = error
        self._ended.set()

    def _next(self) -> bool:
        block = self._queue.get()
        if block is not None:
            self._do(block)
        return block is not None

    def _do(self, block: _Block) -> None:
        try:
            if self._error is None and not self._stopped:
                write_all(self._file, block.data, block.offset)
        # Also what is no Exception: the thread that waits must learn of it, and the block must be released.
        except BaseException as error:
            self._error = error
        finally:
            if block.release is not None:
                block.release()
