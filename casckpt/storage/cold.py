"""Large reads of a file: from the page cache what is there, past it what is not.

A buffered read of a cold file reaches a third of the disk's speed and costs 20 times the CPU of O_DIRECT, a direct
read of a warm one goes to the disk for nothing; so each step of a read asks first. `mincore` over a mapping that
nobody touches answers without side effects. A read with RWF_NOWAIT would need no second question, but where it finds
nothing it starts the read-ahead of all it was asked for: the disk then reads everything twice. Only a few pages per
step are asked for, since asking for all costs a tenth of the copying; a wrong guess costs time, never bytes.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref

from casckpt.storage.flock import Descriptor
from casckpt.storage.libc import PROT_NONE, USABLE, address_of, copy_memory, map_memory, page_is_resident, unmap_memory
from casckpt.storage.pages import pages

_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_BLOCK = 4096
_STEP = 8 << 20
_DETOUR = 2 << 20
_PROBE_EVERY = 1 << 20
_REFUSALS = frozenset({errno.EINVAL, errno.ENOTSUP})
_detours = threading.local()


class ColdReads:
    """A second way to read an open file; safe to use from several threads. The descriptor stays the caller's.

    Raises:
        OSError: the file system has no O_DIRECT, or the file cannot be mapped.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self._buffered = descriptor
        self._size = os.fstat(descriptor.fd).st_size
        # Not by its name, which may be gone or another's. The flag cannot be set on the descriptor there is, nor on a
        # copy of it: copies share their flags.
        name = f"/proc/self/fd/{descriptor.fd}"
        self._direct = Descriptor(os.open(name, os.O_RDONLY | os.O_CLOEXEC | _O_DIRECT))
        self._window = map_memory(None, self._size, PROT_NONE, mmap.MAP_SHARED, descriptor.fd, 0)
        self._unmap = weakref.finalize(self, unmap_memory, self._window, self._size)
        self._unmap.atexit = False
        self._refused = False

    def close(self) -> None:
        """Give back what the constructor took; closing twice is harmless."""
        self._direct.close()
        self._unmap()

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill the whole blocks of `target` from `offset`; the count read. The rest is to be read buffered.

        The count is less than that at the end of the file, and 0 if the offset is not on a block boundary. What is
        read past the page cache into memory that is not on one takes a detour, at the price of a copy.
        """
        if self._refused or offset % _BLOCK:
            return 0
        aligned = address_of(target) % _BLOCK == 0
        step = _STEP if aligned else _DETOUR
        done, body = 0, len(target) - len(target) % _BLOCK
        while done < body and not done % _BLOCK:
            part = target[done : min(done + step, body)]
            try:
                count = self._read(part, offset + done, aligned)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                self._refused = True  # it opens with O_DIRECT and cannot do it, or only in larger blocks
                break
            if count == 0:
                break
            done += count
        return done

    def _read(self, part: memoryview, offset: int, aligned: bool) -> int:
        descriptor = self._descriptor_for(offset, len(part))
        if aligned or descriptor is self._buffered:
            return os.preadv(descriptor.fd, [part], offset)
        if not hasattr(_detours, "memory"):
            _detours.memory = memoryview(pages(_DETOUR))
        detour: memoryview = _detours.memory
        count = os.preadv(descriptor.fd, [detour[: len(part)]], offset)
        copy_memory(address_of(part), address_of(detour), count)
        return count

    def _descriptor_for(self, offset: int, nbytes: int) -> Descriptor:
        """Where to read this range; the page cache for what was appended since the file was opened."""
        # From the end back: where the page cache ends inside a range, a buffered read would start the read-ahead, which
        # then makes the next range look warm, and so on to the end of the file.
        for at in range(min(offset + nbytes, self._size) - 1, offset - 1, -_PROBE_EVERY):
            if not page_is_resident(self._window + at - at % mmap.PAGESIZE):
                return self._direct
        return self._buffered


def open_cold(descriptor: Descriptor) -> ColdReads | None:
    """The second way to read an open file, None where there is none."""
    if not (_O_DIRECT and USABLE):
        return None
    try:
        return ColdReads(descriptor)
    except OSError:
        return None
