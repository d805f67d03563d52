"""Lanes: how the history is drawn as a graph, row by row, while it is walked.

Commits come newest first, parents after their children. Every line from a commit to a parent that was not drawn yet
runs down in a lane; a first parent takes over the lane of its child, another one joins the lane that leads to it
already or begins the first free one. Where several lanes lead to one commit they join in the leftmost, in a row above
it. A lane that ends is free again, but for the row below: a commit there would look like the next one of that line.

A commit that is not shown is skipped over: its lines go on to its parents, and a row with gaps says how many there were
before the next thing is drawn. A line whose end is not drawn at all, for it is missing, outside a range or beyond the
last commit that is wanted, ends in a gap.

Memory: the open lines. No more lanes are used than lines were open at once, and one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from casckpt.format.ids import CommitId

SHOWN, HIDDEN, DROPPED, OUTSIDE = "shown", "hidden", "dropped", "outside"
"""What a commit is in a drawing: a point, skipped over (for being unwanted, or dropped), or where lines end."""


class Node(NamedTuple):
    """A commit to be drawn. `missing` are those of its parents that the store does not have."""

    identity: CommitId
    parents: tuple[CommitId, ...]
    kind: str = SHOWN
    missing: tuple[CommitId, ...] = ()


class Row(NamedTuple):
    """One row: a commit, gaps, or edges. Lanes count from 0 at the left; tuples of them ascend."""

    kind: str
    """commit, gap or edges."""
    above: tuple[int, ...]
    """The lanes with a line from the row above."""
    below: tuple[int, ...]
    """The lanes with a line to the row below."""
    lane: int | None = None
    """That of the commit, or the one from which edges start or in which they end."""
    tied: tuple[int, ...] = ()
    """Lanes with an edge to `lane`: they end here, begin here, or go on."""
    gaps: tuple[int, ...] = ()
    """Lanes whose line skips commits here, or ends with none."""
    hidden: int = 0
    """How many commits they skip that are not wanted."""
    dropped: int = 0
    """How many dropped ones."""
    identity: CommitId | None = None
    """The commit; of a gap the one that a line leads to and that is not drawn."""
    missing: bool = False
    """Of a gap: the store does not have that commit."""


class _Line:
    """The lanes that lead to one commit, and what was skipped in them."""

    __slots__ = ("dropped", "gaps", "hidden", "lanes")

    def __init__(self) -> None:
        self.lanes: set[int] = set()
        self.gaps: set[int] = set()
        self.hidden = 0
        self.dropped = 0


def rows(nodes: Iterable[Node]) -> Iterator[Row]:
    """The rows of a drawing, each as soon as the commits so far decide on it."""
    drawing = _Drawing()
    for node in nodes:
        yield from drawing.take(node)
    yield from drawing.end()


class _Drawing:
    def __init__(self) -> None:
        self._lines: dict[CommitId, _Line] = {}
        self._open: set[int] = set()
        self._ended: set[int] = set()
        """Lanes that ended in the last row."""

    def take(self, node: Node) -> Iterator[Row]:
        line = self._lines.pop(node.identity, None)
        if node.kind == SHOWN:
            yield from self._shown(node, line)
        elif line is None:  # no commit that is drawn has led here
            return
        elif node.kind == OUTSIDE:
            yield self._end_in_gap(line, node.identity)
        else:
            yield from self._skip(node, line)

    def end(self) -> Iterator[Row]:
        """Lines that lead further than what is drawn."""
        if self._open:
            gaps = _ascending(self._open)
            yield self._row("gap", set())._replace(gaps=gaps)

    def _shown(self, node: Node, line: _Line | None) -> Iterator[Row]:
        if line is None:
            lane = self._free(self._ended)
        else:
            yield from self._gap(line)
            lane = min(line.lanes)
            yield from self._join(line)
        parents = tuple(dict.fromkeys(node.parents))
        below = self._open | {lane} if parents else self._open - {lane}
        yield self._row("commit", below, lane)._replace(identity=node.identity)
        if parents:
            self._lead({lane}, parents[0])
            yield from self._part(lane, parents[1:])
            yield from self._lose(node)

    def _skip(self, node: Node, line: _Line) -> Iterator[Row]:
        line.gaps |= line.lanes
        line.hidden += node.kind == HIDDEN
        line.dropped += node.kind == DROPPED
        parents = tuple(dict.fromkeys(node.parents))
        if not parents:
            yield self._end_in_gap(line)
            return
        if len(parents) > 1:
            # What was skipped so far stands above the edges, and they start from one lane.
            yield from self._gap(line)
            yield from self._join(line)
        led = self._lead(line.lanes, parents[0])
        led.gaps |= line.gaps
        led.hidden += line.hidden
        led.dropped += line.dropped
        yield from self._part(min(line.lanes), parents[1:])
        yield from self._lose(node)

    def _gap(self, line: _Line) -> Iterator[Row]:
        """What was skipped on a line that goes on."""
        if line.gaps:
            yield self._leave_out(line, line.gaps, self._open)
            line.gaps, line.hidden, line.dropped = set(), 0, 0

    def _join(self, line: _Line) -> Iterator[Row]:
        lane = min(line.lanes)
        others = line.lanes - {lane}
        if others:
            line.lanes = {lane}
            yield self._row("edges", self._open - others, lane)._replace(tied=_ascending(others))

    def _part(self, lane: int, parents: Sequence[CommitId]) -> Iterator[Row]:
        """Edges from a lane to those that lead to further parents."""
        tied, begun = set(), set[int]()
        for parent in parents:
            known = self._lines.get(parent)
            if known is None:
                begun.add(fresh := self._free(begun))
                known = self._lead({fresh}, parent)
            tied.add(min(known.lanes))
        if tied:
            yield self._row("edges", self._open | begun, lane)._replace(tied=_ascending(tied))

    def _lose(self, node: Node) -> Iterator[Row]:
        for parent in node.missing:
            line = self._lines.pop(parent, None)
            if line is not None:
                yield self._end_in_gap(line, parent, missing=True)

    def _end_in_gap(self, line: _Line, identity: CommitId | None = None, *, missing: bool = False) -> Row:
        row = self._leave_out(line, line.lanes, self._open - line.lanes)
        return row._replace(identity=identity, missing=missing)

    def _leave_out(self, line: _Line, lanes: set[int], below: set[int]) -> Row:
        row = self._row("gap", below)
        return row._replace(gaps=_ascending(lanes), hidden=line.hidden, dropped=line.dropped)

    def _lead(self, lanes: set[int], parent: CommitId) -> _Line:
        line = self._lines.setdefault(parent, _Line())
        line.lanes |= lanes
        return line

    def _free(self, taken: set[int]) -> int:
        """The leftmost lane that is neither open nor taken."""
        return next(lane for lane in range(len(self._open) + len(taken) + 1) if lane not in self._open | taken)

    def _row(self, kind: str, below: set[int], lane: int | None = None) -> Row:
        above, self._open = self._open, set(below)
        self._ended = (above if lane is None else above | {lane}) - below
        return Row(kind, _ascending(above), _ascending(below), lane)


def _ascending(lanes: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(lanes))
