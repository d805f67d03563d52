"""The history as a graph: lanes drawn with characters, two columns a lane, and beside them what the log says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from casckpt.ops.values import CommitInfo
from casckpt.plan.lanes import Row
from casckpt.view import text as t
from casckpt.view.history import FULL, LogForm, blocks, commit_cells, is_bad, lines_below
from casckpt.view.text import Look

if TYPE_CHECKING:
    from casckpt.ops.graph import GraphRow

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    _UP | _DOWN: "│|", _LEFT | _RIGHT: "─_",
    _UP | _DOWN | _RIGHT: "├|", _UP | _DOWN | _LEFT: "┤|", _UP | _DOWN | _LEFT | _RIGHT: "┼+",
    _UP | _LEFT: "╯/", _UP | _RIGHT: "╰\\", _UP | _LEFT | _RIGHT: "┴/",
    _DOWN | _LEFT: "╮\\", _DOWN | _RIGHT: "╭/", _DOWN | _LEFT | _RIGHT: "┬\\",
}  # fmt: skip
"""By the sides a line leaves a place: the character, and that of ASCII."""
_COMMIT, _BEST, _RECOVERY, _BAD, _GAP = "●*", "★B", "◌r", "!!", "┆:"
_MARK_ROLES = {_BEST: t.GOOD, _BAD: t.BAD}


def graph_lines(rows: Iterable[GraphRow], look: Look, form: LogForm = FULL) -> Iterator[str]:
    """The rows of a drawing, with what a log says of their commits beside them.

    Blocks of rows are aligned as they come, no column narrower than before, so that columns seldom move.
    """
    widths: list[int] = []
    lanes = 0
    for block in blocks(rows):
        lanes = max(lanes, *(_lanes(one.row) for one in block))
        room = None if look.width is None else max(look.width - 2 * lanes - 1, t.CUT_MIN)
        cells = (commit_cells(one.commit, look, form.metrics) for one in block if one.commit is not None)
        columns = t.columns(cells, replace(look, width=room), least=widths)
        for row, commit in ((one.row, one.commit) for one in block):
            yield _beside(row, _mark(commit), _gap(row, look) if commit is None else next(columns), lanes, look)
            if commit is not None:
                between = Row("edges", row.below, row.below)
                for line in lines_below(commit, form):
                    yield _beside(between, _COMMIT, line, lanes, look)


def _beside(row: Row, mark: str, said: str, lanes: int, look: Look) -> str:
    """The lanes of a row and the text to their right, which begins in the same column in all rows."""
    drawn = _drawn(row, mark, look)
    return drawn + " " * (2 * (lanes - _lanes(row)) + 2) + said if said else drawn


def _lanes(row: Row) -> int:
    """How many lanes a row has, up to its last one in use."""
    return 1 + max((*row.above[-1:], *row.below[-1:], *row.tied[-1:], row.lane or 0))


def _drawn(row: Row, mark: str, look: Look) -> str:
    """The lanes of a row without trailing spaces, each in its colour.

    An edge that crosses a lane leaves it whole: where a lane goes on that has no part in the edge, the edge is seen on
    both sides of it only.
    """
    ties = {*row.tied, row.lane or 0} if row.tied else set[int]()
    first, last = min(ties, default=0), max(ties, default=-1)
    edge = look.paint(t.MUTED, _LINES[_LEFT | _RIGHT][look.ascii])
    pieces: list[str] = []
    for lane in range(_lanes(row)):
        if lane:
            pieces.append(edge if first < lane <= last else " ")
        role = t.LINES[lane % len(t.LINES)]
        if row.kind == "commit" and lane == row.lane:
            pieces.append(look.paint(_MARK_ROLES.get(mark, role), mark[look.ascii]))
        elif lane in row.gaps:
            pieces.append(look.paint(role, _GAP[look.ascii]))
        else:
            sides = _UP * (lane in row.above) + _DOWN * (lane in row.below)
            if lane in ties:
                sides += _LEFT * (lane > first) + _RIGHT * (lane < last)
            elif first < lane < last and not sides:
                sides = _LEFT | _RIGHT
            pieces.append(look.paint(role, _LINES[sides][look.ascii]) if sides else " ")
    return "".join(pieces)


def _mark(commit: CommitInfo | None) -> str:
    """The character of a commit by what is most worth knowing of it."""
    if commit is None:
        return _COMMIT
    if is_bad(commit):
        return _BAD
    return _BEST if "best" in commit.refs else _RECOVERY if commit.kind == "recovery" else _COMMIT


def _gap(row: Row, look: Look) -> str:
    """What a gap leaves out."""
    said = [f"{t.plural(row.dropped, 'dropped commit')}"] if row.dropped else []
    said += [f"{t.plural(row.hidden, 'commit')} not shown"] if row.hidden else []
    if row.identity is not None:
        said.append(f"{look.id(row.identity.hex())} is {'missing here' if row.missing else 'outside the range'}")
    return look.paint(t.MUTED, ", ".join(said))
