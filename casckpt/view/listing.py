"""What lies at a path, as text."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from casckpt.view import text as t
from casckpt.view.history import leaf_cells
from casckpt.view.text import Cell, Look, safe

if TYPE_CHECKING:
    from casckpt.ops.reports import PathInfo

_SCALARS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
"""How numbers of a dtype lie in memory, by what follows its byte order."""


def ls_lines(found: Iterable[PathInfo], look: Look) -> Iterator[str]:
    """A line for each leaf and container."""
    return t.columns((path_cells(one, look) for one in found), look)


def path_cells(found: PathInfo, look: Look) -> list[Cell]:
    """A leaf or a container in one row; the path of a container ends with a slash."""
    path, *cells = leaf_cells(found)
    if found.lost is not None:
        when = f"by rule {safe(found.lost.rule)}, {look.when(found.lost.time_ns)}"
        return [path, Cell("lost", t.BAD), cells[1], Cell(when, t.MUTED)]
    if found.leaves is None:
        return [path, *cells]
    return [Cell(f"{path.text}/", t.REF, cut=True), *cells[:2], Cell(t.plural(found.leaves, "leaf", "leaves"), t.MUTED)]


def value_text(found: PathInfo) -> str | None:
    """A value that lies in the tree itself as text, of a link its target; None for what has no short text."""
    value = found.value
    if found.kind == "link" and isinstance(value, bytes):
        return safe(value.decode(errors="backslashreplace"))
    if found.kind == "scalar" and isinstance(value, bytes) and found.dtype is not None:
        code = _SCALARS.get(found.dtype[1:], "")
        order = ">" if found.dtype.startswith(">") else "<"
        is_number = code and struct.calcsize(order + code) == len(value)
        return repr(struct.unpack(order + code, value)[0]) if is_number else None
    return t.value(value) if found.kind in ("none", "bool", "int", "float", "complex") else None


def text_pieces(pieces: Iterable[bytes]) -> Iterator[str]:
    """A stored text, made harmless but for its line breaks; it ends with one."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
    last = ""
    for piece in pieces:
        text = decoder.decode(piece)
        last = text[-1:] or last
        yield "\n".join(map(safe, text.split("\n")))
    if last != "\n":
        yield "\n"
