"""Lanes: few, used again, and settled while the history is walked. What they draw is tested in view/test_graph.py."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given

from casckpt.plan.lanes import HIDDEN, Node, Row, rows
from tests.strategies_history import commit_id, histories


def lanes_of(row: Row) -> set[int]:
    return {*row.above, *row.below, *row.tied, *(() if row.lane is None else (row.lane,))}


@given(histories())
def test_lanes_are_used_again_and_never_more_than_lines_were_open(nodes: list[Node]) -> None:
    most = 0
    for row in rows(nodes):
        most = max(most, len(lanes_of(row)))
        assert max(lanes_of(row)) <= most


@given(histories())
def test_every_row_begins_where_the_one_above_ended(nodes: list[Node]) -> None:
    below: tuple[int, ...] = ()
    for row in rows(nodes):
        assert row.above == below
        below = row.below
    assert below == ()


def test_a_long_line_with_short_ones_beside_it_stays_narrow() -> None:
    nodes = []
    for number in range(10_000, 0, -1):
        nodes.append(Node(commit_id(2 * number), (commit_id(2 * number - 2),)))
        nodes.append(Node(commit_id(2 * number + 1), (commit_id(2 * number - 2),)))
    assert max(max(lanes_of(row)) for row in rows(nodes)) == 1


def test_rows_come_as_soon_as_their_commits_do() -> None:
    taken: list[int] = []

    def nodes() -> Iterable[Node]:
        for number in range(1_000_000, 0, -1):
            taken.append(number)
            yield Node(commit_id(number), (commit_id(number - 1),))

    found = rows(nodes())
    assert [next(found).kind for _ in range(3)] == ["commit"] * 3
    assert len(taken) == 3


def test_a_parent_that_came_before_its_child_and_a_cycle_break_nothing() -> None:
    cycle = [Node(commit_id(1), (commit_id(1),)), Node(commit_id(2), (commit_id(1), commit_id(2)))]
    assert [row.kind for row in rows(cycle)] == ["commit", "commit", "edges", "gap"]


def test_what_nothing_drawn_leads_to_and_is_not_shown_takes_no_lane() -> None:
    assert list(rows([Node(commit_id(2), (commit_id(1),), HIDDEN), Node(commit_id(1), (), HIDDEN)])) == []
