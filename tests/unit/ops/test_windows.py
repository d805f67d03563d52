"""How commits are cut into windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId, TreeId
from casckpt.ops.windows import WINDOW_BYTES, WINDOW_OBJECTS, Candidate, cut

COMMIT = Commit(TreeId(ObjectId(bytes(32))), (), "gpt", 0)


def candidates(count: int, nbytes: int = WINDOW_BYTES, objects: int = 10) -> list[Candidate]:
    return [
        Candidate(CommitId(ObjectId(number.to_bytes(32, "big"))), COMMIT, nbytes, objects) for number in range(count)
    ]


def sizes(found: list[Candidate], most: int = 33) -> list[int]:
    return [len(part) for part in cut(found, most)]


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(0, []), (1, [1]), (2, [2]), (33, [33]), (34, [34]), (49, [49]), (50, [33, 17]), (66, [33, 33]), (70, [33, 37])],
)
def test_a_short_rest_goes_with_the_window_before(count: int, wanted: list[int]) -> None:
    assert sizes(candidates(count)) == wanted


def test_windows_of_small_commits_are_long() -> None:
    assert sizes(candidates(1000, WINDOW_BYTES // 300)) == [301, 301, 301, 97]


def test_windows_of_commits_with_many_objects_are_short() -> None:
    assert sizes(candidates(6, objects=WINDOW_OBJECTS // 3 + 1)) == [3, 3]
    assert sizes(candidates(7, objects=WINDOW_OBJECTS), most=2) == [2, 2, 3]


@given(
    st.lists(st.tuples(st.integers(1, 2 * WINDOW_BYTES), st.integers(1, WINDOW_OBJECTS)), max_size=200),
    st.sampled_from([2, 33, 65]),
)
def test_windows_are_all_commits_in_their_order_and_none_is_alone(found: list[tuple[int, int]], most: int) -> None:
    everything = [candidates(1, *one)[0] for one in found]
    parts = list(cut(everything, most))
    assert [one for part in parts for one in part] == everything
    assert all(len(part) >= 2 for part in parts) or len(everything) == 1
