"""When leaves changed last, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from casckpt.units import format_count
from casckpt.view import text as t
from casckpt.view.text import Cell, Look, safe

if TYPE_CHECKING:
    from casckpt.ops.reports import BlameLine

_CHANGES = {
    "changed": ("~", "changed", t.CHANGED),
    "added": ("+", "added", t.ADDED),
    "first": ("=", "never changed", ""),
}


def blame_lines(found: Iterable[BlameLine], look: Look) -> Iterator[str]:
    """A line for each leaf or group: what happened to it last, in which commit, and since how many."""
    return t.columns((_cells(line, look) for line in found), look)


def _cells(line: BlameLine, look: Look) -> list[Cell]:
    mark, what, role = _CHANGES[line.change]
    remarks = [] if line.exact else ["at or before"]
    remarks += ["or a neighbour in its chunk"] if line.shared else []
    share = f"{format_count(line.leaves)} of {t.plural(line.of, 'leaf', 'leaves')}" if line.of > 1 else ""
    return [
        Cell(mark, role),
        Cell(safe(line.path), cut=True),
        Cell(share, t.MUTED),
        Cell(what, role),
        Cell(look.id(line.id), t.ID),
        Cell(safe(line.run)),
        Cell("" if line.step is None else f"step {format_count(line.step)}"),
        Cell(look.when(line.time_ns), t.MUTED),
        Cell(t.plural(line.commits, "commit"), right=True),
        Cell(", ".join(remarks), t.MUTED, cut=True),
    ]
