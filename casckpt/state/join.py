"""The bytes of many small blobs back to back: the chunk of a group."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, starmap

from casckpt.state.flat import Blob
from casckpt.state.held import HeldBlobs

# Through the interpreter's own library, which keeps the GIL: to let go of it costs more than to copy a small blob.
_move = ctypes.pythonapi["memmove"]
_move.restype = None
_move.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def join(blobs: Sequence[Blob], numbers: Sequence[int]) -> memoryview:
    """The bytes of some blobs as they are now, in fresh memory that nobody else knows.

    Args:
        blobs: of one component.
        numbers: which of them, in this order; few bytes in all, as they are copied at once.

    Cost: 0.4 us per blob and one memcpy if the blobs are memory of the CPU, else one read per blob.
    """
    if not isinstance(blobs, HeldBlobs):
        return _read(blobs, numbers)
    addresses = [blobs.addresses[number] for number in numbers]
    if not all(addresses):
        return _read(blobs, numbers)
    import numpy as np

    sizes = [blobs.schema.sizes[number] for number in numbers]
    joined = np.empty(sum(sizes), np.uint8)
    deque(map(_move, accumulate(sizes, initial=joined.ctypes.data), addresses, sizes), 0)
    return joined.data


def move(ranges: Sequence[tuple[int, int, int]]) -> None:
    """Copy many short runs of CPU memory: (to address, from address, bytes) of each."""
    deque(starmap(_move, ranges), 0)


def _read(blobs: Sequence[Blob], numbers: Sequence[int]) -> memoryview:
    wanted = [blobs[number] for number in numbers]
    return memoryview(b"".join([blob.read(0, blob.nbytes) for blob in wanted]))
