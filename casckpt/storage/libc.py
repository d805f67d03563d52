"""Calls of the C library that Python does not offer: a mapping at a chosen address, and what the page cache holds.

Loaded late, by the first large read and the first mapping, since ctypes would cost every start of the program 3 ms.
"""

from __future__ import annotations

import ctypes
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
