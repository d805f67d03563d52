from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId, TreeId
from casckpt.plan.graph import ancestors, between, newest_common, nth_ancestor

TREE = TreeId(ObjectId(bytes(32)))


def commit_id(number: int) -> CommitId:
    return CommitId(ObjectId(number.to_bytes(32, "big")))


def history(parents: list[list[int]], times: list[int] | None = None) -> dict[CommitId, Commit]:
    """Commit n has the parents parents[n]; times grow along parents."""
    return {
        commit_id(n): Commit(TREE, tuple(map(commit_id, of)), "r", times[n] if times else n)
        for n, of in enumerate(parents)
    }


def numbers(found: object) -> list[int]:
    return [int.from_bytes(identity, "big") for identity, _ in found]  # type: ignore[attr-defined]


def inside(found: Iterable[tuple[CommitId, Commit, bool]]) -> list[int]:
    return numbers((identity, commit) for identity, commit, is_inside in found if is_inside)


def lineage(parents: list[list[int]], start: int) -> set[int]:
    """A commit and its ancestors."""
    reachable: set[int] = set()
    waiting = [start]
    while waiting:
        number = waiting.pop()
        if number not in reachable:
            reachable.add(number)
            waiting += parents[number]
    return reachable


@given(st.data())
def test_every_ancestor_comes_once_newest_first_and_children_before_parents(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    parents = [data.draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) if n else [] for n in range(size)]
    commits = history(parents)
    starts = data.draw(st.lists(st.integers(0, size - 1), max_size=4))
    found = numbers(ancestors(map(commit_id, starts), commits.get))
    reachable = set[int]().union(*(lineage(parents, start) for start in starts))
    assert found == sorted(reachable, reverse=True)


@given(st.data())
def test_ranges_and_common_ancestors_are_those_of_the_sets_of_ancestors(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    parents = [data.draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) if n else [] for n in range(size)]
    commits = history(parents)
    a, b = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    left, right = lineage(parents, a), lineage(parents, b)
    sides = commit_id(a), commit_id(b)
    assert inside(between(*sides, commits.get)) == sorted(right - left, reverse=True)
    assert inside(between(*sides, commits.get, symmetric=True)) == sorted(left ^ right, reverse=True)
    expected = max(left & right, default=None)
    assert newest_common(*sides, commits.get) == (None if expected is None else commit_id(expected))


def test_a_range_is_walked_no_further_than_where_its_sides_have_joined() -> None:
    commits = history([[n - 1] if n else [] for n in range(10_000)])
    asked: list[CommitId] = []

    def lookup(identity: CommitId) -> Commit | None:
        asked.append(identity)
        return commits.get(identity)

    assert inside(between(commit_id(9_990), commit_id(9_999), lookup)) == list(range(9_999, 9_990, -1))
    assert len(asked) <= 12


def test_a_range_ends_in_a_cycle_too() -> None:
    commits = history([[1], [0], [2]])
    assert sorted(inside(between(commit_id(2), commit_id(0), commits.get))) == [0, 1]
    assert newest_common(commit_id(2), commit_id(0), commits.get) is None


def test_commits_of_one_time_come_by_id() -> None:
    commits = history([[], [], []], times=[5, 5, 5])
    assert numbers(ancestors(map(commit_id, [2, 0, 1]), commits.get)) == [0, 1, 2]


def test_parents_that_are_not_there_are_skipped() -> None:
    commits = history([[], [0], [1, 7]])
    del commits[commit_id(0)]
    assert numbers(ancestors([commit_id(2), commit_id(9)], commits.get)) == [2, 1]
    assert nth_ancestor(commit_id(2), 2, commits.get) == commit_id(0)
    assert nth_ancestor(commit_id(2), 3, commits.get) is None


def test_a_cycle_and_a_commit_that_is_its_own_parent_end() -> None:
    commits = history([[1], [0], [2]])
    assert sorted(numbers(ancestors([commit_id(0)], commits.get))) == [0, 1]
    assert numbers(ancestors([commit_id(2)], commits.get)) == [2]
    assert nth_ancestor(commit_id(0), 5, commits.get) == commit_id(1)


def test_a_long_line_is_walked_without_recursion() -> None:
    commits = history([[n - 1] if n else [] for n in range(30_000)])
    assert numbers(ancestors([commit_id(29_999)], commits.get)) == list(range(29_999, -1, -1))
    assert nth_ancestor(commit_id(29_999), 29_999, commits.get) == commit_id(0)
    assert nth_ancestor(commit_id(29_999), 30_000, commits.get) is None


def test_the_walk_looks_up_only_what_is_taken() -> None:
    commits = history([[n - 1] if n else [] for n in range(100)])
    asked: list[CommitId] = []

    def lookup(identity: CommitId) -> Commit | None:
        asked.append(identity)
        return commits.get(identity)

    walk = ancestors([commit_id(99)], lookup)
    for _ in range(3):
        next(walk)
    assert len(asked) <= 4


def test_first_parents_lead_back() -> None:
    commits = history([[], [], [0, 1], [1, 2]])
    assert nth_ancestor(commit_id(3), 0, commits.get) == commit_id(3)
    assert nth_ancestor(commit_id(3), 1, commits.get) == commit_id(1)
    assert nth_ancestor(commit_id(2), 1, commits.get) == commit_id(0)
    assert nth_ancestor(commit_id(2), 2, commits.get) is None
