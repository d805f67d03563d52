"""Staging: a private copy of a flat state's memory, so that the caller may go on while it is committed.

    source's memory --copy, all threads, 8 MiB at a time--> arena --> a flat state that reads from there

An arena is one range of private anonymous memory that is used again by later commits: fresh pages cost two to five
times the copy itself. Blobs lie in it in the order of the state, each on a boundary of 64 bytes. Nodes, values and
immutable bytes of a flat state are its own already and are not copied. Memory of other devices is copied by the
calling thread, whose current stream orders it after the work that fills it, straight into page-locked pages.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from casckpt.odb.workers import Workers
from casckpt.state.flat import FlatComponent, FlatState, Source
from casckpt.state.held import HeldBlobs
from casckpt.state.join import move
from casckpt.state.memory import BytesSource, RangeSource, StridedSource

if TYPE_CHECKING:
    import numpy as np

    from casckpt.state.tensors import TensorSource

    Pages = np.ndarray[Any, np.dtype[np.uint8]]

PIECE_BYTES = 8 << 20
"""What one thread copies at a time: about a millisecond, so that a stop is quick and the threads end together."""
SMALL_BYTES = 256 << 10
"""Blobs below are copied by one thread: between copies this short, threads would only wait for the interpreter."""
SPREAD_BYTES = 16 << 20
"""Less than this is copied before another thread has started."""

_ALIGNMENT = 64
_HUGE_PAGE = 2 << 20
_MADV_WIPEONFORK = 18  # of Linux; Python 3.11 does not name it


class Arena:
    """Memory that stagings use one after the other. Not thread-safe: whoever stages has it to himself.

    What was staged keeps the memory alive, so releasing the arena under a reader harms nobody.
    """

    def __init__(self) -> None:
        self._pages: Pages | None = None
        self._locked = False
        self._unlock: weakref.finalize[..., Any] | None = None

    @property
    def nbytes(self) -> int:
        """Length of the memory it has now."""
        return 0 if self._pages is None else self._pages.nbytes

    def reserve(self, nbytes: int, *, locked: bool = False) -> Pages:
        """Memory of `nbytes` bytes or more, with any content; on a page boundary.

        Args:
            locked: page-locked, where a device can copy into it by itself.
        """
        pages = self._pages
        if pages is None or pages.nbytes < nbytes or (locked and not self._locked):
            pages = None
            self.release()  # first, so that the old memory and the new are never there together
            pages = self._pages = _map(nbytes)
            if locked:
                from casckpt.state import tensors

                self._locked = True
                unlock = tensors.page_lock(pages.ctypes.data, pages.nbytes)
                self._unlock = weakref.finalize(self, _unlock, unlock, os.getpid())
                self._unlock.atexit = False
        return pages

    def release(self) -> None:
        """Give the memory back, as soon as nobody reads it any more."""
        if self._unlock is not None:
            self._unlock()
        self._pages, self._locked, self._unlock = None, False, None


def _unlock(unlock: Callable[[], object], pid: int) -> None:
    if os.getpid() == pid:  # CUDA does not survive a fork, nor do the locks
        unlock()


def _map(nbytes: int) -> Pages:
    import numpy as np

    # An eighth more, so that a state that grows a little stays where it is; pages never touched take no memory.
    length = -(-(nbytes + nbytes // 8) // _HUGE_PAGE) * _HUGE_PAGE
    memory = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in (getattr(mmap, "MADV_HUGEPAGE", None), _MADV_WIPEONFORK if sys.platform == "linux" else None):
        # A forked child, a loader of batches say, must not make the next staging copy every page.
        if advice is not None:
            with contextlib.suppress(OSError):
                memory.madvise(advice)
    return np.frombuffer(memory, np.uint8)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A source and where its copy goes."""

    source: Source
    offset: int
    nbytes: int

    def pieces(self) -> Iterator[tuple[_Placed, int, int]]:
        for start in range(0, self.nbytes, PIECE_BYTES):
            yield self, start, min(start + PIECE_BYTES, self.nbytes)


def stage(flat: FlatState, arena: Arena, threads: int) -> FlatState:
    """An equal flat state that reads from the arena and keeps nothing of the caller's memory.

    Blobs with the same source have the same source again.

    Cost: one copy by at most `threads` threads; one allocation of the size of the state if the arena is too small.
    """
    components = (flat.root, *flat.components)
    placed: dict[int, _Placed] = {}
    end = 0
    for blob in (blob for component in components for blob in component.blobs):
        if id(blob.source) not in placed and not _is_immutable(blob.source):
            placed[id(blob.source)] = _Placed(blob.source, end, blob.nbytes)
            end += -(-blob.nbytes // _ALIGNMENT) * _ALIGNMENT
    if not placed:
        return flat
    pages = arena.reserve(end, locked=any(_is_device(one.source) for one in placed.values()))
    _copy(placed.values(), pages, threads)
    address = pages.ctypes.data
    copies = {key: RangeSource(pages, address + one.offset) for key, one in placed.items()}
    staged = [_moved(component, copies) for component in components]
    return FlatState(staged[0], tuple(staged[1:]), flat.links)


def _moved(component: FlatComponent, copies: dict[int, RangeSource]) -> FlatComponent:
    sources = [copies.get(id(blob.source), blob.source) for blob in component.blobs]
    addresses = [source.address if isinstance(source, RangeSource) else 0 for source in sources]
    blobs = HeldBlobs(component.schema, [], addresses, [], dict(enumerate(sources)))
    return replace(component, blobs=blobs)


def _is_immutable(source: Source) -> bool:
    return isinstance(source, BytesSource) and type(source.data) is bytes


def _is_plain(source: Source) -> bool:
    """Whether any thread may read it: memory of the CPU, without a library that has streams of its own."""
    return isinstance(source, (BytesSource, RangeSource, StridedSource))


def _as_tensor(source: Source) -> TensorSource | None:
    # Where no tensor was ever looked at there is none, and torch stays out.
    tensors = sys.modules.get("casckpt.state.tensors")
    return source if tensors is not None and isinstance(source, tensors.TensorSource) else None


def _is_device(source: Source) -> bool:
    tensor = _as_tensor(source)
    return tensor is not None and not tensor.tensor.is_cpu


def _copy(placed: Iterable[_Placed], pages: Pages, most: int) -> None:
    """Copy every source to its place."""
    large: list[_Placed] = []
    small: list[_Placed] = []
    foreign: list[_Placed] = []
    for one in placed:
        kind = foreign if not _is_plain(one.source) else small if one.nbytes < SMALL_BYTES else large
        kind.append(one)
    pieces = deque(piece for one in large for piece in one.pieces())
    spread = sum(one.nbytes for one in large) > SPREAD_BYTES
    threads = min(most, len(pieces)) if spread else 1
    with Workers[None](threads - 1, "casckpt-staging") as workers:
        try:
            others = [workers.submit(partial(_copy_pieces, pieces, pages)) for _ in range(threads - 1)]
            for one in foreign:
                _copy_foreign(one, pages)
            _copy_pieces(pieces, pages)
            for other in others:
                other.result()
        finally:
            pieces.clear()  # let nobody begin another one
    # When the threads have ended: meanwhile the short ones would wait for them at every step.
    _copy_small(small, pages)


def _copy_pieces(pieces: deque[tuple[_Placed, int, int]], pages: Pages) -> None:
    """Copy pieces that nobody has taken until there are none."""
    while True:
        try:
            piece = pieces.popleft()
        except IndexError:
            return
        _copy_piece(*piece, pages)


def _copy_small(placed: Iterable[_Placed], pages: Pages) -> None:
    address, memory = pages.ctypes.data, pages.data
    plain = [(one, one.source) for one in placed]
    ranges = [
        (address + one.offset, source.address, one.nbytes) for one, source in plain if type(source) is RangeSource
    ]
    move(ranges)
    for one, source in plain:
        if type(source) is not RangeSource:
            memory[one.offset : one.offset + one.nbytes] = source.read(0, one.nbytes)


def _copy_foreign(one: _Placed, pages: Pages) -> None:
    tensor = _as_tensor(one.source)
    for _, start, stop in one.pieces():
        if tensor is None:
            _copy_piece(one, start, stop, pages)
        else:
            from casckpt.state import tensors

            tensors.read_into(tensor, start, stop, pages.data[one.offset + start : one.offset + stop])


def _copy_piece(one: _Placed, start: int, stop: int, pages: Pages) -> None:
    import numpy as np

    # Unlike an assignment to a memoryview, this lets other threads run.
    np.copyto(pages[one.offset + start : one.offset + stop], np.frombuffer(one.source.read(start, stop), np.uint8))
