"""How far tables are: the place in the journal up to which they hold what its frames say."""

from __future__ import annotations

import struct

from casckpt.odb import tables as t
from casckpt.odb.journal import Position

_POSITION = struct.Struct("<QQQ32s?")


def read_position(tables: t.Tables) -> Position | None:
    """The place that tables are up to, None if they do not say it."""
    value = tables.get(t.META, b"position")
    return None if value is None or len(value) != _POSITION.size else Position(*_POSITION.unpack(value))


def write_position(tables: t.WritableTables, position: Position) -> None:
    """Note the place that tables are up to, in the same transaction as what they hold."""
    tables.put(t.META, b"position", _POSITION.pack(*position))
