"""What the bare machine does with the same bytes: hashing, copying, writing, reading. No store can be faster."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import blake3
import numpy as np

PIECE = 1 << 20
TASK = 8 << 20
BLOCK = 4096


def memory(nbytes: int) -> mmap.mmap:
    """Private anonymous memory on huge pages, touched. Python's default would be shared memory, on small pages."""
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    for start in range(0, nbytes, BLOCK):
        pages[start] = 1
    return pages


def wake(nbytes: int) -> None:
    """Touch half as much again of the free memory and give it back.

    A virtual machine hands free memory to its host; the first touch after that costs several times what it costs
    otherwise, and which case meets it is chance. What was just given back is taken first by the next who asks.
    """
    memory(nbytes + nbytes // 2).close()


def _tasks(nbytes: int) -> Iterator[slice]:
    return (slice(start, min(start + TASK, nbytes)) for start in range(0, nbytes, TASK))


def _run(work: Sequence[tuple[object, ...]], function: object, threads: int) -> None:
    if threads == 1:
        for arguments in work:
            function(*arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(function, *arguments) for arguments in work]:
            future.result()


def _hash(view: memoryview) -> None:
    for start in range(0, len(view), PIECE):
        blake3.blake3(view[start : start + PIECE]).digest()


def hash_all(views: list[memoryview], threads: int) -> None:
    """BLAKE3 of every 1 MiB piece, in tasks of 8 MiB."""
    _run([(view[part],) for view in views for part in _tasks(len(view))], _hash, threads)


def copy_all(pairs: list[tuple[memoryview, memoryview]], threads: int) -> None:
    """Copy each (target, source), in tasks of 8 MiB."""
    work = []
    for target, source in pairs:
        to, of = np.frombuffer(target, np.uint8), np.frombuffer(source, np.uint8)
        work += [(to[part], of[part]) for part in _tasks(len(of))]
    _run(work, np.copyto, threads)


def takes_direct(folder: Path) -> bool:
    """Whether the file system of a folder knows O_DIRECT (tmpfs does not)."""
    probe = folder / "probe"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def write_all(path: Path, nbytes: int, source: mmap.mmap) -> None:
    """Write so many bytes (rounded up to 4 KiB) by O_DIRECT from `source`, a multiple of 8 MiB, and fdatasync."""
    view = memoryview(source)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT, 0o600)
    try:
        for start in range(0, nbytes, TASK):
            at, length = start % len(view), min(TASK, -(-(nbytes - start) // BLOCK) * BLOCK)
            if os.pwrite(descriptor, view[at : at + length], start) != length:
                raise OSError("a short write")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def read_all(path: Path, target: mmap.mmap, threads: int) -> None:
    """Read a file by O_DIRECT into `target`, 8 MiB at a time, so many reads in flight."""
    view = memoryview(target)
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)

    def read(start: int) -> None:
        # The last read asks for whole blocks and gets what is there.
        end = min(start + TASK, -(-size // BLOCK) * BLOCK)
        while start < min(end, size):
            start += os.preadv(descriptor, [view[start:end]], start)

    try:
        _run([(start,) for start in range(0, size, TASK)], read, threads)
    finally:
        os.close(descriptor)
