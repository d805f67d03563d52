"""The records of a pack as columns: for work on millions of them at once, where one object for each would be too slow.

Same bytes and same proof as `pack.decode_footer`: the pack id binds the footer. Only what columns are used for is
checked: bases and costs, since they say what must stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from casckpt.errors import IntegrityError
from casckpt.format import limits
from casckpt.format import pack as p
from casckpt.format.ids import Kind, PackId

RECORD: np.dtype[Any] = np.dtype(
    {
        "names": ["id", "unit", "length", "stored", "base_1", "base_2", "kind", "codec", "element", "flags", "cost"],
        "formats": ["<u8", "<u4", "<u4", "<u4", "<u2", "<u2", "u1", "u1", "u1", "u1", "u1"],
        "offsets": [0, 32, 36, 40, 44, 46, 56, 57, 58, 59, 60],
        "itemsize": p.RECORD_BYTES,
    }
)
"""A record in place. `id` is the first 8 bytes of the object's id, little-endian."""

_WHOLE = np.dtype((np.void, p.RECORD_BYTES))

Ids = npt.NDArray[np.uint64]
Columns = npt.NDArray[Any]
"""Shape (n,), dtype RECORD: the records of a pack in file order."""


def prefixes(ids: bytes) -> Ids:
    """The first 8 bytes of each of n ids that lie behind each other, little-endian; shape (n,), a copy."""
    return np.frombuffer(ids, "<u8").reshape(-1, 4)[:, 0].copy()


def columns(header: bytes, footer: bytes | memoryview, identity: PackId) -> Columns:
    """The records of a pack from its header block and footer.

    Args:
        identity: from the trailer.

    Raises:
        IntegrityError: header and footer do not hash to the identity, or a base is not what the format allows.
        FormatError: for a pack of a newer format.
    """
    found = np.frombuffer(p.record_bytes(header, footer, identity), RECORD)
    deltas = np.flatnonzero(found["base_1"])
    if len(deltas):
        _check_bases(found, deltas)
    return found


def metadata(records: Columns) -> list[p.Record]:
    """Those of the records that are no chunks and need no base, whole.

    Raises:
        IntegrityError: a field of one is out of range.
    """
    numbers = np.flatnonzero(records["kind"] != Kind.CHUNK)  # usually few
    numbers = numbers[records["base_1"][numbers] == 0]
    return p.decode_records(records.view(_WHOLE)[numbers].tobytes(), p.BLOCK, limits.MAX_PACK_BYTES, allow_bases=False)


def with_bases(records: Columns, needed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which records must stay for the needed ones: these, and all that they are decoded from."""
    held = needed.copy()
    if not records["base_1"].any():
        return held
    # The cost falls from a record to its bases, so one look at each cost, from the highest on, finds all.
    for cost in range(int(records["cost"].max()), 1, -1):
        users = np.flatnonzero(held & (records["cost"] == cost))
        for base in ("base_1", "base_2"):
            distances = records[base][users]
            held[(users - distances)[distances > 0]] = True
    return held


def _check_bases(records: Columns, deltas: npt.NDArray[np.intp]) -> None:
    for base in ("base_1", "base_2"):
        distances = records[base][deltas]
        users = deltas[distances > 0]
        bases = users - distances[distances > 0]
        fits = bool((bases >= 0).all()) and bool((records["cost"][bases] < records["cost"][users]).all())
        if not fits or (records["cost"][deltas] > limits.MAX_DECODE_COST).any():
            raise IntegrityError(object="a pack footer", problem="a record has a base that it cannot have")
