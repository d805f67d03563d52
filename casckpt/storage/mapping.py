"""One range of memory made of pieces of files: how a leaf is handed out without reading it.

The range is ordinary private memory, zeroed and costing nothing until it is touched, in which any run of pages can be
replaced by the pages of a file. So a leaf spread over several packs appears as one piece of memory, and what cannot be
mapped (encoded chunks, another page size, too many pieces) is simply copied into its place. Pages are copied when they
are first written, so writing never reaches a file.

Who truncates a file of which pieces are laid takes their pages away: touching them then kills the process with
SIGBUS. Packs are immutable and only ever unlinked, which mappings survive.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref

from casckpt.storage.libc import MAP_FIXED, USABLE, address_of, map_memory

PIECES_MAX = 4_096
"""How many pieces one mapping takes; pieces that follow each other in the file and in memory are one."""

# Linux allows a process 65 530 mappings, and without a free one every allocation fails; the others are the program's.
_PIECES_OF_ALL = 16_384

_WRITABLE = mmap.PROT_READ | mmap.PROT_WRITE
# A leaf may be larger than the memory of the machine: it is not reserved, as nothing is copied before it is written.
# Python names this flag from 3.13 on; elsewhere than on these machines its number differs.
_COMMON = sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"}
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000 if _COMMON else 0)

# One item for each piece in use. A list, because appending to it and cutting its end are atomic: pieces are given
# back wherever the collector runs, where a lock might already be held by the same thread.
_in_use: list[None] = []


def can_map() -> bool:
    """Whether pieces of files can be laid on this system; where not, `Mapping` is memory to be filled."""
    return USABLE


class Mapping:
    """`nbytes` (at least 1) of zeroed private memory in which pieces of files can be laid; one thread at a time.

    Attributes:
        nbytes: length of the memory.
        pieces: how many pieces it holds, as the system counts them.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._pages = mmap.mmap(-1, nbytes, flags=_ANONYMOUS)
        self._own: list[None] = []
        self._last: tuple[int, int, int, int] | None = None
        weakref.finalize(self._pages, _give_back, self._own).atexit = False

    @property
    def memory(self) -> memoryview:
        """The whole range, writable; it lives as long as any view of it, whatever becomes of this object."""
        return memoryview(self._pages)

    @property
    def pieces(self) -> int:
        return len(self._own)

    def lay(self, fd: int, offset: int, nbytes: int, at: int) -> bool:
        """Replace memory from `at` by `nbytes` of an open file from `offset`; the file may be closed afterwards.

        A piece must lie on page boundaries in the file and in memory, end on one or where the memory ends, and be
        inside the file.

        Returns:
            False, with the memory as it was or zeroed, if it is not so, if there are too many pieces, or if the
            system refuses: then the bytes are to be read into `memory` instead.

        Raises:
            ValueError: the piece is empty or outside the memory.
            OSError: the system took the memory away and does not give it back.
        """
        end = at + nbytes
        if nbytes <= 0 or at < 0 or end > self.nbytes:
            raise ValueError(f"bytes {at} to {end} are no piece of a mapping of {self.nbytes} bytes")
        aligned = not (at % mmap.PAGESIZE or offset % mmap.PAGESIZE)
        if not USABLE or not aligned or (end % mmap.PAGESIZE and end != self.nbytes):
            return False
        status = os.fstat(fd)
        if offset < 0 or offset + nbytes > status.st_size:
            return False
        here = (status.st_dev, status.st_ino, offset, at)
        if here != self._last and not self._count_piece():
            return False
        self._last = (status.st_dev, status.st_ino, offset + nbytes, end)
        return self._replace(fd, offset, nbytes, at)

    def _count_piece(self) -> bool:
        if len(self._own) >= PIECES_MAX or len(_in_use) >= _PIECES_OF_ALL:
            return False
        _in_use.append(None)
        self._own.append(None)
        return True

    def _replace(self, fd: int, offset: int, nbytes: int, at: int) -> bool:
        place = address_of(memoryview(self._pages)) + at
        try:
            map_memory(place, nbytes, _WRITABLE, mmap.MAP_PRIVATE | MAP_FIXED, fd, offset)
        except OSError:
            # The failed call may have left a hole, which would be given to somebody else.
            map_memory(place, nbytes, _WRITABLE, _ANONYMOUS | MAP_FIXED, -1, 0)
            return False
        return True


def _give_back(own: list[None]) -> None:
    if own:
        del _in_use[-len(own) :]
