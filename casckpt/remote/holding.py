"""Which of many objects a remote holds, asked of all its segments at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

from casckpt.format.remote_index import ROW_BYTES, Segment

_ROW = np.dtype({"names": ["id", "pack"], "formats": [(">u8", 4), "<u4"], "offsets": [0, 32], "itemsize": ROW_BYTES})
_Words = npt.NDArray[np.uint64]
"""Shape (n, 4): ids as four numbers each, whose order is that of their bytes."""


class Holding:
    """The objects that segments list, but for those in condemned packs.

    Memory: 8 bytes for each object.
    """

    def __init__(self, segments: Iterable[Segment], condemned: Collection[str] = ()) -> None:
        self._parts: list[tuple[_Words, npt.NDArray[np.uint64]]] = []
        for segment in segments:
            rows = np.frombuffer(segment.table, _ROW)
            gone = [number for number, pack in enumerate(segment.packs) if condemned and pack.key in condemned]
            if gone:
                rows = rows[~np.isin(rows["pack"], gone)]
            if len(rows):
                self._parts.append((rows["id"], rows["id"][:, 0].astype(np.uint64)))

    def lacking(self, ids: bytes | bytearray) -> bytes:
        """Those of n ids, 32 bytes each, that are in no segment, in their order."""
        words = np.frombuffer(ids, ">u8").reshape(-1, 4)
        firsts = words[:, 0].astype(np.uint64)
        lacks = np.ones(len(words), np.bool_)
        for rows, ascending in self._parts:
            # Of objects that share their first 8 bytes only one is looked at: to send another twice does no harm.
            at = np.minimum(np.searchsorted(ascending, firsts), len(ascending) - 1)
            lacks &= (rows[at] != words).any(axis=1)
        return words[lacks].tobytes()


def each_once(ids: bytes | bytearray) -> bytes:
    """n ids, 32 bytes each, without repetitions, ascending."""
    words = np.frombuffer(ids, ">u8").reshape(-1, 4)
    words = words[np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))]
    is_first = np.ones(len(words), np.bool_)
    np.any(words[1:] != words[:-1], axis=1, out=is_first[1:])
    return words[is_first].tobytes()


def without(ids: bytes | bytearray, others: bytes | bytearray) -> bytes:
    """Those of n ids, 32 bytes each, that are none of the others, in their order."""
    # numpy compares such texts without the zeros at their ends, of which ids of one length cannot differ alone.
    own = np.frombuffer(ids, "S32")
    return own[~np.isin(own, np.frombuffer(others, "S32"))].tobytes()
