"""Drawings of the history, read back as somebody who looks at them would."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings

from casckpt.format.ids import CommitId
from casckpt.ops.graph import GraphRow
from casckpt.ops.values import CommitInfo
from casckpt.plan.lanes import DROPPED, HIDDEN, OUTSIDE, SHOWN, Node, rows
from casckpt.view.graph import graph_lines
from casckpt.view.history import LogForm
from casckpt.view.text import LINES, Look
from tests.strategies_history import commit_id, histories, line_of

NOW = 1_800_000_000_000_000_000
UNICODE, ASCII = Look(NOW), Look(NOW, ascii=True)
ENDS, BEGINS = "╯╰┴", "╮╭┬"
FROM_ABOVE = "│├┤┼●★◌!┆" + ENDS
Edge = tuple[str, str]


def name(identity: CommitId) -> str:
    return identity.hex()[:12]


def info(identity: CommitId, **given: object) -> CommitInfo:
    values: dict[str, object] = {
        "id": identity.hex(), "run": "r", "step": None, "epoch": None, "kind": "step", "status": "completed",
        "time_ns": NOW, "metrics": {}, "message": "", "author": "", "parents": (), "tree": "", "nbytes": 0,
        "added": None,
    }  # fmt: skip
    return CommitInfo(**{**values, **given})  # type: ignore[arg-type]


def drawn(nodes: Iterable[Node], look: Look = UNICODE, **commits: CommitInfo) -> list[str]:
    """The lines of a drawing; `commits` are described by the name of their id, the others have nothing to say."""
    found = (
        GraphRow(
            row,
            commits.get(name(row.identity), info(row.identity))
            if row.kind == "commit" and row.identity is not None
            else None,
        )
        for row in rows(nodes)
    )
    return [line.removesuffix("  just now") for line in graph_lines(found, look, LogForm(messages=False))]


def edges_in(lines: list[str]) -> set[Edge]:
    """Which commit leads to which, traced along the lines that are drawn."""
    column = next((line.index("000000") for line in lines if "000000" in line), 0)
    flowing: dict[int, set[str]] = {}
    edges: set[Edge] = set()
    hub = 0
    for line in lines:
        cells = line[:column][::2] if column else line[::2]
        flowing = {lane: heads for lane, heads in flowing.items() if cells[lane : lane + 1] in tuple(FROM_ABOVE)}
        ties = [lane for lane, char in enumerate(cells) if char in "├┤┼" + ENDS + BEGINS]
        assert all(lane in flowing for lane, char in enumerate(cells) if char in "│┆├┤┼" + ENDS), line
        points = [lane for lane, char in enumerate(cells) if char in "●★◌!"]
        if points:
            [hub] = points
            here = line[column : column + 12]
            edges |= {(child, here) for child in flowing.get(hub, ())}
            flowing[hub] = {here}
        elif ties:
            ended = [lane for lane in ties if cells[lane] in ENDS]
            if ended:
                assert not set(cells) & set(BEGINS), line
                [hub] = set(ties) - set(ended)
                for lane in ended:
                    flowing[hub] = flowing[hub] | flowing.pop(lane)
            else:
                assert hub in ties
                for lane in set(ties) - {hub}:
                    flowing[lane] = flowing.get(lane, set()) | flowing[hub]
        elif "┆" in cells:
            hub = cells.index("┆")
    return edges


def expected(nodes: list[Node]) -> set[Edge]:
    """Which commit leads to which, by way of those that are skipped over."""
    known = {node.identity: node for node in nodes}
    edges: set[Edge] = set()
    for node in nodes:
        waiting = list(node.parents) if node.kind == SHOWN else []
        seen: set[CommitId] = set()
        while waiting:
            parent = known.get(waiting.pop())
            if parent is None or parent.identity in seen:
                continue
            seen.add(parent.identity)
            if parent.kind == SHOWN:
                edges.add((name(node.identity), name(parent.identity)))
            elif parent.kind != OUTSIDE:
                waiting += parent.parents
    return edges


@given(histories())
@settings(max_examples=400)
def test_every_parent_of_every_commit_is_found_by_following_the_lines(nodes: list[Node]) -> None:
    assert edges_in(drawn(nodes)) == expected(nodes)


@given(histories())
def test_ascii_draws_the_same_lines(nodes: list[Node]) -> None:
    alike = str.maketrans({**dict.fromkeys("│├┤", "|"), **dict.fromkeys("╯┴╭", "/"), **dict.fromkeys("╰┬╮", "\\")})
    alike |= str.maketrans("─┼●┆", "_+*:")
    plain = drawn(nodes, ASCII)
    assert plain == [line.translate(alike) for line in drawn(nodes)]
    assert all(line.isascii() for line in plain)


def test_a_fork_joins_where_the_lines_part_and_says_where_a_run_begins() -> None:
    assert drawn(line_of([[], [0], [0], [0], [1], [3]])) == [
        "●      000000000005  r",
        "│ ●    000000000004  r",
        "● │    000000000003  r",
        "│ │ ●  000000000002  r",
        "│ ● │  000000000001  r",
        "├─┴─╯",
        "●      000000000000  r",
    ]


def test_a_merge_opens_lanes_or_leads_to_those_there_are() -> None:
    merge = line_of([[], [0], [0], [1, 2], [0], [3, 4, 2]])
    assert drawn(merge) == [
        "●      000000000005  r",
        "├─┬─╮",
        "│ ● │  000000000004  r",
        "● │ │  000000000003  r",
        "├─│─┤",
        "│ │ ●  000000000002  r",
        "● │ │  000000000001  r",
        "├─┴─╯",
        "●      000000000000  r",
    ]
    assert drawn(merge, ASCII)[1:5:3] == ["|_\\_\\", "|_|_|"]


def test_an_edge_crosses_a_lane_that_has_no_part_in_it() -> None:
    assert drawn(line_of([[], [0], [], [2], [1], [0]])) == [
        "●      000000000005  r",
        "│ ●    000000000004  r",
        "│ │ ●  000000000003  r",
        "│ │ ●  000000000002  r",
        "│ ●    000000000001  r",
        "├─╯",
        "●      000000000000  r",
    ]
    assert drawn(line_of([[], [], [0], [1], [0]]))[3:] == [
        "│ ● │  000000000001  r",
        "├───╯",
        "●      000000000000  r",
    ]
    assert drawn(line_of([[], [], [1], [0], [1], [0]]))[4] == "│ ├─│─╯"


def test_unrelated_lines_never_follow_each_other_in_a_lane() -> None:
    assert drawn(line_of([[], [], [], [0]])) == [
        "●      000000000003  r",
        "│ ●    000000000002  r",
        "│   ●  000000000001  r",
        "●      000000000000  r",
    ]


def test_gaps_say_what_they_leave_out() -> None:
    gone = commit_id(99)
    nodes = [
        Node(commit_id(5), (commit_id(4), gone), SHOWN, (gone,)),
        Node(commit_id(4), (commit_id(3),), DROPPED),
        Node(commit_id(3), (commit_id(2),), DROPPED),
        Node(commit_id(2), (commit_id(1),), HIDDEN),
        Node(commit_id(1), (commit_id(0),)),
        Node(commit_id(0), (), OUTSIDE),
    ]
    lines = [
        "●    000000000005  r",
        "├─╮",
        "│ ┆  000000000063 is missing here",
        "┆    2 dropped commits, 1 commit not shown",
        "●    000000000001  r",
        "┆    000000000000 is outside the range",
    ]
    assert drawn(nodes) == lines
    assert drawn(nodes[:4]) == [*lines[:3], "┆"]
    assert drawn(nodes, ASCII)[2] == "| :  000000000063 is missing here"


def test_marks_tell_best_recovery_and_trouble() -> None:
    nodes = line_of([[], [0], [1], [2], [3]])
    commits = {
        name(commit_id(4)): info(commit_id(4), metrics={"loss": float("nan")}, refs=("best",)),
        name(commit_id(3)): info(commit_id(3), status="failed"),
        name(commit_id(2)): info(commit_id(2), refs=("last", "best"), kind="recovery"),
        name(commit_id(1)): info(commit_id(1), kind="recovery"),
    }
    assert [line[0] for line in drawn(nodes, UNICODE, **commits)] == ["!", "!", "★", "◌", "●"]
    assert [line[0] for line in drawn(nodes, ASCII, **commits)] == ["!", "!", "B", "r", "*"]


def test_messages_stand_beside_the_lanes_that_go_on() -> None:
    found = [GraphRow(row, None) for row in rows(line_of([[], [0], [0]])[:2])]
    found = [
        GraphRow(one.row, info(one.row.identity, message="one\n\ntwo")) if one.row.identity else one for one in found
    ]
    assert [line.removesuffix("  just now") for line in graph_lines(found, UNICODE)] == [
        "●    000000000002  r",
        "│        one",
        "│",
        "│        two",
        "│ ●  000000000001  r",
        "│ │      one",
        "│ │",
        "│ │      two",
        "┆ ┆",
    ]


def test_each_lane_has_a_colour_of_its_own_and_colour_says_nothing_alone() -> None:
    roles: list[str] = []

    def paint(role: str, text: str) -> str:
        roles.append(role)
        return text

    nodes = line_of([[], [0], [0]])
    assert drawn(nodes, Look(NOW, paint=paint)) == drawn(nodes)
    assert {role for role in roles if role in LINES} == {"line1", "line2"}


def test_columns_stay_where_they_are_or_move_to_the_right() -> None:
    tips = [Node(commit_id(number), (commit_id(0),)) for number in range(200, 0, -1)]
    narrow = [Node(commit_id(number), (commit_id(number - 1),)) for number in range(400, 200, -1)]
    columns = [line.index("0000000") for line in drawn([*narrow, *tips]) if "0000000" in line]
    assert columns == sorted(columns)
    assert len(set(columns)) > 2
