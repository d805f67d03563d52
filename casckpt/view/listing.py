"""What lies at a path, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from casckpt.view import text as t
from casckpt.view.history import leaf_cells
from casckpt.view.text import Cell, Look

if TYPE_CHECKING:
    from casckpt.ops.reports import PathInfo


def ls_lines(found: Iterable[PathInfo], look: Look) -> Iterator[str]:
    """A line for each leaf and container."""
    return t.columns(map(path_cells, found), look)


def path_cells(found: PathInfo) -> list[Cell]:
    """A leaf or a container in one row; the path of a container ends with a slash."""
    path, *cells = leaf_cells(found)
    if found.leaves is None:
        return [path, *cells]
    return [Cell(f"{path.text}/", t.REF), *cells[:2], Cell(t.plural(found.leaves, "leaf", "leaves"), t.MUTED)]
