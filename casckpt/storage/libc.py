"""Calls of the C library that Python does not offer: mappings at chosen addresses, what the page cache holds, renames
that swap or spare what is there, and flushes of a whole file system.

Loaded late, by those who call it, since ctypes would cost every start of the program 3 ms.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

# The same numbers on Linux and macOS; Python's mmap names neither.
PROT_NONE = 0
MAP_FIXED = 0x10

_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_OneByte = ctypes.c_ubyte * 1

# With a 32-bit long, `mmap` takes 32-bit file offsets, which would wrap around silently.
USABLE = sys.platform in {"linux", "darwin"} and ctypes.sizeof(ctypes.c_long) == 8
"""Whether the calls below do what they say here."""

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
_SYNC_FILE_RANGE_WRITE = 2

if USABLE:
    _mmap = _libc.mmap
    _mmap.restype = ctypes.c_void_p
    _mmap.argtypes = [
        *(ctypes.c_void_p, ctypes.c_size_t),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
    ]
    _munmap = _libc.munmap
    _munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    # Unlike an assignment to a memoryview, this lets other threads run.
    _memmove = _libc.memmove
    _memmove.restype = None
    _memmove.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    # Asked before every large read for less than a microsecond; to let other threads run meanwhile would cost more.
    _mincore = ctypes.PyDLL(None).mincore
    _mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]

_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_renameat2 = getattr(_libc, "renameat2", None) if USABLE else None
if _renameat2 is not None:
    _renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_syncfs = getattr(_libc, "syncfs", None) if USABLE else None
_sync_file_range = getattr(_libc, "sync_file_range", None) if USABLE else None
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def map_memory(address: int | None, nbytes: int, protection: int, flags: int, fd: int, offset: int) -> int:
    """The address of a new mapping, as `mmap(2)`; what MAP_FIXED covers at `address` is gone even if it fails.

    Raises:
        OSError: as the system says.
    """
    found = _mmap(address, nbytes, protection, flags, fd, offset)
    if found == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found or 0)


def unmap_memory(address: int, nbytes: int) -> None:
    """Give a mapping of `map_memory` back."""
    _munmap(address, nbytes)


def page_is_resident(address: int) -> bool:
    """Whether the page at `address`, a multiple of the page size inside a mapping, is in memory, untouched."""
    state = _OneByte()
    return _mincore(address, 1, state) == 0 and state[0] & 1 == 1


def copy_memory(target: int, source: int, nbytes: int) -> None:
    """Copy bytes from one address to another."""
    _memmove(target, source, nbytes)


def address_of(memory: memoryview) -> int:
    """Where the bytes of a writable, contiguous view begin."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def is_zero(memory: memoryview) -> bool:
    """Whether all bytes of a writable, contiguous view are zero. Stops at the first that is not."""
    # Compared with itself, one byte further: if the first is zero, so are all.
    return not memory or (memory[0] == 0 and _memcmp(address := address_of(memory), address + 1, len(memory) - 1) == 0)


def rename_with(flags: int, folder: int, source: bytes, target: bytes) -> None:
    """Rename inside an open folder, as `renameat2(2)`: RENAME_NOREPLACE spares what is there, RENAME_EXCHANGE swaps.

    Raises:
        OSError: as the system says; ENOSYS or EINVAL where the system or the file system cannot do it.
    """
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(folder, source, folder, target, flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def begin_writing(fd: int, offset: int, nbytes: int) -> None:
    """Let the disk begin with these bytes of a file, where the system can; says nothing about their durability."""
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, nbytes, _SYNC_FILE_RANGE_WRITE)


def can_flush_all() -> bool:
    """Whether `flush_all` is there and reports what could not be written: Linux does since 5.8."""
    if _syncfs is None:
        return False
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= (5, 8)


def flush_all(fd: int) -> None:
    """Make everything durable that was written to the file system of an open file, by whomever.

    Raises:
        OSError: something could not be written since the file was opened.
    """
    if _syncfs is None or _syncfs(fd):
        code = ctypes.get_errno() or errno.ENOSYS
        raise OSError(code, os.strerror(code))
