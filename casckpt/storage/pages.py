"""Private memory in whole pages: for staging what is written and for what a checkout hands out."""

from __future__ import annotations

import contextlib
import mmap

# Smaller memory holds no whole huge page on most systems.
_HUGE_FROM = 2 << 20


def pages(nbytes: int) -> mmap.mmap:
    """`nbytes` (at least 1) of zeroed memory of this process alone, aligned to pages, given back when unused.

    On huge pages where the system has them: touching small pages for the first time costs more than hashing what
    goes into them. Python's default mapping is shared, which is never on huge pages and slow to pin for O_DIRECT.
    """
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= _HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
