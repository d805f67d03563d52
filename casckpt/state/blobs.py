"""From leaves to numbered blobs: which leaves are one, in which order, and what the components share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from casckpt.state.flat import BLOB_FIELD
from casckpt.state.layout import GatherLayout, RangeLayout, TextLayout, lay_out
from casckpt.state.leaves import Form, View
from casckpt.state.sharing import Cluster, groups

Layout = TextLayout | RangeLayout | GatherLayout
Links = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(slots=True)
class Leaves:
    """The leaves with bytes of one state, as columns in walk order: tensors, then arrays, then texts and numbers."""

    parts: list[int]
    paths: list[str]
    nodes: list[list[Any]]


@dataclass(slots=True)
class Column:
    """The blobs of one component by number.

    Args:
        members: the view whose memory a blob simply is; -1 for the others.
        layouts: index in the layouts of the state, of the others.
    """

    paths: tuple[str, ...]
    elements: tuple[str, ...]
    sizes: tuple[int, ...]
    members: list[int]
    layouts: dict[int, int]


Row = tuple[str, str, int, int, int, list[Any]]
"""Path, element, size, member or -1, layout or -1, node of the member or else a list of the nodes of all leaves."""


def number_blobs(
    leaves: Leaves, forms: Sequence[Form], texts: Sequence[int], clusters: Sequence[Cluster], count: int
) -> tuple[list[Column], list[Layout], Links]:
    """The blobs of each of `count` components in path order, and the links between them. Completes the nodes.

    Args:
        forms: of the views, which are the first leaves.
        texts: lengths of the others.
        clusters: as `sharing` finds them.
    """
    rows: list[list[Row]] = [[] for _ in range(count)]
    layouts: list[Layout] = []
    parts, paths, nodes = leaves.parts, leaves.paths, leaves.nodes
    shared = {index for cluster in clusters for index, _ in cluster}
    hard = [group for cluster in clusters for group in groups(_views(cluster, leaves, forms))]
    for index, form in enumerate(forms):
        if form.high > form.low and index not in shared:
            if form.plain:
                row = (paths[index], form.element, form.high, index, -1, nodes[index])
                rows[parts[index]].append(row)
            else:
                hard.append(_views(((index, 0),), leaves, forms))
    for group in hard:
        layout = lay_out(group)
        for part in {view.part for view in group}:
            members = [view for view in group if view.part == part]
            path = min(view.path for view in members)
            used = [view.node for view in members]
            rows[part].append((path, layout.element, layout.nbytes, -1, len(layouts), used))
        layouts.append(layout)
    for number, nbytes in enumerate(texts):
        index = len(forms) + number
        node = nodes[index]
        element = node[1] if node[0] == "numbers" else "bytes"
        rows[parts[index]].append((paths[index], element, nbytes, -1, len(layouts), [node]))
        layouts.append(TextLayout(number))
    uses: list[list[tuple[int, int]]] = [[] for _ in layouts]
    columns = [_column(part, mine, uses) for part, mine in enumerate(rows)]
    return columns, layouts, tuple(sorted(tuple(use) for use in uses if len(use) > 1))


def _views(cluster: Cluster, leaves: Leaves, forms: Sequence[Form]) -> list[View]:
    return [
        View(index, leaves.parts[index], leaves.paths[index], leaves.nodes[index], forms[index], address)
        for index, address in cluster
    ]


def _column(part: int, rows: list[Row], uses: list[list[tuple[int, int]]]) -> Column:
    rows.sort(key=lambda row: row[0])  # by code points, which is the order of the UTF-8 bytes
    layouts: dict[int, int] = {}
    for number, (_, _, _, member, layout, used) in enumerate(rows):
        if member >= 0:
            used[4] = number
            continue
        layouts[number] = layout
        uses[layout].append((part, number))
        for node in used:
            node[BLOB_FIELD[node[0]]] = number
    paths, elements, sizes, members, _, _ = zip(*rows, strict=True) if rows else ((),) * 6
    return Column(paths, elements, sizes, list(members), layouts)
