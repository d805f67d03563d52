"""Refs of a remote by policy: whoever pushes in whatever order, the newest ends in the same place and loses nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.plan import graph
from casckpt.plan.ref_policy import CONFLICTS, Refused, conflict_ref, fast_forward, joined, with_lease

REFS = ("runs/a/last", "runs/a/best", "runs/a/recovery", "runs/b/last", "tags/v1")


class History:
    """Commits by number: each is later than its parents."""

    def __init__(self, parents: list[list[int]]) -> None:
        self.ids = [CommitId(object_id(Kind.COMMIT, bytes([number]))) for number in range(len(parents))]
        self._commits = {
            identity: Commit(TreeId(ObjectId(bytes(32))), tuple(self.ids[one] for one in of), "a", time_ns=number)
            for number, (identity, of) in enumerate(zip(self.ids, parents, strict=True))
        }

    def leads(self, one: CommitId, other: CommitId) -> bool:
        return graph.leads(one, other, self._commits.get)

    def order(self, name: str, identity: CommitId) -> tuple[object, ...]:
        if name.endswith("/best"):  # any order that history knows nothing of
            return 0, 0, identity[5], identity
        return 0, 0, self._commits[identity].time_ns, identity


@st.composite
def histories(draw: Callable) -> History:
    count = draw(st.integers(1, 9))
    parents = [
        sorted(draw(st.sets(st.integers(0, number - 1), max_size=2))) if number else [] for number in range(count)
    ]
    return History(parents)


@st.composite
def pushes(draw: Callable) -> tuple[History, list[dict[str, CommitId]]]:
    history = draw(histories())
    refs = st.dictionaries(st.sampled_from(REFS), st.sampled_from(history.ids), min_size=1)
    return history, draw(st.lists(refs, min_size=2, max_size=5))


def end_of(history: History, done: list[dict[str, CommitId]]) -> dict[str, CommitId]:
    refs: dict[str, CommitId] = {}
    for one in done:
        refs = joined(one, refs, history.order, history.leads)
    return refs


@given(pushes(), st.randoms(use_true_random=False))
def test_pushes_by_the_newest_end_alike_in_any_order(case, shuffled: random.Random) -> None:
    history, done = case
    end = end_of(history, done)
    for _ in range(4):
        again = [*done, *shuffled.sample(done, shuffled.randint(0, len(done)))]
        shuffled.shuffle(again)
        assert end_of(history, again) == end


@given(pushes())
def test_the_join_is_commutative_associative_and_idempotent(case) -> None:
    history, done = case
    one, two = done[0], done[1]
    three = done[-1]

    def join(left, right):
        return joined(left, right, history.order, history.leads)

    one, two, three = (join(refs, {}) for refs in (one, two, three))
    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, one) == one


@given(pushes())
def test_the_newest_loses_no_commit(case) -> None:
    history, done = case
    end = end_of(history, done)
    for refs in done:
        for commit in refs.values():
            assert any(history.leads(commit, kept) for kept in end.values())


@given(pushes())
def test_a_conflict_is_kept_only_where_nothing_else_leads_to_it(case) -> None:
    history, done = case
    end = end_of(history, done)
    kept = {name: commit for name, commit in end.items() if name.startswith(CONFLICTS)}
    for name, commit in kept.items():
        family = "runs/a" if name.startswith("conflicts/runs/a") else name[len(CONFLICTS) :].rpartition("/")[0]
        others = [other for ref, other in end.items() if ref != name and family in ref]
        assert not any(history.leads(commit, other) for other in others)
        assert name.endswith(f"/{commit.hex()[:12]}")


LINE = History([[], [0], [1], [0], [3]])
A, B, C, X, Y = LINE.ids
"""A - B - C, and A - X - Y."""


@pytest.mark.parametrize(
    ("ours", "theirs", "end"),
    [
        ({"runs/a/last": B}, {}, {"runs/a/last": B}),
        ({"runs/a/last": B}, {"runs/a/last": B}, {}),
        ({"runs/a/last": C}, {"runs/a/last": A}, {"runs/a/last": C}),
        ({"runs/a/last": A}, {"runs/a/last": C}, {}),
        ({"runs/a/last": X}, {"runs/a/last": C}, Refused("runs/a/last", C, X)),
        # Heads go with the line: what the remote's best is must be known to it.
        (
            {"runs/a/last": C, "runs/a/best": A},
            {"runs/a/last": B, "runs/a/best": B},
            {"runs/a/last": C, "runs/a/best": A},
        ),
        ({"runs/a/last": C, "runs/a/best": A}, {"runs/a/last": C, "runs/a/best": B}, {"runs/a/best": A}),
        ({"runs/a/last": C, "runs/a/best": A}, {"runs/a/last": B, "runs/a/best": X}, Refused("runs/a/best", X, A)),
        # Of several that cannot, the one that people know a run by is named.
        (
            {"runs/a/last": X, "runs/a/best": X, "tags/v1": A},
            {"runs/a/last": C, "runs/a/best": C, "tags/v1": B},
            Refused("runs/a/last", C, X, others=2),
        ),
        ({"runs/a/last": A, "runs/a/best": A}, {"runs/a/last": C, "runs/a/best": B}, {}),
        ({"tags/v1": A}, {}, {"tags/v1": A}),
        ({"tags/v1": A}, {"tags/v1": A}, {}),
        ({"tags/v1": B}, {"tags/v1": A}, Refused("tags/v1", A, B)),
    ],
)
def test_fast_forward(ours, theirs, end) -> None:
    assert fast_forward(ours, theirs, LINE.leads) == end


def test_what_nobody_knows_is_no_ancestor() -> None:
    unknown = CommitId(ObjectId(bytes(32)))
    assert fast_forward({"runs/a/last": C}, {"runs/a/last": unknown}, LINE.leads) == Refused("runs/a/last", unknown, C)


def test_a_lease_moves_a_ref_only_from_where_it_is_expected() -> None:
    ours, theirs = {"runs/a/last": X, "runs/a/best": X}, {"runs/a/last": C, "runs/a/best": B}
    assert with_lease(ours, theirs, {"runs/a/last": C}) == ours
    assert with_lease(ours, theirs, {"runs/a/last": B}) == Refused("runs/a/last", C, X, B)
    assert with_lease(ours, {}, {"runs/a/last": None}) == ours
    assert with_lease(ours, {}, {"runs/a/last": C}) == Refused("runs/a/last", None, X, C)
    # What has arrived already, by an earlier try, is no loss.
    assert with_lease(ours, {"runs/a/last": X, "runs/a/best": B}, {"runs/a/last": C}) == {"runs/a/best": X}


def test_a_descendant_wins_and_leaves_no_conflict() -> None:
    assert joined({"runs/a/last": C}, {"runs/a/last": B}, LINE.order, LINE.leads) == {"runs/a/last": C}
    found = joined({"runs/a/last": C}, {"runs/a/last": Y}, LINE.order, LINE.leads)
    assert found == {"runs/a/last": Y, conflict_ref("runs/a/last", C): C}
    assert joined(found, {"runs/a/last": B}, LINE.order, LINE.leads) == found
