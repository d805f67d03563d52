"""Private memory in whole pages: for staging what is written, for transfers, and for what a checkout hands out."""

from __future__ import annotations

import contextlib
import mmap

# Smaller memory holds no whole huge page on most systems.
_HUGE_FROM = 2 << 20


def pages(nbytes: int, *, huge: bool = True) -> mmap.mmap:
    """`nbytes` (at least 1) of zeroed memory of this process alone, aligned to pages, given back when unused.

    Python's default mapping is shared, which is never on huge pages and slow to pin for O_DIRECT.

    Args:
        huge: ask for huge pages where the system has them: touching small pages for the first time costs more than
            hashing what goes into them. Not for what goes over a network, where that is little, and where a virtual
            machine that gives free memory back may pay milliseconds for each huge page that it touches anew.
    """
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge and nbytes >= _HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
