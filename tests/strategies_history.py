"""Histories to be drawn: commits with the newest first, as the nodes of a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from casckpt.format.ids import CommitId, ObjectId
from casckpt.plan.lanes import DROPPED, HIDDEN, OUTSIDE, SHOWN, Node


def commit_id(number: int) -> CommitId:
    return CommitId(ObjectId(number.to_bytes(6, "big") + bytes(26)))


def line_of(parents: Sequence[Sequence[int]], **kinds: str) -> list[Node]:
    """Commits 0, 1, ..., each with its parents, as nodes with the newest first; `c2="hidden"` is the kind of one."""
    return [
        Node(commit_id(number), tuple(map(commit_id, parents[number])), kinds.get(f"c{number}", SHOWN))
        for number in reversed(range(len(parents)))
    ]


@st.composite
def histories(draw: st.DrawFn) -> list[Node]:
    """Commits newest first: merges, forks, several roots, parents that are missing, commits that are not shown."""
    size = draw(st.integers(1, 12))
    nodes = []
    for number in range(size):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        lost = [commit_id(1000 + number)] if draw(st.integers(0, 9)) == 0 else []
        everyone = draw(st.permutations([*map(commit_id, parents), *lost]))
        kind = draw(st.sampled_from([SHOWN] * 5 + [HIDDEN, HIDDEN, DROPPED, OUTSIDE]))
        nodes.append(Node(commit_id(number), tuple(everyone), kind, tuple(lost)))
    return nodes[::-1][: draw(st.integers(1, size))]
